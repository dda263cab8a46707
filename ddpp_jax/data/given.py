"""Small labelled sets as other programs write them: .npz, safetensors, .pt, folders of images."""

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
from jaxtyping import Shaped

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.arrays import class_names_of, read_npz
from ddpp_jax.data.carried import (
    LAYOUT,
    TRANSFORM_NAMES,
    ZcaProbe,
    carried_transform,
    from_small_record,
)
from ddpp_jax.data.checks import Hard, Pixels, Soft, given_images, given_labels, is_channels_first
from ddpp_jax.data.depth import EIGHT_BITS, FLOATS, Scale, to_unit
from ddpp_jax.data.folder import folder_source
from ddpp_jax.data.torch_files import SUFFIXES, images_file, torch_set
from ddpp_jax.data.transforms import Transform, agrees, unit
from ddpp_jax.errors import InputError
from ddpp_jax.storage import (
    DIGEST,
    decode_json,
    load_tensors,
    plain_file,
    read_json,
    read_tensors,
    require_kind,
)
from ddpp_jax.text import checked_names

EXPORT_FORMAT = "ddpp-jax export 1"
"""The key of the metadata of an exported safetensors file: class names and layout, as JSON."""

RANGE_FILE = "range.json"
"""Beside the classes of a folder: which pixels the 0 and the 255 of its images stand for, and what
else is known of the set."""

_RATES = ("alpha", "lr")
_LARGEST = float(np.finfo(np.float32).max)


class GivenSet(NamedTuple):
    """Images and labels as they were given.

    Attributes:
        images: pixels, or normalised already.
        labels: a class for each image, or a row with the probability of each class.
        alpha: the learning rate that came with them, if one did.
        class_names: a name for each label, if there are any.
        normalised: whether the images are as networks see them, as was promised or as the file
            says; they are pixels otherwise.
        transform: what made such images of pixels, or is to do so, as the file says; None if it
            says nothing. A folder of pictures that were whitened says which whitening it was, and
            does not hold it.
        pixels: the images as they look, if the file holds them too.
        note: what was assumed of the images; empty if nothing was.
    """

    images: Pixels
    labels: Hard | Soft
    alpha: float | None
    class_names: tuple[str, ...] | None
    normalised: bool = False
    transform: Transform | ZcaProbe | None = None
    pixels: Pixels | None = None
    note: str = ""


class _Range(TypedDict):
    low: float
    high: float
    lr: NotRequired[float]
    classes: NotRequired[dict[str, str]]


def read_given(
    path: Path, config: DataConfig, *, normalised: bool, scale: Scale | None = None
) -> GivenSet:
    """The set of a file or a folder.

    A file holds `images`, (n, height, width, channels) or PyTorch's (n, channels, height, width),
    and `labels`: whole numbers, or a row of probabilities for each image; and maybe a learning
    rate, `alpha` or `lr`, `class_names`, and the transform that made the images: `mean` and `std`,
    `zca_mean` and `zca_matrix`, or those of `Contrast`. Nothing is unpickled but tensors. A folder
    holds CLASS/* with PNG, JPEG and the like, and maybe `range.json`; or it holds the files of one
    tensor each that MTT and DD-Ranking have.

    In `range.json`, `low` and `high` are the pixels that 0 and 255 stand for, in place of 0 and 1;
    `lr` is a learning rate; `classes` has the true names of the classes by folder, in the order of
    the labels; `transform` is the transform. All but the first two may be missing.

    Args:
        path: ending in .npz, .safetensors, .pt or .pth, or a folder.
        config: the channels and the size that a folder's images are brought to.
        normalised: whether the images of a file may be any numbers; otherwise they are pixels,
            uint8 from 0 to 255 or floats from 0 to 1, unless the file says that they are not.
        scale: of the pixels of the data that the set was made from, which its own pixels share.

    Raises:
        InputError: it is not so, is damaged, or is of another kind.
    """
    if path.is_dir():
        tensors = images_file(path)
        if tensors is not None:
            return _from_arrays(tensors, torch_set(tensors), normalised=True, scale=scale)
        if normalised:
            raise InputError(
                f"{path} is a folder of pictures, whose pixels are not normalised; leave "
                "--normalised out for it"
            )
        return _from_pictures(path, config, scale)
    plain_file(path)
    if path.suffix == ".npz":
        arrays = read_npz(path)
    elif path.suffix == ".safetensors":
        arrays = _safetensors(path)
    elif path.suffix in SUFFIXES:
        arrays = torch_set(path)
        images = arrays.get("images")
        # No pixel is below 0; PyTorch's programs keep images as their networks see them.
        normalised |= images is not None and images.dtype.kind == "f" and bool((images < 0).any())
    else:
        raise InputError(
            f"{path} is of no kind known here; wanted .npz, .safetensors, .pt or a folder"
        )
    return _from_arrays(path, arrays, normalised=normalised, scale=scale)


