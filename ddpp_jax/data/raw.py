"""Labelled images as they are in a source, before they are normalised."""

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeAlias

import numpy as np
import psutil
from jaxtyping import Float32, Int, Int32, Integer, Shaped, UInt8

from ddpp_jax.data.depth import Scale
from ddpp_jax.errors import InputError
from ddpp_jax.storage import gib

Pixels: TypeAlias = (
    UInt8[np.ndarray, "images _height _width _channels"]
    | Float32[np.ndarray, "images _height _width _channels"]
)
"""Images: whole numbers from 0 to 255, or floats from 0 to 1."""

Indices: TypeAlias = Int[np.ndarray, " chosen"]


class Part(NamedTuple):
    """Labelled images that are not read yet.

    Attributes:
        length: how many.
        labels: all their labels.
        read: the images at ascending indices, in the shape that the source promises, and their
            labels.
    """

    length: int
    labels: Callable[[], Integer[np.ndarray, " images"]]
    read: Callable[[Indices], tuple[Pixels, Integer[np.ndarray, " chosen"]]]


class Source(NamedTuple):
    """What a source holds, before most of it is read.

    Attributes:
        name: for people and file names.
        class_names: a name for each label.
        shape: height, width and channels of an image as it will be read.
        itemsize: bytes in a pixel's channel as it will be read.
        train: images to train on, or all of them where there is no test set.
        test: images to test on, if the source has them.
        scale: what brought the pixels to the scale from 0 to 1, if they did not have it.
        notes: what was assumed of the source or left out of it, a line each, for people.
    """

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    itemsize: int
    train: Part
    test: Part | None
    scale: Scale | None = None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True, eq=False)
class RawDataset:
    """Train and test images as they are, uint8 from 0 to 255 or float32 from 0 to 1.

    Attributes:
        name: for people and file names.
        class_names: a name for each label.
        x_train: training images.
        y_train: labels, 0 to classes - 1.
        x_test: test images.
        y_test: labels.
        fingerprint: changes with any pixel, label or class name; 16 hexadecimal digits.
        x_held: training images that were kept apart; there may be none.
        y_held: labels.
        scale: what brought the pixels of its files to the scale from 0 to 1, if something did.
        notes: what was assumed of its files or left out of them, a line each, for people.
    """

    name: str
    class_names: tuple[str, ...]
    x_train: (
        UInt8[np.ndarray, "train size size channels"]
        | Float32[np.ndarray, "train size size channels"]
    )
    y_train: Int32[np.ndarray, " train"]
    x_test: (
        UInt8[np.ndarray, "test size size channels"]
        | Float32[np.ndarray, "test size size channels"]
    )
    y_test: Int32[np.ndarray, " test"]
    fingerprint: str
    x_held: (
        UInt8[np.ndarray, "held size size channels"]
        | Float32[np.ndarray, "held size size channels"]
    )
    y_held: Int32[np.ndarray, " held"]
    scale: Scale | None = None
    notes: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


def raw_dataset(
    *,
    name: str,
    class_names: tuple[str, ...],
    x_train: Shaped[np.ndarray, "..."],
    y_train: Shaped[np.ndarray, "..."],
    x_test: Shaped[np.ndarray, "..."],
    y_test: Shaped[np.ndarray, "..."],
) -> RawDataset:
    """A checked dataset from images and labels.

    Args:
        name: for people and file names.
        class_names: a name for each label.
        x_train: square images (n, size, size, channels); uint8 from 0 to 255, or floats from 0 to
            1, which become float32.
        y_train: whole numbers from 0 to classes - 1; every class is there.
        x_test: likewise, of the same shape.
        y_test: likewise; classes may be missing.

    Raises:
        InputError: something is not so.
    """
    if len(class_names) < 2:
        raise InputError(f"{name} has {len(class_names)} class; wanted at least 2")
    if x_train.shape[1:] != x_test.shape[1:]:
        raise InputError(
            f"{name}: training images are {shape_words(x_train.shape[1:])}, test images "
            f"{shape_words(x_test.shape[1:])}; wanted one shape"
        )
    x_train = checked_images(x_train, f"the training images of {name}")
    x_test = checked_images(x_test, f"the test images of {name}")
    if x_train.dtype != x_test.dtype:
        raise InputError(
            f"{name}: training images are {x_train.dtype}, test images {x_test.dtype}; "
            "wanted one type"
        )
    _, height, width, channels = x_train.shape
    if height != width:
        raise InputError(
            f"the images of {name} are {height}x{width}; wanted square ones: give --image-size"
        )
    if channels not in (1, 3):
        raise InputError(f"the images of {name} have {channels} channels; wanted 1 or 3")
    classes = len(class_names)
    y_train = checked_labels(y_train, x_train, f"the training labels of {name}", classes)
    y_test = checked_labels(y_test, x_test, f"the test labels of {name}", classes)
    counts = np.bincount(y_train, minlength=classes)
    if not counts.all():
        empty = class_names[int(np.argmin(counts))]
        raise InputError(f"{name}: class {empty} has no training image; add some or remove it")
    return RawDataset(
        name=name,
        class_names=class_names,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        fingerprint=_fingerprint(class_names, x_train, y_train, x_test, y_test),
        x_held=x_train[:0],
        y_held=y_train[:0],
    )


