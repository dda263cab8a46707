"""Nearest neighbours by brute force, in blocks of bounded memory."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped

from ddpp_jax.data import unit

_BLOCK_BYTES = 2**25
_MOST_QUERIES, _MOST_REFERENCES = 1024, 4096  # Whose distances are held at once: 32 MiB.


class Nearest(NamedTuple):
    """The nearest reference of each query.

    Attributes:
        indices: which it is; of several at one distance the first.
        distances: to it: root mean square over the entries of an image, so 1 is black to white.
    """

    indices: Int[np.ndarray, " queries"]
    distances: Float[np.ndarray, " queries"]


def nearest(
    queries: Shaped[np.ndarray, "queries ..."],
    references: Shaped[np.ndarray, "references ..."],
    *,
    own: Int[np.ndarray, " queries"] | None = None,
) -> Nearest:
    """The nearest reference of each query, by the root mean square of their difference.

    It is found in float64 by inner products, block by block; its distance is then worked out from
    the difference itself, so that of two equal images it is 0.

    Args:
        queries: images or features, one in a row; uint8 pixels count as from 0 to 1.
        references: of the same shape.
        own: where each query stands among the references itself, which is left out; None where none
            does.
    """
    found = np.zeros(len(queries), np.int64)
    best = np.full(len(queries), np.inf)
    size = int(np.prod(queries.shape[1:]))
    for high, theirs in _blocks(references, size, _MOST_REFERENCES):
        lengths = np.square(theirs).sum(axis=1)
        for low, ours in _blocks(queries, size, _MOST_QUERIES):
            rows = slice(low, low + len(ours))
            squares = np.square(ours).sum(axis=1)[:, None] + lengths[None] - 2 * ours @ theirs.T
            if own is not None:
                places = own[rows] - high
                inside = np.flatnonzero((places >= 0) & (places < len(theirs)))
                squares[inside, places[inside]] = np.inf
            closest = squares.argmin(axis=1)
            values = squares[np.arange(len(ours)), closest]
            nearer = values < best[rows]
            found[rows] = np.where(nearer, high + closest, found[rows])
            best[rows] = np.where(nearer, values, best[rows])
    return Nearest(found, between(queries, references, found))


def between(
    queries: Shaped[np.ndarray, "queries ..."],
    references: Shaped[np.ndarray, "references ..."],
    indices: Int[np.ndarray, " queries"],
) -> Float[np.ndarray, " queries"]:
    """The distance of each query to one reference, as in `Nearest`.

    Args:
        queries: one in a row.
        references: of the same shape.
        indices: which reference, for each query.
    """
    size = int(np.prod(queries.shape[1:]))
    found = np.zeros(len(queries))
    for low, ours in _blocks(queries, size, _MOST_QUERIES):
        rows = slice(low, low + len(ours))
        theirs = unit(references[indices[rows]], np.float64).reshape(len(ours), size)
        found[rows] = np.sqrt(np.square(ours - theirs).mean(axis=1))
    return found


def _blocks(
    values: Shaped[np.ndarray, "rows ..."], size: int, most: int
) -> Iterator[tuple[int, Float[np.ndarray, "block size"]]]:
    """The first row of each block, and the block as float64."""
    rows = max(1, min(most, _BLOCK_BYTES // (8 * max(1, size))))
    for low in range(0, len(values), rows):
        block = unit(values[low : low + rows], np.float64)
        yield low, block.reshape(len(block), size)
