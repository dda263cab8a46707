"""A labelled image dataset, and what a source holds before most of it is read."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Int, Int32, Integer, Shaped

from ddpp_jax.data.checks import Pixels, checked_images, checked_labels, shape_words
from ddpp_jax.data.depth import Scale
from ddpp_jax.data.stored import ImageArray, Stored, part_of, transformed
from ddpp_jax.data.transforms import Transform, chunks
from ddpp_jax.errors import InputError

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
        train: images to train on, or all of them if there is no test set.
        test: images to test on, if the source has them.
        scale: what brought the pixels to the scale from 0 to 1, if anything did.
        notes: what was assumed of the source or left out of it, a line each, for people.
        files_fn: gives the files that all of it is read from; None where there are none.
    """

    name: str
    class_names: tuple[str, ...]
    shape: tuple[int, int, int]
    itemsize: int
    train: Part
    test: Part | None
    scale: Scale | None = None
    notes: tuple[str, ...] = ()
    files_fn: Callable[[], Iterable[Path]] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Train and test images: as they came, or normalised by numbers of the training set.

    Images as they came are uint8 from 0 to 255 or float32 from 0 to 1; normalised ones are float32
    and not to be written to. They are arrays, or are read when they are asked for (`Stored`).

    Attributes:
        name: for people and file names.
        class_names: a name for each label.
        x_train: training images.
        y_train: labels, 0 to classes - 1.
        x_test: test images.
        y_test: labels.
        fingerprint: changes with any pixel as it came, label or class name; 16 hexadecimal digits.
        x_held: training images that were kept apart; there may be none.
        y_held: labels.
        transform: what normalised the images; None if they are as they came.
        scale: what brought the pixels of the files to the scale from 0 to 1, if anything did.
        notes: what was assumed of the files or left out of them, a line each, for people.
        keep_fn: keeps the fingerprint of all of the data, whose making took the reading of all
            images; None where there is nothing to keep.
    """

    name: str
    class_names: tuple[str, ...]
    x_train: ImageArray
    y_train: Int32[np.ndarray, " train"]
    x_test: ImageArray
    y_test: Int32[np.ndarray, " test"]
    fingerprint: str
    x_held: ImageArray
    y_held: Int32[np.ndarray, " held"]
    transform: Transform | None = None
    scale: Scale | None = None
    notes: tuple[str, ...] = ()
    keep_fn: Callable[[], None] | None = None

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


def raw_dataset(
    *,
    name: str,
    class_names: tuple[str, ...],
    x_train: Shaped[np.ndarray, "..."] | Stored,
    y_train: Shaped[np.ndarray, "..."],
    x_test: Shaped[np.ndarray, "..."] | Stored,
    y_test: Shaped[np.ndarray, "..."],
    fingerprint: str | None = None,
) -> Dataset:
    """A checked dataset of images as they came.

    Images are square, (n, size, size, 1 or 3), of one shape and type: uint8 from 0 to 255, or
    floats from 0 to 1, which become float32. Labels are whole numbers from 0 to classes - 1; every
    class has a training image.

    Args:
        name: for people and file names.
        class_names: a name for each label.
        x_train: training images.
        y_train: their labels.
        x_test: test images.
        y_test: their labels.
        fingerprint: where it is known; None reads all images for it.

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
    if not isinstance(x_train, Stored):
        x_train = checked_images(x_train, f"the training images of {name}")
    if not isinstance(x_test, Stored):
        x_test = checked_images(x_test, f"the test images of {name}")
    if x_train.dtype != x_test.dtype:
        raise InputError(
            f"{name}: training images are {x_train.dtype}, test images {x_test.dtype}; "
            "wanted one type"
        )
    _, height, width, channels = x_train.shape
    if height != width:
        raise InputError(
            f"the images of {name} are {height}x{width}; wanted square ones: give --image-size, or "
            "--crop"
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
    if fingerprint is None:
        fingerprint = _fingerprint(class_names, x_train, y_train, x_test, y_test)
    return Dataset(
        name=name,
        class_names=class_names,
        x_train=x_train,
        y_train=y_train,
        x_test=x_test,
        y_test=y_test,
        fingerprint=fingerprint,
        x_held=part_of(x_train, np.arange(0)),
        y_held=y_train[:0],
    )


def held_out(
    raw: Dataset,
    kept: Int[np.ndarray, " kept"],
    held: Int[np.ndarray, " held"],
    *,
    fingerprint: str | None = None,
) -> Dataset:
    """The dataset with some of its training images, all of which it has yet, kept apart.

    Args:
        raw: images as they came.
        kept: which of them stay.
        held: which are kept apart.
        fingerprint: of what comes back, where it is known; None reads all images for it.
    """
    x_train, y_train = part_of(raw.x_train, kept), raw.y_train[kept]
    if fingerprint is None:
        fingerprint = _fingerprint(raw.class_names, x_train, y_train, raw.x_test, raw.y_test)
    return replace(
        raw,
        x_train=x_train,
        y_train=y_train,
        x_held=part_of(raw.x_train, held),
        y_held=raw.y_train[held],
        fingerprint=fingerprint,
    )


def restricted(raw: Dataset, kept: Int[np.ndarray, " kept"]) -> Dataset:
    """The dataset with some of its training images alone, as if there were no others.

    Args:
        raw: images as they came.
        kept: which of the training images, in any order.
    """
    x_train, y_train = part_of(raw.x_train, kept), raw.y_train[kept]
    return replace(
        raw,
        x_train=x_train,
        y_train=y_train,
        x_held=part_of(raw.x_held, np.arange(0)),
        y_held=raw.y_held[:0],
        fingerprint=_fingerprint(raw.class_names, x_train, y_train, raw.x_test, raw.y_test),
    )


def normalised(raw: Dataset, transform: Transform) -> Dataset:
    """The dataset with its images normalised by the transform."""
    return replace(
        raw,
        x_train=transformed(transform, raw.x_train),
        x_test=transformed(transform, raw.x_test),
        x_held=transformed(transform, raw.x_held),
        transform=transform,
    )


def at_indices(
    dataset: Dataset, train: Int[np.ndarray, " train"], held: Int[np.ndarray, " held"]
) -> Dataset:
    """The dataset with some of its training images and of those held out, in any order."""
    return replace(
        dataset,
        x_train=part_of(dataset.x_train, train),
        y_train=dataset.y_train[train],
        x_held=part_of(dataset.x_held, held),
        y_held=dataset.y_held[held],
    )


def of_classes(dataset: Dataset, classes: Sequence[int]) -> Dataset:
    """The dataset with some of its classes alone, labelled 0, 1, ... in the order given.

    Images stay as they are, so those that were normalised by numbers of all classes still are.

    Args:
        dataset: as it came, or normalised.
        classes: some of its labels, each once.

    Raises:
        InputError: one is none of its labels, or comes twice, or there are none.
    """
    wanted = [int(label) for label in classes]
    if (
        not wanted
        or len(set(wanted)) < len(wanted)
        or not set(wanted) <= set(range(dataset.classes))
    ):
        raise InputError(
            f"classes {wanted} of {dataset.name}; wanted some of 0 to {dataset.classes - 1}, each "
            "once"
        )
    places = np.full(dataset.classes, -1, np.int32)
    places[wanted] = np.arange(len(wanted))
    parts: dict[str, ImageArray] = {}
    for part in ("train", "test", "held"):
        labels = places[getattr(dataset, f"y_{part}")]
        parts[f"x_{part}"] = part_of(getattr(dataset, f"x_{part}"), labels >= 0)
        parts[f"y_{part}"] = labels[labels >= 0]
    names = tuple(dataset.class_names[label] for label in wanted)
    # What it is of the whole tells every pixel of it, and by which numbers it is normalised.
    fingerprint = _fingerprint(names, np.frombuffer(dataset.fingerprint.encode(), np.uint8))
    return replace(dataset, class_names=names, fingerprint=fingerprint, **parts)


def keep(raw: Dataset) -> None:
    """Keep what took the reading of all images, where that is asked for and was not kept before."""
    if raw.keep_fn is not None:
        raw.keep_fn()


def test_fingerprint(raw: Dataset) -> str:
    """Sixteen hexadecimal digits that change with any test image or label, or class name."""
    return _fingerprint(raw.class_names, raw.x_test, raw.y_test)


def _fingerprint(class_names: tuple[str, ...], *arrays: Shaped[np.ndarray, "..."] | Stored) -> str:
    digest = hashlib.sha256(repr(class_names).encode())
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        for chunk in chunks(array):
            digest.update(np.ascontiguousarray(array[chunk]).data)
    return digest.hexdigest()[:16]
