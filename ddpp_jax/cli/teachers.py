"""`python -m ddpp_jax.teachers`: the first stage alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, NoReturn

import tyro

from ddpp_jax import cluster
from ddpp_jax.cli.arguments import flag_names
from ddpp_jax.cli.flags import Hooks, base, run_with_setting, say_idle
from ddpp_jax.cli.imports import run_import
from ddpp_jax.cli.shown import DryRun, Joined, Shown, dry_run
from ddpp_jax.configs import DistillJob, Places, TeachersJob
from ddpp_jax.errors import InputError
from ddpp_jax.planning import machines, trial, work, workload
from ddpp_jax.planning.limits import require_teaching
from ddpp_jax.planning.problem import (
    Problem,
    describe,
    load,
    prepare,
    result,
    show,
    teacher_row,
    train_teachers,
)
from ddpp_jax.planning.programs import keep_programs
from ddpp_jax.planning.scaling import Kind, Kinds
from ddpp_jax.planning.sizes import describe_teaching
from ddpp_jax.progress import Report


def run_teachers(job: TeachersJob, places: Places, report: Report, *, dry: DryRun | None) -> None:
    """Train the teachers that are missing, and show how good all of them are.

    Args:
        job: what is asked for.
        places: where things are kept.
        report: told as it goes on.
        dry: what is only to be said; None begins.
    """
    problem = cluster.together(lambda: prepare(job, places))
    describe(job, problem, report)
    cluster.agreed(lambda: require_teaching(job, problem, places))
    if dry is not None:
        describe_teaching(job, problem, report)
        _describe(job, problem, report, dry.devices)
        return
    keep_programs(places.cache_dir)
    train_teachers(job, problem, load(job, problem, places, report), report)
    row = cluster.agreed(lambda: teacher_row(job, problem))
    show(result(job, problem.raw, [row]), report)
    report.say(f"Their trajectories are in {problem.store.folder}")


def _describe(job: TeachersJob, problem: Problem, report: Report, devices: int | None) -> None:
    """Say how long it would take here, and on some devices."""
    missing = len(problem.store.missing(job.teaching.teachers))
    stages = [work.teaching(missing, job.teaching.epochs)]

    def tried() -> work.Costs:
        return work.Costs(trial.epoch_seconds(job, problem) if missing else 0.0, 0.0, 0.0)

    costs = trial.describe_stages(tried, stages, problem.network.num_params, report)
    if devices is not None and costs is None:
        machines.say_unknown(devices, report)
    elif devices is not None and costs is not None:
        shapes = workload.shapes_of(problem.raw)
        kind = workload.teaching_kind(job.teaching, problem.network, shapes, missing)
        kinds = Kinds(kind, Kind(), Kind())
        machines.describe([machines.Tried(stages[0], costs, lambda _: kinds)], devices, report)


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
    named: set[str] = set()

    def base_fn(name: str | None, flags: Sequence[str]) -> DistillJob:
        named.update(flag_names(flags))
        return base(name)

    def work(command: _Teachers, report: Report) -> None:
        say_idle(named & set(command.config.teaching.unused), report)
        if command.buffers:
            if command.joined.devices is not None:
                raise InputError(
                    "--devices is for training, and --import trains none; leave it out"
                )
            dry = command.shown.dry_run
            run_import(command.config, command.buffers, command.places, report, dry=dry)
        else:
            dry = dry_run(command.shown, command.joined)
            run_teachers(command.config, command.places, report, dry=dry)

    def default(job: DistillJob) -> _Teachers:
        return _Teachers(
            config=TeachersJob(data=job.data, model=job.model, teaching=job.teaching, seed=job.seed)
        )

    about = "Train teachers and keep their trajectories."
    hooks = Hooks(base_fn=base_fn, joined_fn=lambda command: command.joined)
    run_with_setting("teachers", about, arguments, default, work, hooks)
