"""How far figures spread, and whether two methods differ."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from scipy.special import stdtrit

CONFIDENCE = 0.95


class Spread(NamedTuple):
    """The figures of a method over several seeds, each with several networks.

    Attributes:
        seeds: how many.
        mean: of the seeds' means.
        over_seeds: sample standard deviation of the seeds' means; NaN for a single seed.
        error: standard error of the mean over seeds, which is `over_seeds` by the root of `seeds`.
        over_networks: population standard deviation over the networks of a seed, mean over seeds.
    """

    seeds: int
    mean: float
    over_seeds: float
    error: float
    over_networks: float


class Difference(NamedTuple):
    """One method less another, paired by seed.

    Attributes:
        seeds: how many both have.
        mean: of the differences.
        error: their standard error; NaN for a single seed.
        low: lower end of the confidence interval of `CONFIDENCE` by Student's t; NaN likewise.
        high: upper end.
    """

    seeds: int
    mean: float
    error: float
    low: float
    high: float

    @property
    def stands(self) -> bool:
        """Whether the interval leaves out zero; never for one seed, or where all are the same.

        Differences without any spread are those of few images, which agree by chance.
        """
        return self.error > 0 and (self.low > 0 or self.high < 0)


def spread(accuracies: Sequence[Float[np.ndarray, " _networks"]]) -> Spread:
    """How the figures of one method spread.

    Args:
        accuracies: an array for each seed, with the figure of each network.
    """
    means = np.array([np.mean(found, dtype=np.float64) for found in accuracies])
    over_seeds = _deviation(means)
    return Spread(
        seeds=len(means),
        mean=float(means.mean()),
        over_seeds=over_seeds,
        error=over_seeds / math.sqrt(len(means)),
        over_networks=float(np.mean([np.std(found, dtype=np.float64) for found in accuracies])),
    )


def paired_difference(
    figures: Float[np.ndarray, " seeds"], others: Float[np.ndarray, " seeds"]
) -> Difference:
    """The first less the second, seed by seed.

    Args:
        figures: the mean figure of each seed.
        others: of the same seeds in the same order.
    """
    differences = np.asarray(figures, np.float64) - np.asarray(others, np.float64)
    count, mean = len(differences), float(differences.mean())
    error = _deviation(differences) / math.sqrt(count)
    reach = math.nan if count < 2 else float(stdtrit(count - 1, (1 + CONFIDENCE) / 2)) * error
    return Difference(count, mean, error, mean - reach, mean + reach)


def _deviation(values: Float[np.ndarray, " values"]) -> float:
    return float(values.std(ddof=1)) if len(values) > 1 else math.nan
