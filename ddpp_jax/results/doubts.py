"""Whether a distilled set is worth anything, and what most likely went wrong where it is not."""

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple, TypeAlias

NEAR_ONE = 0.95
"""A matching loss above this says that students get nowhere near their targets."""

_STILL, _FAR = 0.05, 20.0
"""How far pixels move, in deviations of the data: hardly, and beyond all sense."""

_FELL, _ROSE = 0.3, 10.0
"""Alpha in a tenth of the steps, and at the end, relative to the first."""

_LOW = 0.05
"""Alpha relative to what would be a usual one, below which students hardly move."""

_TEACHERS_LOSS = 0.95
"""The loss of the last epoch relative to the first, above which teachers learn nothing."""

_ROUGH = 0.7
"""Mean cosine between what neighbouring first epochs of a teacher change, below which its path is
no longer smooth. A rate that was found by the program is at 0.8, or the lowest that teaches enough
(`tuning.teaching`), and then a lower one is no remedy."""


class Evidence(NamedTuple):
    """What a distillation left that tells of its causes.

    Attributes:
        rows: of `metrics.jsonl`.
        change: the root mean square of how far pixels moved to the last set, in deviations of the
            data.
        teacher_losses: the mean loss of each epoch over the teachers; empty without teachers.
        settings: of the method and the teachers, by name; `method` is that of the run.
        teachers: the test accuracy of the teachers, from 0 to 1; None without teachers.
        found: the names of the settings that the program found.
        smoothness_fn: the mean cosine between what the first epochs of the teachers change; None
            without teachers, or with too few epochs to tell.
        usual_alpha: what a search would begin with; None without teachers of its own.
        epochs_as_one: how many epochs have some 20 SGD steps, where one has fewer.
    """

    rows: Sequence[Mapping[str, Any]]
    change: float
    teacher_losses: Sequence[float]
    settings: Mapping[str, Any]
    teachers: float | None = None
    found: Collection[str] = ()
    smoothness_fn: Callable[[], float | None] = lambda: None
    usual_alpha: float | None = None
    epochs_as_one: int = 1


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
    settings = evidence.settings
    cause, flags = (
        _of_losses(evidence)
        or _of_passed(evidence)
        or _of_low_alpha(evidence, loss)
        or _of_pixels(evidence)
        or _of_teachers(evidence, random)
        or _of_alpha(evidence)
        or _of_targets(evidence, loss)
        or ("More steps are likely needed", f"--steps {4 * settings['steps']}")
    )
    auto = "with a larger --budget" if evidence.found else "with --auto"
    # Settings are not searched for teachers that were imported.
    other = f", or a run {auto}," if settings.get("imported") is None else ""
    return f"{cause}: try --method {settings['method']} {flags}{other} in a new folder"


_Cause: TypeAlias = tuple[str, str]
"""What was likely wrong, and the flags that may mend it."""


def _of_losses(evidence: Evidence) -> _Cause | None:
    rows = [row for row in evidence.rows if "loss" in row]
    broken = sum(bool(row.get("skipped")) or not isinstance(row["loss"], float) for row in rows)
    if 2 * broken <= len(rows):
        return None
    settings, by_alpha = evidence.settings, any("alpha" in row for row in rows)
    flags = [f"--pixel-rate {settings['pixel_rate'] / 10:g}"]
    flags += [f"--alpha {settings['alpha'] / 10:g}"] if by_alpha else []
    what = "alpha or the pixel rate" if by_alpha else "the pixel rate"
    return (
        f"The loss or gradient of {broken} of {len(rows)} steps was not finite, so {what} is "
        "likely too high",
        " ".join(flags),
    )


def _of_passed(evidence: Evidence) -> _Cause | None:
    passed, most = sum(bool(row.get("passed_over")) for row in evidence.rows), len(evidence.rows)
    if 2 * passed <= most:
        return None
    above = evidence.settings["skip_above"]
    return (
        f"{passed} of {most} steps changed nothing, since their loss was above {above:g}",
        "--skip-above none",
    )


