"""Small labelled sets as other programs write them: .npz, safetensors, .pt, folders of images."""

from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32, Int32, Shaped, UInt8

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.carried import LAYOUT, ZcaProbe, carried_transform, is_channels_first
from ddpp_jax.data.dataset import Transform, agrees, unit
from ddpp_jax.data.depth import EIGHT_BITS, Scale, to_unit
from ddpp_jax.data.npz import class_names_of, read_npz
from ddpp_jax.data.picture_sets import read_pictures
from ddpp_jax.data.raw import Pixels, checked_images, checked_labels
from ddpp_jax.data.safetensors_files import read_safetensors
from ddpp_jax.data.torch_files import SUFFIXES, images_file, torch_set
from ddpp_jax.errors import InputError
from ddpp_jax.storage import plain_file

Hard: TypeAlias = Int32[np.ndarray, " images"]
"""A class for each image."""

Soft: TypeAlias = Float32[np.ndarray, "images classes"]
"""A row with the probability of each class, for each image."""

_RATES = ("alpha", "lr")
_SUM = 1e-3
"""How far the probabilities of an image may be from 1 together."""


class GivenSet(NamedTuple):
    """Images and labels as they were given.

    Attributes:
        images: pixels, or normalised already.
        labels: a class for each image, or a row with the probability of each class.
        alpha: the learning rate that came with them, if one did.
        class_names: a name for each label, if there are any.
        normalised: whether the images are as networks see them, as was promised or as the file
            says; they are pixels otherwise.
        transform: what made such images of pixels, or is to do so, as the file says; None where it
            says nothing. A folder of pictures that were whitened says which whitening it was, and
            does not hold it.
        pixels: the images as they look, where the file holds them too.
        note: what was assumed of the images; empty where nothing was.
    """

    images: Pixels
    labels: Hard | Soft
    alpha: float | None
    class_names: tuple[str, ...] | None
    normalised: bool = False
    transform: Transform | ZcaProbe | None = None
    pixels: Pixels | None = None
    note: str = ""


