"""The images that an attack does best on.

Aerni, Zhang and Tramer (CCS 2024), "Evaluations of Machine Learning Privacy Defenses are
Misleading": a mean over all images hides the few that are given away, so that the most vulnerable
ones are to be reported apart. Chosen and attacked by the same shadows, some images would look
vulnerable by luck. Here they are chosen by one half of the shadows and attacked in the other.
"""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ddpp_jax.audit.attacks import Confidences, Gaussians, Members
from ddpp_jax.audit.power import Mean

LEAST_SHADOWS = 8
"""Each half must have two members and two others of every image."""


class Vulnerable(NamedTuple):
    """The most vulnerable images.

    Attributes:
        indices: which, by all shadows, the worst first.
        gaps: how far confidences as a member and as none are apart, in deviations, of each.
        success: how often membership is guessed right, of images chosen by the other half of the
            shadows; 0.5 by chance, over the targets.
        found: of their members, the share that is taken for members.
        alarms: of those that are none, the share that is taken for members.
    """

    indices: Int[np.ndarray, " images"]
    gaps: Float[np.ndarray, " images"]
    success: Mean
    found: float
    alarms: float


def most_vulnerable(confidences: Confidences, members: Members, count: int) -> Vulnerable:
    """The images whose membership shows most, and how well it is guessed in fresh targets.

    A guess is by the likelihood ratio with the two variances pooled within images, at a ratio of 1.

    Args:
        confidences: by shadow.
        members: of each shadow; pairs of halves stand together.
        count: how many images.

    Raises:
        ValueError: there are fewer than `LEAST_SHADOWS`.
    """
    shadows, images = confidences.shape
    if shadows < LEAST_SHADOWS:
        raise ValueError(f"{shadows} shadows cannot be halved; wanted {LEAST_SHADOWS} or more")
    count = min(count, images)
    first = np.arange(shadows) < shadows // 4 * 2
    right, guessed, true = [], [], []
    for half in (first, ~first):
        fitted = Gaussians(confidences[half], members[half], one_variance=True)
        chosen = worst_of(fitted.gaps, count)
        for target in np.flatnonzero(~half):
            guesses = fitted.ratios(confidences[target])[chosen] > 0
            truth = members[target][chosen]
            right.append(float((guesses == truth).mean()))
            guessed.append(guesses)
            true.append(truth)
    taken, is_member = np.concatenate(guessed), np.concatenate(true)
    gaps = Gaussians(confidences, members, one_variance=True).gaps
    worst = worst_of(gaps, count)
    error = float(np.std(right, ddof=1) / np.sqrt(len(right)))
    return Vulnerable(
        indices=worst,
        gaps=gaps[worst],
        success=Mean(float(np.mean(right)), error),
        found=_share(taken[is_member]),
        alarms=_share(taken[~is_member]),
    )


def worst_of(gaps: Float[np.ndarray, " images"], count: int) -> Int[np.ndarray, " worst"]:
    """The images with the largest gaps, in falling order; of equal ones the first."""
    return np.argsort(-gaps, kind="stable")[:count]


def _share(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else 0.0
