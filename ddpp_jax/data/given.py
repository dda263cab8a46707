"""Small labelled sets as other programs write them: .npz, safetensors, or a folder of images."""

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import safetensors
from jaxtyping import Float32, Int32, Shaped, UInt8

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.dataset import unit
from ddpp_jax.data.depth import EIGHT_BITS, FLOATS, Scale
from ddpp_jax.data.folder import folder_source
from ddpp_jax.data.npz import class_names_of, read_npz
from ddpp_jax.data.raw import Pixels, checked_images, checked_labels
from ddpp_jax.errors import InputError
from ddpp_jax.files import plain_file, read_json
from ddpp_jax.text import checked_names

Hard: TypeAlias = Int32[np.ndarray, " images"]
"""A class for each image."""

Soft: TypeAlias = Float32[np.ndarray, "images classes"]
"""A row with the probability of each class, for each image."""

RANGE_FILE = "range.json"
"""Beside the classes of a folder: which pixels the 0 and the 255 of its images stand for."""

_RATES = ("alpha", "lr")
_SUM = 1e-3
"""How far the probabilities of an image may be from 1 together."""


class GivenSet(NamedTuple):
    """Images and labels as they were given.

    Attributes:
        images: pixels, or, if that is what was promised, normalised already.
        labels: a class for each image, or a row with the probability of each class.
        alpha: the learning rate that came with them, if one did.
        class_names: a name for each label, if there are any.
        normalised: whether the images are as networks see them, as was promised or as an export of
            this program is.
    """

    images: Pixels
    labels: Hard | Soft
    alpha: float | None
    class_names: tuple[str, ...] | None
    normalised: bool = False


def read_given(
    path: Path, config: DataConfig, *, normalised: bool, scale: Scale | None = None
) -> GivenSet:
    """The set of a file or a folder.

    A file holds `images`, (n, height, width, channels) or PyTorch's (n, channels, height, width),
    and `labels`: whole numbers, or a row of probabilities for each image; and maybe a learning
    rate, `alpha` or `lr`, and, in an .npz, `class_names`. Nothing is unpickled. A folder holds
    CLASS/* with PNG, JPEG and the like; where `range.json` beside them has `low` and `high`, those
    are the pixels that 0 and 255 stand for, in place of 0 and 1, `lr` is a learning rate, and
    `classes` has the true names of the classes by folder, in the order of the labels.

    Args:
        path: ending in .npz or .safetensors, or a folder.
        config: the channels and the size that a folder's images are brought to.
        normalised: whether the images of a file may be any numbers; otherwise they are pixels,
            uint8 from 0 to 255 or floats from 0 to 1.
        scale: of the pixels of the data that the set was made from, which those of a folder share.

    Raises:
        InputError: it is not so, is damaged, or is of another kind.
    """
    if path.is_dir():
        return _folder(path, config, scale)
    plain_file(path)
    if path.suffix == ".npz":
        arrays = read_npz(path)
    elif path.suffix == ".safetensors":
        arrays = _read_safetensors(path)
    else:
        raise InputError(f"{path} is of no kind known here; wanted .npz, .safetensors or a folder")
    for name in ("images", "labels"):
        if name not in arrays:
            held = ", ".join(sorted(arrays)) or "nothing"
            raise InputError(f"{path} has no {name}; wanted images and labels, it holds {held}")
    # An export has the images as they look, too.
    normalised = normalised or "pixels" in arrays
    images = given_images(arrays["images"], f"{path}: images", normalised=normalised)
    names = class_names_of(path, arrays["class_names"]) if "class_names" in arrays else None
    labels = given_labels(arrays["labels"], images, f"{path}: labels")
    if labels.ndim == 2 and names is not None and labels.shape[1] != len(names):
        raise InputError(
            f"{path} has {labels.shape[1]} probabilities for each image and {len(names)} "
            "class_names; wanted as many"
        )
    return GivenSet(images, labels, _alpha(path, arrays), names, normalised)


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


def _folder(path: Path, config: DataConfig, scale: Scale | None) -> GivenSet:
    ends = path / RANGE_FILE
    said = _range(ends) if ends.exists() else None
    source = folder_source(
        path,
        replace(config, range=None),
        scale=scale if said is None else None,
        classes_only=said is not None and said.classes is not None,
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
    low, high, alpha, classes = said
    if (low, high) != (0.0, 1.0):
        images = low + unit(images) * np.float32(high - low)
    if classes is not None:
        labels, names = _true_classes(ends, labels, names, classes)
    return GivenSet(images, labels, alpha, names)


def _true_classes(
    path: Path, labels: Hard, folders: tuple[str, ...], classes: dict[str, str]
) -> tuple[Hard, tuple[str, ...]]:
    """Labels in the order of the true names of the classes, and these, by those of the folders."""
    places = {unicodedata.normalize("NFC", name): n for n, name in enumerate(classes)}
    strange = [name for name in folders if name not in places]
    if strange:
        raise InputError(
            f"{path} names no class for the folder {strange[0]}; rename it as it was, or delete "
            f"{path}"
        )
    return np.array([places[n] for n in folders], np.int32)[labels], tuple(classes.values())


class _Range(NamedTuple):
    """What is said of the images beside it: the ends of their eight bits, and what they are."""

    low: float
    high: float
    alpha: float | None
    classes: dict[str, str] | None


def _range(path: Path) -> _Range:
    """What `range.json` says; `classes` has the true name of the class of each folder, in order."""
    try:
        found = read_json(plain_file(path))
        low, high = float(found["low"]), float(found["high"])
        alpha = float(found["lr"]) if "lr" in found else None
        classes = found.get("classes")
        if classes is not None and not all(isinstance(name, str) for name in classes.values()):
            raise TypeError
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(
            f"{path} is damaged; wanted low and high, two numbers, and maybe lr and classes"
        ) from error
    if not -np.inf < low < high < np.inf:
        raise InputError(f"{path} has low {low:g} and high {high:g}; wanted low below high")
    if classes is not None:
        true = checked_names([*classes.values()], str(path))
        classes = dict(zip(classes, true, strict=True))
    return _Range(low, high, alpha, classes)


def _read_safetensors(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}
    except (OSError, safetensors.SafetensorError, TypeError, ValueError) as error:
        raise InputError(f"{path} cannot be read as safetensors: {error}") from error


def given_images(
    images: Shaped[np.ndarray, "..."], what: str, *, normalised: bool
) -> Float32[np.ndarray, "..."] | UInt8[np.ndarray, "..."]:
    """Images with their channels last: pixels, or any numbers where they are normalised.

    Raises:
        InputError: they are not so, or there are none.
    """
    if images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3):
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
    if not np.isfinite(images).all():
        raise InputError(f"{what} hold NaN or infinite pixels")
    return images.astype(np.float32)


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
            "wanted 0 or more, and 1 together"
        )
    return labels.astype(np.float32)


def _alpha(path: Path, arrays: dict[str, Shaped[np.ndarray, "..."]]) -> float | None:
    if all(name in arrays for name in _RATES):
        raise InputError(f"{path} holds both {' and '.join(_RATES)}; wanted one of them")
    for name in _RATES:
        if name in arrays:
            values = arrays[name]
            if values.size != 1 or values.dtype.kind != "f" or not 0 < values.item() < np.inf:
                raise InputError(f"{path}: {name} is not one finite number above 0")
            return float(values.item())
    return None
