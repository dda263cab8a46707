"""The distillations of a job: its own, MTT beside it, or one for each value of a setting."""

import dataclasses
from dataclasses import dataclass
from typing import Any

from ddpp_jax._types import MASKS
from ddpp_jax.configs.distillation import TrajectoryConfig
from ddpp_jax.configs.jobs import DistillJob
from ddpp_jax.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class MemberJob:
    """One of the distillations of a job.

    Attributes:
        part: the folder below the run's own in which it lies; empty for the run's own.
        title: what tables call it.
        job: its settings.
        value: of the setting that is swept, as it was written; None where none is.
    """

    part: str
    title: str
    job: DistillJob
    value: str | None = None


def members_of(job: DistillJob, sweep: str | None = None) -> list[MemberJob]:
    """The distillations of a job, in the order in which tables show them.

    MTT goes beside DDPP where baselines are wanted. A member of a sweep has no baselines, and no
    evaluations on the way.

    Args:
        job: what they share.
        sweep: the setting that differs and its values, such as `threshold=none,0.05,0.1` or
            `seed=0,1,2`; None for no sweep.

    Raises:
        InputError: the text is not of that form, or a value is not one of the setting's.
    """
    if sweep is not None:
        return _swept(job, sweep)
    own = MemberJob(part="", title=job.distillation.title, job=job)
    settings = job.distillation
    if not isinstance(settings, TrajectoryConfig) or not settings.prunes:
        return [own]
    if not job.baselines:
        return [own]
    settings = settings.without_mask()
    other = dataclasses.replace(job, method="mtt", distillation=settings)
    return [MemberJob(part="mtt", title=settings.title, job=other), own]


def swept_name(sweep: str) -> str:
    """The name of the setting that is swept."""
    return sweep.partition("=")[0].strip().replace("_", "-")


def differences_of(member: MemberJob, job: DistillJob) -> dict[str, Any]:
    """What a member has otherwise than the job: the values by their names with dots."""
    return _differences(dataclasses.asdict(job), dataclasses.asdict(member.job), "")


def _differences(own: dict[str, Any], theirs: dict[str, Any], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in theirs.items():
        if isinstance(value, dict):
            found |= _differences(own[name], value, f"{prefix}{name}.")
        elif value != own[name]:
            found[f"{prefix}{name}"] = value
    return found


def _swept(job: DistillJob, sweep: str) -> list[MemberJob]:
    name, listed = swept_name(sweep), [v.strip() for v in sweep.partition("=")[2].split(",")]
    sweepable = ("seed", *job.distillation.SWEPT)
    if name not in sweepable:
        raise InputError(
            f"--sweep {sweep!r} sweeps {name!r}; wanted one of {', '.join(sweepable)}, such as "
            f"{sweepable[1]}=..."
        )
    if name.replace("-", "_") in job.distillation.unused:
        raise InputError(
            f"--sweep {sweep!r}: nothing follows from --{name} with the other settings; see --help"
        )
    if job.evaluation.which != "last":
        raise InputError(
            f"--sweep evaluates the last sets; --which {job.evaluation.which} needs runs alone"
        )
    settings = dataclasses.replace(job.distillation, eval_every=0)
    alone = dataclasses.replace(job, baselines=False, distillation=settings)
    jobs = {value: _with(alone, name, value) for value in listed if value}
    if len(set(jobs.values())) < max(2, len(listed)):
        raise InputError(f"--sweep {sweep!r} wants two or more different values after {name}=")
    return [
        MemberJob(part=f"{name}-{value}", title=f"{name} {value}", job=one, value=value)
        for value, one in jobs.items()
    ]


def _with(job: DistillJob, name: str, value: str) -> DistillJob:
    if name == "seed":
        return dataclasses.replace(job, seed=_number(name, value, int))
    changed: dict[str, Any] = {name.replace("-", "_"): _value(name, value)}
    if changed == {"mask": "none"}:
        assert isinstance(job.distillation, TrajectoryConfig)
        return dataclasses.replace(job, distillation=job.distillation.without_mask())
    settings = dataclasses.replace(job.distillation, **changed)
    return dataclasses.replace(job, distillation=settings)


def _value(name: str, value: str) -> float | str | None:
    """What a swept setting of the distillation becomes."""
    if name == "threshold" and value.lower() == "none":
        return None
    if name != "mask":
        return _number(name, value, float)
    if value not in MASKS:
        raise InputError(f"--sweep has mask {value!r}; wanted one of {', '.join(MASKS)}")
    return value


def _number(name: str, value: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(value)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        wanted += " or none" if name == "threshold" else ""
        raise InputError(f"--sweep has {name} {value!r}; wanted {wanted}") from None
