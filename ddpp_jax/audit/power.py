"""How well scores tell members from others: curves, areas, rates at few false alarms.

Carlini et al. (S&P 2022) ask for the share of members that is found at few false alarms, since an
attack that is sure of some images is worse than one that is right a little more often than not
about all of them, and an area under the curve cannot tell the two apart.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float
from scipy.stats import rankdata

from ddpp_jax.audit.splits import others_of

Scores = Float[np.ndarray, " images"]
_CURVE_POINTS = 200


class Mean(NamedTuple):
    """A mean over targets.

    Attributes:
        mean: of the targets' figures.
        error: its standard error, as if targets told nothing of one another; NaN for a single one.
    """

    mean: float
    error: float


class Rate(NamedTuple):
    """The share of positives that is found at few false alarms.

    Attributes:
        share: that is found.
        error: its standard error over targets; NaN where it is a figure of all targets together.
        allowed: false alarms that are allowed; 0 where there are too few negatives.
        negatives: of which these are.
    """

    share: float
    error: float
    allowed: int
    negatives: int


class Power(NamedTuple):
    """What an attack can do.

    Attributes:
        area: under the curve; 0.5 by chance.
        advantage: true less false positive rate at the threshold that served the other targets best
            (Yeom et al., with as many members as others); 0 by chance.
        rates: by the false positive rate that is allowed, in each target by itself.
        pooled: the same with the scores of all targets in one list.
        curve: of all targets in one list: false and true positive rates.
    """

    area: Mean
    advantage: Mean
    rates: dict[float, Rate]
    pooled: dict[float, Rate]
    curve: tuple[list[float], list[float]]


def roc(
    positives: Scores, negatives: Float[np.ndarray, " others"]
) -> tuple[
    Float[np.ndarray, " points"], Float[np.ndarray, " points"], Float[np.ndarray, " points"]
]:
    """The false and the true positive rates of every threshold, and the thresholds.

    What scores at least as high as a threshold is taken for a positive. The first threshold is
    infinite and takes nothing.

    Args:
        positives: the scores of those to be found.
        negatives: of the others.
    """
    values = np.unique(np.concatenate([positives, negatives]))[::-1]
    found, alarms = (
        len(scores) - np.searchsorted(np.sort(scores), values, side="left")
        for scores in (positives, negatives)
    )
    rates = (np.concatenate([[0.0], counts]) for counts in (alarms, found))
    fpr, tpr = (r / n for r, n in zip(rates, (len(negatives), len(positives)), strict=True))
    return fpr, tpr, np.concatenate([[np.inf], values])


def area(positives: Scores, negatives: Float[np.ndarray, " others"]) -> float:
    """The chance that a positive scores higher than a negative, ties counted as half.

    >>> area(np.array([2.0, 3.0]), np.array([1.0, 2.0]))
    0.875
    """
    ranks = rankdata(np.concatenate([positives, negatives]))[: len(positives)]
    least = len(positives) * (len(positives) + 1) / 2
    return float((ranks.sum() - least) / (len(positives) * len(negatives)))


def share_found(positives: Scores, negatives: Float[np.ndarray, " others"], fpr: float) -> float:
    """The largest share of positives that any threshold finds at no more than so many false alarms.

    Args:
        positives: scores.
        negatives: scores.
        fpr: the false positive rate that is allowed.
    """
    alarms, found, _ = roc(positives, negatives)
    return float(found[alarms <= fpr].max())


def power_of(
    scores: Float[np.ndarray, "targets images"],
    members: Bool[np.ndarray, "targets images"],
    *,
    chosen: Bool[np.ndarray, "targets images"] | None = None,
    fprs: Sequence[float] = (0.001, 0.01),
) -> Power:
    """What an attack can do, over all targets.

    Args:
        scores: of each image for each target.
        members: of each target; all others are negatives.
        chosen: the members that are to be found; None takes all.
        fprs: false positive rates that are allowed.

    Raises:
        ValueError: a target has nothing to be found, or nothing else.
    """
    wanted = members if chosen is None else members & chosen
    if not (wanted.any(axis=1).all() and (~members).any(axis=1).all()):
        raise ValueError("a target has no member to be found, or no image that is none")
    pairs = [(s[w], s[~m]) for s, w, m in zip(scores, wanted, members, strict=True)]
    advantages = []
    for target, (positives, negatives) in enumerate(pairs):
        threshold = best_threshold(scores, wanted, members, target)
        advantages.append((positives >= threshold).mean() - (negatives >= threshold).mean())
    every = (scores[wanted], scores[~members])
    alarms, found, _ = roc(*every)
    return Power(
        area=_mean([area(*pair) for pair in pairs]),
        advantage=_mean(advantages),
        rates={fpr: _rate(pairs, fpr) for fpr in fprs},
        pooled={fpr: _rate([every], fpr) for fpr in fprs},
        curve=_thinned(alarms, found),
    )


def best_threshold(
    scores: Float[np.ndarray, "targets images"],
    wanted: Bool[np.ndarray, "targets images"],
    members: Bool[np.ndarray, "targets images"],
    target: int,
) -> float:
    """The threshold with the largest true less false positive rate in the other targets.

    Infinite where there is no other one, so that nothing is taken for a member.
    """
    others = others_of(members, target)
    if not others.any():
        return math.inf
    there = scores[others]
    alarms, found, thresholds = roc(there[wanted[others]], there[~members[others]])
    return float(thresholds[int(np.argmax(found - alarms))])


def _rate(
    pairs: Sequence[tuple[Float[np.ndarray, " _positives"], Float[np.ndarray, " _negatives"]]],
    fpr: float,
) -> Rate:
    negatives = min(len(negatives) for _, negatives in pairs)
    shares = _mean([share_found(*pair, fpr) for pair in pairs])
    # The product may fall short of a whole number by rounding.
    return Rate(shares.mean, shares.error, math.floor(fpr * negatives + 1e-9), negatives)


def _mean(values: Sequence[float]) -> Mean:
    found = np.asarray(values, np.float64)
    error = found.std(ddof=1) / math.sqrt(len(found)) if len(found) > 1 else math.nan
    return Mean(float(found.mean()), float(error))


def _thinned(
    alarms: Float[np.ndarray, " points"], found: Float[np.ndarray, " points"]
) -> tuple[list[float], list[float]]:
    """A curve by fewer points, as close together for few false alarms as a logarithm shows them."""
    last = len(alarms) - 1
    steps = np.unique(np.geomspace(1, max(2, last), _CURVE_POINTS).astype(np.int64))
    places = np.unique(np.concatenate([[0], np.minimum(steps, last), [last]]))
    return alarms[places].tolist(), found[places].tolist()