def _of_low_alpha(evidence: Evidence, loss: float | None) -> _Cause | None:
    alphas, usual = _alphas(evidence), evidence.usual_alpha
    near_one = loss is not None and loss > NEAR_ONE
    if not alphas or usual is None or not near_one or max(alphas) >= _LOW * usual:
        return None
    return (
        f"Students hardly move at an alpha of {alphas[-1]:.2g}, so it is likely too low",
        f"--alpha {usual:g}",
    )


def _of_teachers(evidence: Evidence, random: Mapping[str, Any] | None) -> _Cause | None:
    losses, rate = evidence.teacher_losses, evidence.settings.get("teacher_rate")
    if rate is None or evidence.settings.get("imported") is not None:
        return None  # Nothing follows from their rate.
    lower, higher = (f"--teacher-rate {new:.2g}" for new in (rate / 5, 5 * rate))
    smoothness = evidence.smoothness_fn()
    if len(losses) > 1 and not losses[-1] < _TEACHERS_LOSS * losses[0]:
        went = f"The teachers' loss goes from {losses[0]:.2f} to {losses[-1]:.2f}"
        if smoothness is not None and smoothness >= _ROUGH:
            return f"{went} on a straight path, so their rate is likely too low", higher
        return f"{went}, so their rate is likely too high", lower
    found = "teacher_rate" in evidence.found
    if smoothness is not None and smoothness < _ROUGH and not found:
        return (
            "From epoch to epoch the teachers turn, with a mean cosine of "
            f"{smoothness:.2f} between two changes (0.8 is a smooth path), so their rate is likely "
            "too high",
            lower,
        )
    if evidence.teachers is not None and random and evidence.teachers < random["mean"]:
        uneven = "" if evidence.settings.get("balance") else ", or --balance if classes are uneven"
        return (
            f"The teachers themselves reach {100 * evidence.teachers:.1f} %, so they have learnt "
            "too little",
            f"{higher}, or more --epochs{uneven}",
        )
    return None


def _alphas(evidence: Evidence) -> list[float]:
    return [row["alpha"] for row in evidence.rows if isinstance(row.get("alpha"), float)]


def _of_alpha(evidence: Evidence) -> _Cause | None:
    alphas = _alphas(evidence)
    if not alphas:
        return None
    early, rate = alphas[len(alphas) // 10], evidence.settings["alpha_rate"] / 10
    if early < _FELL * alphas[0]:
        return (
            f"Alpha fell from {alphas[0]:.2g} to {early:.2g} at once, so it or its rate is likely "
            "too high",
            f"--alpha {alphas[0] / 2:.2g} --alpha-rate {rate:g}",
        )
    if alphas[-1] > _ROSE * alphas[0]:
        return (
            f"Alpha rose from {alphas[0]:.2g} to {alphas[-1]:.2g}, so it began too low, or its "
            "rate is likely too high",
            f"--alpha {3 * alphas[0]:.2g} --alpha-rate {rate:g}",
        )
    return None


def _of_pixels(evidence: Evidence) -> _Cause | None:
    rate, moved = evidence.settings["pixel_rate"], f"Pixels moved by {evidence.change:.2g} "
    if evidence.change < _STILL:
        return (
            f"{moved}deviations, so the pixel rate is likely too low",
            f"--pixel-rate {10 * rate:g}",
        )
    if evidence.change > _FAR:
        return (
            f"{moved}deviations, so the pixel rate is likely too high",
            f"--pixel-rate {rate / 10:g}",
        )
    return None


def _of_targets(evidence: Evidence, loss: float | None) -> _Cause | None:
    settings = evidence.settings
    if loss is None or loss <= NEAR_ONE or "target_epochs" not in settings:
        return None
    if settings["target_epochs"] > evidence.epochs_as_one:
        return "Targets are likely too far", f"--target-epochs {evidence.epochs_as_one}"
    if settings.get("imported") is not None:
        return None
    rate = settings["teacher_rate"]
    return "Teachers likely move too far in an epoch", f"--teacher-rate {rate / 3:.2g}"


def _loss_at_the_end(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The mean over the last tenth of the steps, of a loss that is relative to the target's way."""
    losses = [
        row["loss"] for row in rows if isinstance(row.get("loss"), float) and "kept_fraction" in row
    ]
    if not losses:
        return None
    last = losses[-max(1, len(losses) // 10) :]
    return sum(last) / len(last)