def held_out(
    raw: RawDataset, kept: Int[np.ndarray, " kept"], held: Int[np.ndarray, " held"]
) -> RawDataset:
    """The dataset with some of its training images kept apart.

    Args:
        raw: with none kept apart yet.
        kept: indices of those that stay.
        held: of the others.
    """
    x_train, y_train = raw.x_train[kept], raw.y_train[kept]
    return replace(
        raw,
        x_train=x_train,
        y_train=y_train,
        x_held=raw.x_train[held],
        y_held=raw.y_train[held],
        fingerprint=_fingerprint(raw.class_names, x_train, y_train, raw.x_test, raw.y_test),
    )


def test_fingerprint(raw: RawDataset) -> str:
    """Sixteen hexadecimal digits that change with any test image or label, or class name."""
    return _fingerprint(raw.class_names, raw.x_test, raw.y_test)


def checked_images(images: Shaped[np.ndarray, "..."], what: str) -> Pixels:
    """The images, floats as float32.

    Args:
        images: uint8 from 0 to 255, or floats from 0 to 1; (n, height, width, channels).
        what: names them in a message.

    Raises:
        InputError: they are not so, or there are none.
    """
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise InputError(f"{what} are {images.dtype}; wanted uint8 from 0 to 255 or floats 0 to 1")
    if images.ndim != 4:
        raise InputError(f"{what} are of shape {images.shape}; wanted (n, height, width, channels)")
    if images.size == 0:
        raise InputError(f"{what} are of shape {images.shape}; wanted at least one image")
    if images.dtype == np.uint8:
        return images
    low, high = float(images.min()), float(images.max())  # NaN if any pixel is
    if not np.isfinite([low, high]).all():
        raise InputError(f"{what} hold NaN or infinite pixels; wanted 0 to 1")
    if low < 0 or high > 1:
        raise InputError(
            f"{what} are floats from {low:g} to {high:g}; wanted 0 to 1: divide them, "
            "or give uint8 from 0 to 255"
        )
    return images.astype(np.float32, copy=False)


def checked_labels(
    labels: Shaped[np.ndarray, "..."],
    images: Shaped[np.ndarray, "..."],
    what: str,
    classes: int | None = None,
) -> Int32[np.ndarray, " images"]:
    """The labels as int32.

    Args:
        labels: whole numbers, one for each image.
        images: what they belong to.
        what: names them in a message.
        classes: labels are below this; none leaves it open.

    Raises:
        InputError: they are not so.
    """
    if labels.dtype.kind not in "iu":
        raise InputError(f"{what} are {labels.dtype}; wanted whole numbers")
    if labels.shape != images.shape[:1]:
        raise InputError(
            f"{what} are of shape {labels.shape} for {len(images)} images; wanted one for each"
        )
    limit = np.iinfo(np.int32).max if classes is None else classes
    wrong = labels[(labels < 0) | (labels >= limit)]
    if len(wrong):
        wanted = "0 or more" if classes is None else f"0 to {classes - 1}"
        raise InputError(f"{what} hold {wrong[0]}; wanted {wanted}")
    return labels.astype(np.int32)


def require_memory(needed: int, *, what: str, remedy: str) -> None:
    """Refuse to begin where less memory is free than is needed.

    Args:
        needed: bytes.
        what: what needs them, in the plural, for the message.
        remedy: what to do about it.

    Raises:
        InputError: less is free.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{what} need {gib(float(needed))} of memory, {gib(float(free))} are free; {remedy}"
        )


def shape_words(shape: tuple[int, ...]) -> str:
    """A shape for a person, such as 32x32x3."""
    return "x".join(map(str, shape))


def _fingerprint(class_names: tuple[str, ...], *arrays: Shaped[np.ndarray, "..."]) -> str:
    digest = hashlib.sha256(repr(class_names).encode())
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
