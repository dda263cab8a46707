"""Pixels of any depth brought to the scale from 0 (black) to 1 (white), and what was assumed."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Shaped

from ddpp_jax.configs.checks import LARGEST
from ddpp_jax.errors import InputError

EIGHT_BITS = "8-bit"
FLOATS = "floating-point"

_CHUNK = 2**22
"""Pixels that are worked on at once."""


class Scale(NamedTuple):
    """Which values of pixels are black and white; values beyond are cut.

    Attributes:
        kind: of the pixels, as a word: `8-bit`, `16-bit`, `uint16`, `floating-point` and so on.
        low: the value that is black.
        high: the value that is white.
    """

    kind: str
    low: float
    high: float


class Extent(NamedTuple):
    """Between which values pixels lie.

    Attributes:
        low: the least; NaN if any pixel is.
        high: the greatest.
        total: how many there are.
        beyond: how many are beyond a range that was given.
    """

    low: float
    high: float
    total: int
    beyond: int = 0


def extent(values: Shaped[np.ndarray, "..."], given: tuple[float, float] | None) -> Extent:
    """Between which values pixels lie, and how many lie beyond a range."""
    low, high = float(values.min()), float(values.max())
    if given is None or (given[0] <= low and high <= given[1]):
        return Extent(low, high, values.size)
    beyond = int((values < given[0]).sum()) + int((values > given[1]).sum())
    return Extent(low, high, values.size, beyond)


def joined(extents: Iterable[Extent]) -> Extent:
    """The extent of all parts of some pixels; there is at least one part."""
    low, high, total, beyond = np.asarray([*extents], float).T
    return Extent(float(low.min()), float(high.max()), int(total.sum()), int(beyond.sum()))


def fit_scale(
    kind: str,
    measure: Callable[[], Extent],
    given: tuple[float, float] | None,
    *,
    what: str,
    place: str,
) -> tuple[Scale | None, list[str]]:
    """How pixels become numbers from 0 to 1, and what was assumed, in a line.

    The scale is None if they are eight bits, or floats from 0 to 1, already. A given range decides.
    Without one it is the range of the whole dataset, training and test images alike: which values a
    format's pixels take is known of it beforehand, and is not fitted.

    Args:
        kind: of the pixels, as a word.
        measure: finds between which values they lie; called only if that matters.
        given: black and white, by hand.
        what: names them in an error.
        place: where they are, for the line.

    Raises:
        InputError: a pixel is not finite or beyond float32, or all of them are equal.
    """
    if kind == EIGHT_BITS and given is None:
        return None, []
    found = measure()
    if max(abs(found.low), abs(found.high)) > LARGEST:
        raise InputError(
            f"{what} lie between {found.low:g} and {found.high:g}, beyond what float32 can be "
            "relied on to hold; divide them"
        )
    if not np.isfinite([found.low, found.high]).all():
        raise InputError(f"{what} hold NaN or infinite pixels; wanted finite ones")
    are = f"pixels of {place} are {kind} from {found.low:g} to {found.high:g}"
    if given is not None:
        low, high = given
        beyond = 100 * found.beyond / found.total
        cut = f", and {beyond:.2g} % of them lie beyond it and are cut" if beyond else ""
        return Scale(kind, low, high), [
            f"{are}; {low:g} to {high:g} are taken as 0 to 1 by --range{cut}"
        ]
    if kind == FLOATS and found.low >= 0 and found.high <= 1:
        return None, []
    if found.low == found.high:
        raise InputError(
            f"{what} are all {found.low:g}; give other images, or --range LOW,HIGH "
            "if that is what they are"
        )
    line = f"{are}; taken as 0 to 1 by that range; --range LOW,HIGH overrules"
    return Scale(kind, found.low, found.high), [line]


def to_unit(
    values: Shaped[np.ndarray, "first *rest"], scale: Scale
) -> Float32[np.ndarray, "first *rest"]:
    """Pixels on the scale from 0 to 1, as float32; values beyond are cut."""
    result = np.empty(values.shape, np.float32)
    rows = max(1, _CHUNK // max(1, values[:1].size))
    for start in range(0, len(values), rows):
        chunk = values[start : start + rows].astype(np.float64)
        result[start : start + rows] = np.clip((chunk - scale.low) / (scale.high - scale.low), 0, 1)
    return result
