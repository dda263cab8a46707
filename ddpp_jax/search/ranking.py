"""How well a proxy ranks networks: Spearman's correlation, also among the best of them."""

import math
from typing import NamedTuple

import jax
import numpy as np
from jaxtyping import Float, Int
from scipy import stats

from ddpp_jax._types import PRNGKey

CONFIDENCE = 0.95
"""Of the bootstrap's intervals."""

RESAMPLES = 2000

Accuracies = Float[np.ndarray, " networks"]


class Correlation(NamedTuple):
    """Spearman's rank correlation of two accuracies over some networks.

    Attributes:
        networks: how many.
        value: from -1 to 1; NaN where one of the two is the same for all of them.
        low: end of the interval of `CONFIDENCE`, by the percentiles of a bootstrap over networks;
            NaN where the value is.
        high: its other end.
    """

    networks: int
    value: float
    low: float
    high: float


def correlation(
    key: PRNGKey,
    proxy: Accuracies,
    full: Accuracies,
    *,
    top: int | None = None,
    resamples: int = RESAMPLES,
) -> Correlation:
    """Spearman's correlation of proxy and full accuracies, and how uncertain it is.

    Args:
        key: decides the bootstrap.
        proxy: of each network, trained on the proxy set.
        full: of the same networks, trained on the full data.
        top: among so many with the best full accuracy alone; None takes all.
        resamples: of the bootstrap. Those in which one accuracy is the same throughout say nothing
            and are left out.
    """
    chosen = best(full, len(full) if top is None else top)
    pairs = np.stack([proxy, full])[:, chosen].astype(np.float64)
    count = len(chosen)
    value = float(spearman(pairs[0], pairs[1]))
    if math.isnan(value):
        return Correlation(count, math.nan, math.nan, math.nan)
    draws = np.asarray(jax.random.randint(key, (resamples, count), 0, count))
    drawn = spearman(pairs[0][draws], pairs[1][draws])
    tail = 100 * (1 - CONFIDENCE) / 2
    low, high = np.percentile(drawn[~np.isnan(drawn)], [tail, 100 - tail])
    return Correlation(count, value, float(low), float(high))


def spearman(
    first: Float[np.ndarray, "*samples values"], second: Float[np.ndarray, "*samples values"]
) -> Float[np.ndarray, "*samples"]:
    """Spearman's correlation along the last axis; equal values share the mean of their ranks.

    As `scipy.stats.spearmanr`, for many samples at once, and NaN where all values are the same.

    >>> float(spearman(np.array([1.0, 2.0, 3.0]), np.array([0.1, 0.2, 0.9])))
    1.0
    """
    a, b = (stats.rankdata(values, axis=-1) for values in (first, second))
    a, b = (ranks - ranks.mean(axis=-1, keepdims=True) for ranks in (a, b))
    products = (a * b).sum(axis=-1)
    scale = np.sqrt(np.square(a).sum(axis=-1) * np.square(b).sum(axis=-1))
    return np.divide(products, scale, out=np.full(np.shape(scale), np.nan), where=scale > 0)


def best(accuracies: Accuracies, count: int) -> Int[np.ndarray, " chosen"]:
    """The places of the largest, best first; of equal ones the first come first.

    >>> best(np.array([0.5, 0.9, 0.5]), 2).tolist()
    [1, 0]
    """
    return np.argsort(-accuracies, kind="stable")[:count]
