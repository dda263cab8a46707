"""Whether a distilled set is worth anything, and what most likely went wrong where it is not."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

NEAR_ONE = 0.95
"""A matching loss above this says that students get nowhere near their targets."""

_STILL = 0.05
_FELL = 0.3
_TEACHERS_LOSS = 0.95


class Evidence(NamedTuple):
    """What a distillation left that tells of its causes.

    Attributes:
        rows: of `metrics.jsonl`.
        change: the root mean square of how far pixels moved, in deviations of the data.
        teacher_losses: the mean loss of each epoch over the teachers; empty without teachers.
        settings: of the method and the teachers, by name.
        teachers: the test accuracy of the teachers, from 0 to 1; None without teachers.
        found: whether the settings were found by the program.
    """

    rows: Sequence[Mapping[str, Any]]
    change: float
    teacher_losses: Sequence[float]
    settings: Mapping[str, Any]
    teachers: float | None = None
    found: bool = False


def doubt(
    row: Mapping[str, Any], random: Mapping[str, Any] | None, evidence: Evidence
) -> str | None:
    """What speaks against a distilled set, its likely cause, and what to try; None if nothing does.

    Args:
        row: of the results, of the distilled set.
        random: that of random real images of the same number; None where they were not evaluated.
        evidence: what the distillation left.
    """
    said = []
    if random is not None:
        spread = max(row["std"], random["std"])
        if row["mean"] - random["mean"] <= spread:
            said.append(
                f"{100 * row['mean']:.1f} % is not above random real images "
                f"({100 * random['mean']:.1f} %) by more than the spread ({100 * spread:.1f})"
            )
    loss = _loss_at_the_end(evidence.rows)
    if loss is not None and loss > NEAR_ONE:
        said.append(f"the matching loss ended at {loss:.2f}, and 1 is a student that has not moved")
    if not said:
        return None
    return f"{row['method']}: {'; '.join(said)}. {_cause(evidence, loss, random)}"


def _cause(evidence: Evidence, loss: float | None, random: Mapping[str, Any] | None) -> str:
    """The likely cause, and what to try."""
    settings, losses = evidence.settings, evidence.teacher_losses
    auto = "or a larger --budget" if evidence.found else "or --auto"
    if losses and not losses[-1] < _TEACHERS_LOSS * losses[0]:
        rate = settings["teacher_rate"]
        return (
            f"The teachers' loss goes from {losses[0]:.2f} to {losses[-1]:.2f}, so their rate is "
            f"likely too high: try --teacher-rate {rate / 5:.2g}, {auto}"
        )
    if evidence.teachers is not None and random and evidence.teachers < random["mean"]:
        rate = settings["teacher_rate"]
        return (
            f"The teachers themselves reach {100 * evidence.teachers:.1f} %, so they have learnt "
            f"too little: try --teacher-rate {5 * rate:.2g}, or more --epochs, or --balance where "
            "classes are uneven"
        )
    alphas = [row["alpha"] for row in evidence.rows if isinstance(row.get("alpha"), float)]
    if alphas and alphas[len(alphas) // 10] < _FELL * alphas[0]:
        return (
            f"Alpha fell from {alphas[0]:.2g} to {alphas[len(alphas) // 10]:.2g} at once, so it or "
            f"its rate is likely too high: try --alpha {min(alphas):.2g}, {auto}"
        )
    if evidence.change < _STILL:
        rate = settings["pixel_rate"]
        return (
            f"Pixels moved by {evidence.change:.2g} deviations, so the pixel rate is likely too "
            f"low: try --pixel-rate {10 * rate:g}, {auto}"
        )
    if loss is not None and loss > NEAR_ONE and "target_epochs" in settings:
        if settings["target_epochs"] > 1:
            return f"Targets are likely too far: try --target-epochs 1, {auto}"
        return f"Teachers likely move too far in an epoch: try a lower --teacher-rate, {auto}"
    steps = settings["steps"]
    return f"More steps are likely needed: try --steps {4 * steps}, {auto}"


def _loss_at_the_end(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean over the last tenth of the steps, of a loss that is relative to the target's way."""
    losses = [
        row["loss"] for row in rows if isinstance(row.get("loss"), float) and "kept_fraction" in row
    ]
    if not losses:
        return None
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)
