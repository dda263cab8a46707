"""The transform that a file of images carries, whole or as a record that tells it apart."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from ddpp_jax.configs.checks import SMALLEST
from ddpp_jax.data.checks import shape_words
from ddpp_jax.data.transforms import (
    DIVISORS,
    TRANSFORM_ARRAYS,
    Contrast,
    PerChannel,
    Transform,
    Whitening,
    Zca,
    contrasted,
    field_shapes,
    transform_arrays,
)
from ddpp_jax.errors import InputError

LAYOUT = "layout"
"""The entry of a file that says which axis of its images holds the channels."""

TRANSFORM_NAMES = tuple(name for names in TRANSFORM_ARRAYS.values() for name in names.values())

_PROBED = 32
_TOLERANCE = 1e-4
"""How far two whitenings of the same images may be apart, as a share of the largest number."""
_LARGEST = float(np.finfo(np.float32).max)
_GOLDEN = 0.6180339887498949
_PROBES = {"zca_probe": False, "contrast_probe": True}
"""What a record calls a probe, and whether it is of KIP's whitening."""


class ZcaProbe(NamedTuple):
    """Some numbers that tell one ZCA whitening from another, since its matrix would be too large.

    Attributes:
        numbers: what the whitening makes of fixed pixels, at places spread over the image; of KIP's
            then its means and deviations, and its length over that of a vector of ones.
        contrast: whether the whitening is KIP's.
    """

    numbers: tuple[float, ...]
    contrast: bool = False

    def fits(self, whitening: Whitening) -> bool:
        """Whether they are of this whitening, up to the rounding of another machine."""
        theirs, own = np.asarray(self.numbers), np.asarray(probe(whitening).numbers)
        if self.contrast != isinstance(whitening, Contrast) or theirs.shape != own.shape:
            return False
        return bool(np.abs(theirs - own).max() <= _TOLERANCE * max(1.0, float(np.abs(own).max())))


def probe(whitening: Whitening) -> ZcaProbe:
    """The numbers that tell a whitening from others."""
    size = len(whitening.matrix)
    pixels = np.arange(size) * _GOLDEN % 1
    places = np.linspace(0, size - 1, min(_PROBED, size)).astype(int)
    columns = whitening.matrix[:, places].astype(np.float64)
    if isinstance(whitening, Zca):
        found = (pixels - whitening.mean) @ columns
        return ZcaProbe(tuple(float(number) for number in found))
    mean, std = (part.astype(np.float64) for part in (whitening.mean, whitening.std))
    flat, _ = contrasted(((pixels.reshape(-1, len(mean)) - mean) / std).reshape(1, size))
    found = (flat[0] @ columns, mean, std, whitening.length / size**0.5)
    return ZcaProbe(tuple(float(number) for part in found for number in part), contrast=True)


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
            `zca_matrix`, over the flattened image, or the four of `Contrast`, `contrast_mean` and
            so on; others are ignored.
        shape: of an image: (height, width, channels).
        what: names the file in an error.
        channels_first: whether images were flattened channel by channel.

    Raises:
        InputError: half of a transform is there, or two are, or it does not fit the images, or its
            numbers cannot be used.
    """
    found = [
        kind for kind, names in TRANSFORM_ARRAYS.items() if any(n in arrays for n in names.values())
    ]
    if not found:
        return None
    if len(found) > 1:
        held = " and ".join(" or ".join(TRANSFORM_ARRAYS[kind].values()) for kind in found)
        raise InputError(
            f"{what} holds both {held}; wanted the transform of its images alone: remove the other"
        )
    (kind,) = found
    names = TRANSFORM_ARRAYS[kind]
    for name in names.values():
        if name not in arrays:
            other = next(other for other in names.values() if other in arrays)
            raise InputError(
                f"{what} has {other} and no {name}; wanted "
                + ("both, or neither" if len(names) == 2 else "all of it, or nothing")
            )
    shapes = field_shapes(kind, shape)
    values = {
        field: _numbers(arrays[name], shapes[field], f"{what}: {name}")
        for field, name in names.items()
    }
    for field, name in names.items():
        least = values[field].min()
        if name in DIVISORS and least < SMALLEST:
            raise InputError(f"{what}: {name} holds {least:g}; wanted {SMALLEST:g} or more")
    transform = kind(**values)
    if isinstance(transform, PerChannel):
        return transform
    if not values["matrix"].any():
        raise InputError(
            f"{what}: {names['matrix']} holds nothing but 0; every image would be the same"
        )
    if channels_first:
        height, width, channels = shape
        order = np.arange(int(np.prod(shape))).reshape(channels, height, width)
        transform = _in_order(transform, order.transpose(1, 2, 0).ravel())
    return transform


def transform_shapes(kind: type[Transform], shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of a transform's arrays, by their names, for images of a shape."""
    names = TRANSFORM_ARRAYS[kind]
    return {names[field]: wanted for field, wanted in field_shapes(kind, shape).items()}