def _safetensors(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Every tensor of a file as an array, and the class names and the layout of its metadata."""
    arrays, entries = load_tensors(path)
    if DIGEST in entries.get(EXPORT_FORMAT, ""):  # Earlier versions wrote none.
        read_tensors(path, kind=EXPORT_FORMAT)
    try:
        about = decode_json(entries.get(EXPORT_FORMAT, "{}"))
        if "class_names" in entries:
            about["class_names"] = decode_json(entries["class_names"])
        texts = {n: np.asarray(about[n]) for n in ("class_names", LAYOUT) if n in about}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: its metadata are damaged: {error}") from error
    return texts | arrays


def _from_arrays(
    path: Path,
    arrays: dict[str, Shaped[np.ndarray, "..."]],
    *,
    normalised: bool,
    scale: Scale | None,
) -> GivenSet:
    for name in ("images", "labels"):
        if name not in arrays:
            held = ", ".join(sorted(arrays)) or "nothing"
            raise InputError(f"{path} has no {name}; wanted images and labels, it holds {held}")
    what, found = f"{path}: images", arrays["images"]
    first = is_channels_first(found, arrays.get(LAYOUT), what)
    # An export has the images as they look, too.
    seen = normalised or "pixels" in arrays
    note = ""
    carries = any(name in arrays for name in TRANSFORM_NAMES)
    if carries and not seen and found.dtype.kind == "f" and found.size:
        seen = not (found.min() >= 0 and found.max() <= 1)
        if not seen:
            note = "its images lie between 0 and 1, and are taken as pixels not yet transformed"
    images = given_images(found, what, normalised=seen, channels_first=first)
    if images.dtype == np.uint8 and scale is not None and scale.kind == EIGHT_BITS:
        images = to_unit(images, scale)
    transform = carried_transform(arrays, images.shape[1:], str(path), channels_first=first)
    pixels = arrays.get("pixels")
    if pixels is not None:
        pixels = unit(pixels) if pixels.dtype == np.uint8 else pixels
        pixels = given_images(pixels, f"{path}: pixels", normalised=True, channels_first=first)
        if pixels.shape != images.shape:
            raise InputError(
                f"{path} holds pixels of shape {pixels.shape} for images of {images.shape}; wanted "
                "one shape"
            )
        if transform is not None and not agrees(transform, pixels, images):
            raise InputError(
                f"{path} holds images that are not its pixels under its own transform; it is "
                "damaged, or an earlier version wrote it with --channels-first: export it again"
            )
    names = class_names_of(path, arrays)
    labels = given_labels(arrays["labels"], images, f"{path}: labels")
    if labels.ndim == 2 and names is not None and labels.shape[1] != len(names):
        raise InputError(
            f"{path} has {labels.shape[1]} probabilities for each image and {len(names)} "
            "class_names; wanted as many"
        )
    return GivenSet(images, labels, _alpha(path, arrays), names, seen, transform, pixels, note)


def _alpha(path: Path, arrays: dict[str, Shaped[np.ndarray, "..."]]) -> float | None:
    names = [name for name in _RATES if name in arrays]
    if len(names) > 1:
        raise InputError(f"{path} holds both {' and '.join(names)}; wanted one of them")
    for name in names:
        values = arrays[name]
        if values.size != 1 or values.dtype.kind != "f" or not 0 < values.item() < _LARGEST:
            raise InputError(f"{path}: {name} is not one finite number above 0")
        return float(values.item())
    return None


def _from_pictures(path: Path, config: DataConfig, scale: Scale | None) -> GivenSet:
    file = path / RANGE_FILE
    said = _range(file) if file.exists() else None
    source = folder_source(
        path,
        replace(config, range=None),
        scale=scale if said is None else None,
        classes_only=said is not None and "classes" in said,
    )
    if source.test is not None:
        raise InputError(f"{path} holds train and test; name {path / 'train'}")
    if source.scale not in (None, scale, Scale(FLOATS, 0.0, 1.0)):
        raise InputError(
            f"the images of {path} are {source.scale.kind}, and nothing says which of their pixels "
            f"are black and white; wanted {EIGHT_BITS} ones, or those of the data: convert them"
        )
    images, labels = source.train.read(np.arange(source.train.length))
    labels, names = labels.astype(np.int32), source.class_names
    if said is None:
        return GivenSet(images, labels, None, names)
    low, high = said["low"], said["high"]
    if (low, high) != (0.0, 1.0):
        images = low + unit(images) * np.float32(high - low)
    if "classes" in said:
        places = {unicodedata.normalize("NFC", name): n for n, name in enumerate(said["classes"])}
        strange = [name for name in names if name not in places]
        if strange:
            raise InputError(
                f"{file} names no class for the folder {strange[0]}; rename it as it was, or "
                f"delete {file}"
            )
        labels = np.array([places[name] for name in names], np.int32)[labels]
        names = tuple(said["classes"].values())
    transform = said["transform"]
    if transform is not None:
        what = f"{file}: transform is damaged"
        transform = from_small_record(transform, source.shape, what)
    return GivenSet(images, labels, said["lr"], names, transform=transform)


def _range(path: Path) -> dict[str, Any]:
    """What `range.json` says: low, high, lr or None, transform or None, and classes if there."""
    found = read_json(plain_file(path))
    try:
        require_kind(found, _Range)
        low, high = float(found["low"]), float(found["high"])
        rate = float(found["lr"]) if "lr" in found else None
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path} is damaged: {error}; wanted low and high, numbers, and maybe lr and classes"
        ) from error
    if not -_LARGEST < low < high < _LARGEST:
        raise InputError(f"{path} has low {low:g} and high {high:g}; wanted low below high")
    if rate is not None and not 0 < rate < _LARGEST:
        raise InputError(f"{path} has lr {rate:g}; wanted a finite number above 0")
    said = {"low": low, "high": high, "lr": rate, "transform": found.get("transform")}
    if "classes" in found:
        names = checked_names([*found["classes"].values()], str(path))
        said["classes"] = dict(zip(found["classes"], names, strict=True))
    return said
