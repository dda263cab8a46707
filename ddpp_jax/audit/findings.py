"""What an audit found, as plain values for its result file."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from scipy.special import stdtr
from scipy.stats import chi2

from ddpp_jax.audit.copies import Copies
from ddpp_jax.audit.power import Mean, Power, Rate
from ddpp_jax.audit.worst import Vulnerable

SURE = 0.01
"""Copies are reported where chance would make as many less often than this."""

SURE_OF_MEMBERS = 0.001
"""Members are reported as found where guesses would have such an area less often than this."""

_SMALLEST_SHOWN = 10
_LEAST_CHANCE = 1e-300


def copies_values(found: Sequence[Copies]) -> dict[str, Any]:
    """What lies near the images of one set, or of a set of each shadow.

    Chances of several are put together as if the shadows told nothing of one another; those of near
    copies by Fisher's method.

    Args:
        found: one for each set.
    """
    chance = found[0].chance
    for one in found[1:]:
        chance = chance.beside(one.chance)
    ratios = np.sort(np.concatenate([one.ratios for one in found]))
    near_p = found[0].near_p_value
    if len(found) > 1:  # By Fisher's method.
        logs = [math.log(max(one.near_p_value, _LEAST_CHANCE)) for one in found]
        near_p = float(chi2.sf(-2 * sum(logs), 2 * len(found)))
    medians = (
        float(np.median(np.concatenate([getattr(one, kind).distances for one in found])))
        for kind in ("used", "unused")
    )
    return {
        "images": len(ratios),
        "nearer": chance.nearer,
        "nearer_expected": chance.expected,
        "nearer_p": chance.p_value,
        "near_copies": int(sum(one.near.sum() for one in found)),
        "near_expected": float(sum(one.near_expected for one in found)),
        "near_p": near_p,
        "ordinary": min(len(one.ordinary) for one in found),
        "ratios": [_finite(ratio) for ratio in ratios[:_SMALLEST_SHOWN]],
        "median_used": next(medians),
        "median_unused": next(medians),
    }


def are_copies(values: dict[str, Any]) -> bool:
    """Whether a set lies nearer to what it was made from than chance has it."""
    return values["nearer_p"] < SURE or values["near_p"] < SURE


def power_values(power: Power, targets: int) -> dict[str, Any]:
    """What an attack can do.

    Args:
        power: of the attack.
        targets: how many there were.
    """
    alarms, found = power.curve
    return {
        "area": _mean(power.area),
        "area_p": area_chance(power.area, targets),
        "advantage": _mean(power.advantage),
        "rates": [_rate(fpr, rate) for fpr, rate in power.rates.items()],
        "pooled": [_rate(fpr, rate) for fpr, rate in power.pooled.items()],
        "curve": {"false": alarms, "true": found},
    }


def finds_members(values: dict[str, Any]) -> bool:
    """Whether an area is above that of guesses by more than its error explains."""
    return values["area_p"] < SURE_OF_MEMBERS


def area_chance(area: Mean, targets: int) -> float:
    """The chance of such an area or a larger one by guesses, by Student's t over the targets.

    Targets without any spread are those of few images, and say nothing: the chance is then 1, but
    for an area of 1 in all of them.

    Args:
        area: the mean over the targets.
        targets: how many.
    """
    if not area.error > 0:
        return 0.5**targets if area.mean == 1 else 1.0
    return float(stdtr(targets - 1, -(area.mean - 0.5) / area.error))


def vulnerable_values(found: Vulnerable) -> dict[str, Any]:
    """The most vulnerable images."""
    return {
        "indices": found.indices.tolist(),
        "gaps": found.gaps.tolist(),
        "success": _mean(found.success),
        "found": found.found,
        "alarms": found.alarms,
    }


def _mean(value: Mean) -> dict[str, float | None]:
    return {"mean": value.mean, "error": _finite(value.error)}


def _rate(fpr: float, rate: Rate) -> dict[str, Any]:
    return {
        "rate": fpr,
        "share": rate.share,
        "error": _finite(rate.error),
        "allowed": rate.allowed,
        "negatives": rate.negatives,
    }


def _finite(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