def _in_order(transform: Whitening, order: Int[np.ndarray, " pixels"]) -> Whitening:
    """A whitening of vectors whose numbers stand in another order."""
    matrix = transform.matrix[np.ix_(order, order)]
    if isinstance(transform, Zca):
        return Zca(transform.mean[order], matrix)
    return transform._replace(matrix=matrix, inverse=None)


def arrays_of(
    transform: Transform, shape: tuple[int, ...], *, channels_first: bool
) -> dict[str, Float[np.ndarray, "..."]]:
    """The arrays of a transform as `carried_transform` takes them.

    If `channels_first`, the images beside them will be flattened channel by channel, and
    `(pixels - mean) @ matrix` over such images gives what it gives over (height, width, channels).
    """
    if channels_first and not isinstance(transform, PerChannel):
        order = np.arange(int(np.prod(shape))).reshape(shape).transpose(2, 0, 1).ravel()
        transform = _in_order(transform, order)
    return {
        name: np.ascontiguousarray(array, np.float32)
        for name, array in transform_arrays(transform).items()
    }


def small_record(transform: Transform) -> dict[str, list[float]]:
    """What a JSON file keeps of a transform: itself, or what tells a whitening from others."""
    if not isinstance(transform, PerChannel):
        found = probe(transform)
        name = "contrast_probe" if found.contrast else "zca_probe"
        return {name: list(found.numbers)}
    return {name: array.tolist() for name, array in transform_arrays(transform).items()}


def from_small_record(
    record: Any, shape: tuple[int, ...], what: str
) -> Transform | ZcaProbe | None:
    """The transform, or what tells a whitening from others, that `small_record` kept.

    Raises:
        InputError: it is neither.
    """
    names = record.keys() if isinstance(record, dict) else set()
    known = ({"mean", "std"}, *({name} for name in _PROBES))
    if names not in known or not all(map(_is_numbers, record.values())):
        raise InputError(
            f"{what}: wanted mean and std, or {' or '.join(_PROBES)}, as lists of numbers"
        )
    for name in names & _PROBES.keys():
        return ZcaProbe(tuple(float(number) for number in record[name]), _PROBES[name])
    return carried_transform({n: np.asarray(v, np.float64) for n, v in record.items()}, shape, what)


def transform_words(transform: Transform | ZcaProbe) -> str:
    """What a transform does, for a person."""
    if isinstance(transform, PerChannel):
        return "normalisation per channel"
    if isinstance(transform, ZcaProbe):
        return whitening_words(contrast=transform.contrast)
    return whitening_words(contrast=isinstance(transform, Contrast))


def whitening_words(*, contrast: bool) -> str:
    """What a whitening is called, for a person."""
    return "ZCA whitening as in KIP (--contrast)" if contrast else "ZCA whitening"


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
