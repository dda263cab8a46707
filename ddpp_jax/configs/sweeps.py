"""Several distillations that differ in one setting, as `--sweep` names them."""

import dataclasses

from ddpp_jax.configs.jobs import DistillJob
from ddpp_jax.errors import InputError

SWEPT = ("threshold", "seed", "alpha", "pixel-rate", "alpha-rate")
"""What may differ between distillations that run as one program: nothing that changes a shape."""


def sweep_jobs(job: DistillJob, text: str) -> tuple[str, dict[str, DistillJob]]:
    """The setting that differs, and for each of its values, as written, the job that has it.

    A member is distilled and judged by itself: without baselines, and without evaluations on the
    way, so that all of them go through the same steps.

    Args:
        job: what the members share.
        text: such as `threshold=none,0.05,0.1` or `seed=0,1,2`.

    Raises:
        InputError: the text is not of that form, or a value is not one of the setting's.
    """
    name, _, values = text.partition("=")
    name, listed = name.strip().replace("_", "-"), [value.strip() for value in values.split(",")]
    if name not in SWEPT:
        raise InputError(
            f"--sweep {text!r} sweeps {name!r}; wanted one of {', '.join(SWEPT)}, such as "
            "threshold=none,0.05,0.1"
        )
    if job.evaluation.iterate != "last":
        raise InputError(
            f"--sweep judges the last sets; --iterate {job.evaluation.iterate} needs runs alone"
        )
    alone = dataclasses.replace(
        job,
        baselines=False,
        distillation=dataclasses.replace(job.distillation, eval_every=0),
    )
    jobs = {value: _with(alone, name, value) for value in listed if value}
    if len(set(jobs.values())) < max(2, len(listed)):
        raise InputError(f"--sweep {text!r} wants two or more different values after {name}=")
    return name, jobs


def _with(job: DistillJob, name: str, value: str) -> DistillJob:
    if name == "seed":
        return dataclasses.replace(job, seed=_number(name, value, int))
    number = None
    if not (name == "threshold" and value.lower() == "none"):
        number = _number(name, value, float)
    changed = {name.replace("-", "_"): number}
    return dataclasses.replace(job, distillation=dataclasses.replace(job.distillation, **changed))


def _number(name: str, value: str, kind: type[int] | type[float]) -> int | float:
    try:
        return kind(value)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        wanted += " or none" if name == "threshold" else ""
        raise InputError(f"--sweep has {name} {value!r}; wanted {wanted}") from None
