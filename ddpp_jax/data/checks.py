"""Images and labels from outside: what is accepted, and what is refused by name.

Everywhere `what` names them in an error.
"""

from typing import Any, Protocol, TypeAlias, runtime_checkable

import numpy as np
import psutil
from jaxtyping import Float32, Int32, Shaped, UInt8

from ddpp_jax.errors import InputError
from ddpp_jax.storage import gib

Pixels: TypeAlias = (
    UInt8[np.ndarray, "images _height _width _channels"]
    | Float32[np.ndarray, "images _height _width _channels"]
)
"""Images: whole numbers from 0 to 255, or floats from 0 to 1."""


@runtime_checkable
class ByIndex(Protocol):
    """An array, or what is read by index as one."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Images first."""
        ...

    @property
    def ndim(self) -> int:
        """How many numbers the shape has."""
        ...

    @property
    def size(self) -> int:
        """The product of the shape."""
        ...

    @property
    def dtype(self) -> Any:
        """Of a number."""
        ...

    def __len__(self) -> int:
        """How many images there are."""
        ...

    def __getitem__(self, chosen: Any, /) -> Any:
        """The images of a slice or at some indices, in memory."""
        ...


Hard: TypeAlias = Int32[np.ndarray, " images"]
"""A class for each image."""

Soft: TypeAlias = Float32[np.ndarray, "images classes"]
"""The probability of each class, for each image."""

CHANNELS_FIRST, CHANNELS_LAST = "channels_first", "channels_last"

_SUM_TOLERANCE = 1e-3
"""How far the sum of an image's probabilities may be from 1."""


def checked_images(images: Shaped[np.ndarray, "..."], what: str, *, advice: str = "") -> Pixels:
    """Images (n, height, width, channels): uint8 as they are, floats from 0 to 1 as float32.

    Raises:
        InputError: they are not so, or there are none; `advice` is what else to do about floats
            beyond 0 and 1.
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
            f"or give uint8 from 0 to 255{advice}"
        )
    return images.astype(np.float32, copy=False)


def checked_labels(
    labels: Shaped[np.ndarray, "..."],
    images: ByIndex,
    what: str,
    classes: int | None = None,
) -> Hard:
    """Labels as int32: whole numbers, one for each image, below `classes` unless that is None.

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


def given_images(
    images: Shaped[np.ndarray, "..."],
    what: str,
    *,
    normalised: bool,
    channels_first: bool | None = None,
) -> Pixels:
    """Images with their channels last: pixels, or any finite numbers if they are normalised.

    Where `channels_first` is None, the shape decides whether the second axis holds the channels.

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
        advice = "; or give --normalised if that is what they are"
        return checked_images(images, what, advice=advice)
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
        InputError: they are neither, or there is not one for each image.
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
    if not (labels >= 0).all() or not (np.abs(sums - 1) <= _SUM_TOLERANCE).all():
        raise InputError(
            f"{what} are rows of {labels.shape[1]} numbers that are no probabilities; "
            "wanted 0 or more, and a sum of 1: of logits give the softmax"
        )
    return labels.astype(np.float32)


def require_learnable(labels: Hard | Soft, classes: int, what: str) -> None:
    """Refuse labels that do not fit the classes, or that are all of one class.

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


def is_channels_first(
    images: Shaped[np.ndarray, "..."], layout: Shaped[np.ndarray, "..."] | None, what: str
) -> bool:
    """Whether the second axis of some images holds their channels, not the last one.

    The layout is what their file says; if None, images whose last axis can be the channels have
    them last.

    Raises:
        InputError: the file says something else than the shape does.
    """
    if layout is None:
        return images.ndim == 4 and images.shape[3] not in (1, 3) and images.shape[1] in (1, 3)
    said = str(layout) if layout.ndim == 0 and layout.dtype.kind == "U" else ""
    if said not in (CHANNELS_FIRST, CHANNELS_LAST):
        raise InputError(
            f"{what}: the layout beside them is {said or layout.dtype!r}; wanted {CHANNELS_FIRST} "
            f"or {CHANNELS_LAST}"
        )
    axis = 1 if said == CHANNELS_FIRST else 3
    if images.ndim != 4 or images.shape[axis] not in (1, 3):
        raise InputError(
            f"{what} are of shape {images.shape}, but their layout is {said}; wanted 1 or 3 "
            f"channels in axis {axis}"
        )
    return said == CHANNELS_FIRST


def require_memory(needed: int, *, what: str, remedy: str) -> None:
    """Refuse to begin with fewer free bytes of memory than are needed.

    Raises:
        InputError: fewer are free.
    """
    free = psutil.virtual_memory().available
    if needed > free:
        raise InputError(
            f"{what} need {gib(float(needed))} of memory, {gib(float(free))} are free; {remedy}"
        )


def shape_words(shape: tuple[int, ...]) -> str:
    """A shape for a person, such as 32x32x3."""
    return "x".join(map(str, shape))