def read_given(
    path: Path, config: DataConfig, *, normalised: bool, scale: Scale | None = None
) -> GivenSet:
    """The set of a file or a folder.

    A file holds `images`, (n, height, width, channels) or PyTorch's (n, channels, height, width),
    and `labels`: whole numbers, or a row of probabilities for each image; and maybe a learning
    rate, `alpha` or `lr`, `class_names`, and the transform that made the images: `mean` and `std`,
    or `zca_mean` and `zca_matrix`. Nothing is unpickled but tensors. A folder holds CLASS/* with
    PNG, JPEG and the like, and maybe `range.json` (see `read_pictures`); or it holds the files of
    one tensor each that MTT and DD-Ranking have.

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
        found = read_pictures(path, config, scale)
        return GivenSet(
            found.images,
            found.labels,
            found.alpha,
            found.class_names,
            transform=found.transform,
        )
    plain_file(path)
    if path.suffix == ".npz":
        arrays = read_npz(path)
    elif path.suffix == ".safetensors":
        arrays = read_safetensors(path)
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
    carries = any(name in arrays for name in ("mean", "std", "zca_mean", "zca_matrix"))
    note = ""
    if carries and not seen and found.dtype.kind == "f" and found.size:
        seen = not (found.min() >= 0 and found.max() <= 1)
        if not seen:
            note = "its images lie between 0 and 1, and are taken as pixels not yet transformed"
    images = given_images(found, what, normalised=seen, channels_first=first)
    if images.dtype == np.uint8 and scale is not None and scale.kind == EIGHT_BITS:
        images = to_unit(images, scale)
    transform = carried_transform(arrays, images.shape[1:], str(path), channels_first=first)
    pixels = None
    if "pixels" in arrays:
        pixels = _pixels(path, arrays["pixels"], images, channels_first=first)
        if transform is not None and not agrees(transform, pixels, images):
            raise InputError(
                f"{path} holds images that are not its pixels under its own transform; it is "
                "damaged, or an earlier version wrote it with --channels-first: export it again"
            )
    names = class_names_of(path, arrays["class_names"]) if "class_names" in arrays else None
    labels = given_labels(arrays["labels"], images, f"{path}: labels")
    if labels.ndim == 2 and names is not None and labels.shape[1] != len(names):
        raise InputError(
            f"{path} has {labels.shape[1]} probabilities for each image and {len(names)} "
            "class_names; wanted as many"
        )
    return GivenSet(images, labels, _alpha(path, arrays), names, seen, transform, pixels, note)


def _pixels(
    path: Path,
    pixels: Shaped[np.ndarray, "..."],
    images: Pixels,
    *,
    channels_first: bool,
) -> Pixels:
    """The images as they look, beyond black and white or not."""
    if pixels.dtype == np.uint8:
        pixels = unit(pixels)
    pixels = given_images(pixels, f"{path}: pixels", normalised=True, channels_first=channels_first)
    if pixels.shape != images.shape:
        raise InputError(
            f"{path} holds pixels of shape {pixels.shape} for images of {images.shape}; wanted one "
            "shape"
        )
    return pixels


def require_learnable(labels: Hard | Soft, classes: int, what: str) -> None:
    """Refuse labels that do not fit the classes, or that nothing can be learnt from.

    Args:
        labels: a class for each image, or a row with the probability of each class.
        classes: how many there are.
        what: names the set in a message.

    Raises:
        InputError: a label is beyond the classes, a row has another length, or all images are of
            one class.
    """
    if labels.ndim == 2:
        if labels.shape[1] != classes:
            raise InputError(
                f"{what} has {labels.shape[1]} probabilities for each image, but there are "
                f"{classes} classes; give the --setting or --dataset that it was made from"
            )
        found = np.flatnonzero((labels > 0).any(axis=0))
    else:
        found = np.unique(labels)
        if found[0] < 0 or found[-1] >= classes:
            wrong = found[0] if found[0] < 0 else found[-1]
            raise InputError(f"{what} has label {wrong}; wanted 0 to {classes - 1}")
    if len(found) == 1:
        raise InputError(
            f"{what} holds images of one class only, number {found[0]}; nothing can be learnt from "
            "that: wanted two classes or more"
        )


def given_images(
    images: Shaped[np.ndarray, "..."],
    what: str,
    *,
    normalised: bool,
    channels_first: bool | None = None,
) -> Float32[np.ndarray, "..."] | UInt8[np.ndarray, "..."]:
    """Images with their channels last: pixels, or any numbers where they are normalised.

    Args:
        images: as they were given.
        what: names them in a message.
        normalised: whether they may be any numbers.
        channels_first: whether their second axis holds the channels; None goes by the shape.

    Raises:
        InputError: they are not so, or there are none.
    """
    if channels_first is None:
        channels_first = is_channels_first(images, None, what)
    if channels_first and images.ndim == 4:
        images = np.ascontiguousarray(np.moveaxis(images, 1, 3))
    elif images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[3] not in (1, 3):
        raise InputError(
            f"{what} are of shape {images.shape}; wanted (n, height, width, channels) with 1 or 3 "
            "channels"
        )
    if not normalised:
        try:
            return checked_images(images, what)
        except InputError as error:
            if "are floats from" not in str(error):
                raise
            raise InputError(f"{error}; or give --normalised if that is what they are") from None
    if images.dtype.kind != "f":
        raise InputError(f"{what} are {images.dtype}; wanted floats, since they are normalised")
    if images.size == 0:
        raise InputError(f"{what} are of shape {images.shape}; wanted at least one image")
    with np.errstate(over="ignore"):
        floats = images.astype(np.float32)
    if not np.isfinite(floats).all():
        raise InputError(f"{what} hold NaN or infinite pixels, or some beyond float32")
    return floats


def given_labels(
    labels: Shaped[np.ndarray, "..."], images: Shaped[np.ndarray, "..."], what: str
) -> Hard | Soft:
    """Labels as int32, or rows of probabilities as float32.

    Raises:
        InputError: there is not one for each image, or they are neither.
    """
    if labels.ndim == 2 and labels.shape[1] == 1:
        labels = labels[:, 0]
    if labels.dtype.kind != "f" and labels.ndim == 1:
        return checked_labels(labels, images, what)
    if labels.dtype.kind != "f" or labels.ndim != 2 or len(labels) != len(images):
        raise InputError(
            f"{what} are {labels.dtype} of shape {labels.shape}; wanted an integer, or "
            f"a row of probabilities as floats, for each of {len(images)} images"
        )
    sums = labels.sum(axis=1, dtype=np.float64)
    if not (labels >= 0).all() or not (np.abs(sums - 1) <= _SUM).all():
        raise InputError(
            f"{what} are rows of {labels.shape[1]} numbers that are no probabilities; "
            "wanted 0 or more, and 1 together: of logits give the softmax"
        )
    return labels.astype(np.float32)


def _alpha(path: Path, arrays: dict[str, Shaped[np.ndarray, "..."]]) -> float | None:
    if all(name in arrays for name in _RATES):
        raise InputError(f"{path} holds both {' and '.join(_RATES)}; wanted one of them")
    for name in _RATES:
        if name in arrays:
            values = arrays[name]
            most = float(np.finfo(np.float32).max)
            if values.size != 1 or values.dtype.kind != "f" or not 0 < values.item() < most:
                raise InputError(f"{path}: {name} is not one finite number above 0")
            return float(values.item())
    return None
