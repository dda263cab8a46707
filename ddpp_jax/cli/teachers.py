"""`python -m ddpp_jax.teachers`: the first stage alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Annotated, NoReturn

import tyro

from ddpp_jax import cluster
from ddpp_jax.cli.flags import Hooks, Joined, Shown, run_with_setting
from ddpp_jax.cli.imports import run_import
from ddpp_jax.configs import DistillJob, Places, TeachersJob
from ddpp_jax.planning import trial
from ddpp_jax.planning.limits import require_teaching
from ddpp_jax.planning.problem import (
    describe,
    load,
    prepare,
    result,
    show,
    teacher_row,
    train_teachers,
)
from ddpp_jax.planning.programs import keep_programs
from ddpp_jax.planning.sizes import describe_teaching
from ddpp_jax.progress import Report


def run_teachers(job: TeachersJob, places: Places, report: Report, *, dry: bool) -> None:
    """Train the teachers that are missing, and show how good all of them are."""
    problem = cluster.together(lambda: prepare(job, places))
    describe(job, problem, report)
    cluster.agreed(lambda: require_teaching(job, problem, places))
    if dry:
        describe_teaching(job, problem, report)
        tried = partial(trial.teaching_seconds, job, problem)
        trial.describe(tried, problem.network.num_params, report)
        return
    keep_programs(places.cache_dir)
    train_teachers(job, problem, load(job, problem, places, report), report)
    row = cluster.agreed(lambda: teacher_row(job, problem))
    show(result(job, problem.raw, [row]), report)
    report.say(f"Their trajectories are in {problem.store.folder}")


@dataclass(frozen=True, kw_only=True)
class _Teachers:
    config: TeachersJob
    places: Places = field(default_factory=Places)
    shown: Shown = field(default_factory=Shown)
    joined: Joined = field(default_factory=Joined)

    buffers: Annotated[tuple[Path, ...], tyro.conf.arg(name="import")] = ()
    """Train none, but import MTT's: replay_buffer_*.pt, or their folder (needs PyTorch)."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Train teachers: `python -m ddpp_jax.teachers [SETTING]`."""

    def work(command: _Teachers, report: Report) -> None:
        dry = command.shown.dry_run
        if command.buffers:
            run_import(command.config, command.buffers, command.places, report, dry=dry)
        else:
            run_teachers(command.config, command.places, report, dry=dry)

    def default(job: DistillJob) -> _Teachers:
        return _Teachers(
            config=TeachersJob(data=job.data, model=job.model, teaching=job.teaching, seed=job.seed)
        )

    about = "Train teachers and keep their trajectories."
    hooks = Hooks(joined_fn=lambda command: command.joined)
    run_with_setting("teachers", about, arguments, default, work, hooks)
