"""The transform that a file of images carries, whole or as a record that tells it apart."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Shaped

from ddpp_jax.configs.checks import SMALLEST
from ddpp_jax.data.checks import shape_words
from ddpp_jax.data.transforms import PerChannel, Transform, Zca, transform_arrays
from ddpp_jax.errors import InputError

LAYOUT = "layout"
"""The entry of a file that says which axis of its images holds the channels."""

TRANSFORM_NAMES = ("mean", "std", "zca_mean", "zca_matrix")

_PROBED = 32
_TOLERANCE = 1e-4
"""How far two whitenings of the same images may be apart, as a share of the largest number."""
_LARGEST = float(np.finfo(np.float32).max)
_GOLDEN = 0.6180339887498949


class ZcaProbe(NamedTuple):
    """Some numbers that tell one ZCA whitening from another, since its matrix would be too large.

    Attributes:
        numbers: what the whitening makes of fixed pixels, at places spread over the image.
    """

    numbers: tuple[float, ...]

    def fits(self, zca: Zca) -> bool:
        """Whether they are of this whitening, up to the rounding of another machine."""
        theirs, own = np.asarray(self.numbers), np.asarray(probe(zca).numbers)
        if theirs.shape != own.shape:
            return False
        return bool(np.abs(theirs - own).max() <= _TOLERANCE * max(1.0, float(np.abs(own).max())))


def probe(zca: Zca) -> ZcaProbe:
    """The numbers that tell a whitening from others."""
    size = len(zca.mean)
    pixels = np.arange(size) * _GOLDEN % 1
    places = np.linspace(0, size - 1, min(_PROBED, size)).astype(int)
    found = (pixels - zca.mean) @ zca.matrix[:, places].astype(np.float64)
    return ZcaProbe(tuple(float(number) for number in found))


def carried_transform(
    arrays: Mapping[str, Shaped[np.ndarray, "..."]],
    shape: tuple[int, ...],
    what: str,
    *,
    channels_first: bool = False,
) -> Transform | None:
    """The transform whose arrays lie beside some images; None if there are none.

    Args:
        arrays: by name: `mean` and `std`, a number for each channel, or `zca_mean` and
            `zca_matrix`, over the flattened image; others are ignored.
        shape: of an image: (height, width, channels).
        what: names the file in an error.
        channels_first: whether images were flattened channel by channel.

    Raises:
        InputError: half of a transform is there, or two are, or it does not fit the images, or its
            numbers cannot be used.
    """
    kinds = (TRANSFORM_NAMES[:2], TRANSFORM_NAMES[2:])
    found = [names for names in kinds if any(name in arrays for name in names)]
    if not found:
        return None
    if len(found) > 1:
        raise InputError(
            f"{what} holds both mean or std and zca_mean or zca_matrix; wanted the transform of "
            "its images alone: remove the other"
        )
    (names,) = found
    for name, other in zip(names, reversed(names), strict=True):
        if name not in arrays:
            raise InputError(f"{what} has {other} and no {name}; wanted both, or neither")
    size, channels = int(np.prod(shape)), shape[-1]
    if "std" in names:
        mean, std = (_numbers(arrays[name], (channels,), f"{what}: {name}") for name in names)
        if std.min() < SMALLEST:
            raise InputError(f"{what}: std holds {std.min():g}; wanted {SMALLEST:g} or more")
        return PerChannel(mean, std)
    mean = _numbers(arrays["zca_mean"], (size,), f"{what}: zca_mean")
    matrix = _numbers(arrays["zca_matrix"], (size, size), f"{what}: zca_matrix")
    if not matrix.any():
        raise InputError(f"{what}: zca_matrix holds nothing but 0; every image would be the same")
    if channels_first:
        height, width, _ = shape
        order = np.arange(size).reshape(channels, height, width).transpose(1, 2, 0).ravel()
        mean, matrix = mean[order], matrix[np.ix_(order, order)]
    return Zca(mean, matrix)


def arrays_of(
    transform: Transform, shape: tuple[int, ...], *, channels_first: bool
) -> dict[str, Float[np.ndarray, "..."]]:
    """The arrays of a transform as `carried_transform` takes them.

    If `channels_first`, the images beside them will be flattened channel by channel, and
    `(pixels - mean) @ matrix` over such images gives what it gives over (height, width, channels).
    """
    if channels_first and isinstance(transform, Zca):
        order = np.arange(int(np.prod(shape))).reshape(shape).transpose(2, 0, 1).ravel()
        transform = Zca(transform.mean[order], transform.matrix[np.ix_(order, order)])
    return {
        name: np.ascontiguousarray(array, np.float32)
        for name, array in transform_arrays(transform).items()
    }


def small_record(transform: Transform) -> dict[str, list[float]]:
    """What a JSON file keeps of a transform: itself, or what tells a whitening from others."""
    if isinstance(transform, Zca):
        return {"zca_probe": list(probe(transform).numbers)}
    return {name: array.tolist() for name, array in transform_arrays(transform).items()}


def from_small_record(
    record: Any, shape: tuple[int, ...], what: str
) -> Transform | ZcaProbe | None:
    """The transform, or what tells a whitening from others, that `small_record` kept.

    Raises:
        InputError: it is neither.
    """
    names = record.keys() if isinstance(record, dict) else set()
    if names not in ({"zca_probe"}, {"mean", "std"}) or not all(map(_is_numbers, record.values())):
        raise InputError(f"{what}: wanted mean and std, or zca_probe, as lists of numbers")
    if "zca_probe" in names:
        return ZcaProbe(tuple(float(number) for number in record["zca_probe"]))
    return carried_transform({n: np.asarray(v, np.float64) for n, v in record.items()}, shape, what)


def transform_words(transform: Transform | ZcaProbe) -> str:
    """What a transform does, for a person."""
    if isinstance(transform, PerChannel):
        return "normalisation per channel"
    return "ZCA whitening"


def _is_numbers(values: Any) -> bool:
    return (
        isinstance(values, list)
        and bool(values)
        and all(type(v) in (int, float) and abs(v) < _LARGEST for v in values)
    )


def _numbers(
    values: Shaped[np.ndarray, "..."], shape: tuple[int, ...], what: str
) -> Float[np.ndarray, "..."]:
    if values.dtype.kind != "f":
        raise InputError(f"{what} is {values.dtype}; wanted floats")
    if values.size != int(np.prod(shape)) or (len(shape) > 1 and values.shape != shape):
        raise InputError(
            f"{what} is of shape {values.shape} for such images; wanted {shape_words(shape)}"
        )
    with np.errstate(over="ignore"):
        found = values.reshape(shape).astype(np.float32)
    if not np.isfinite(found).all():
        raise InputError(f"{what} holds NaN or infinite numbers; wanted finite ones")
    return found
