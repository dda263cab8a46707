"""A run of `python -m ddpp_jax.distill`: what it is, what it needs and what it would take."""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from ddpp_jax import distill
from ddpp_jax.cli.demands import check, check_kernel, lighter, words
from ddpp_jax.cli.methods import Made, Sources, make_method
from ddpp_jax.configs import (
    DistillJob,
    MemberJob,
    Places,
    differences_of,
    digest,
    members_of,
    swept_name,
)
from ddpp_jax.data import Dataset
from ddpp_jax.methods import Method
from ddpp_jax.planning import machines, trial, work, workload
from ddpp_jax.planning.identities import identity_of
from ddpp_jax.planning.limits import require_distillation, require_teaching
from ddpp_jax.planning.problem import Problem, prepare
from ddpp_jax.planning.scaling import Kinds
from ddpp_jax.planning.sizes import describe_distillation, describe_teaching, read_bytes
from ddpp_jax.planning.sources import data_of
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet, set_path

Change: TypeAlias = Callable[[DistillJob], DistillJob]
"""What makes another job of one."""


def as_it_is(job: DistillJob) -> DistillJob:
    """The same job."""
    return job


@dataclass(frozen=True, kw_only=True)
class Run:
    """A run that is asked for.

    Attributes:
        job: what all its distillations share.
        members: its distillations.
        sweep: the name of the setting that is swept; None where none is.
        problems: the data and the teachers of each seed.
        folder: of the run.
        proven: whether the folder is named by what it holds.
        identity: what the folder is claimed for.
    """

    job: DistillJob
    members: Sequence[MemberJob]
    sweep: str | None
    problems: Mapping[int, Problem]
    folder: Path
    proven: bool
    identity: dict[str, Any]

    @property
    def problem(self) -> Problem:
        """The data and the network, which all seeds share."""
        return next(iter(self.problems.values()))

    @property
    def teachers(self) -> Mapping[int, Problem]:
        """The problems, one for each store of teachers, by the first seed that reads it."""
        firsts: dict[Path, int] = {}
        for seed, problem in self.problems.items():
            firsts.setdefault(problem.store.folder, seed)
        return {seed: self.problems[seed] for seed in firsts.values()}

    @property
    def needs_teachers(self) -> bool:
        """Whether the method reads the teachers' trajectories."""
        return self.job.distillation.last_epoch is not None

    def place(self, member: MemberJob) -> Path:
        """The folder of one of the distillations."""
        return self.folder / member.part

    def is_complete(self) -> bool:
        """Whether its results are there, and the sets that they are of."""
        wanted = {"last", self.job.evaluation.which}
        found = self.folder / "result.json"
        lost = [
            place
            for member in self.members
            for place in (set_path(self.place(member), which) for which in wanted)
            if not place.exists() and not (self.place(member) / "given-up.json").exists()
        ]
        return found.exists() and not lost


def prepare_run(
    job: DistillJob,
    places: Places,
    out: Path | None,
    sweep: str | None,
    raw: Dataset | None = None,
) -> Run:
    """The run, its data read; nothing is computed or written yet.

    Args:
        job: what is asked for.
        places: where things are kept.
        out: the run's folder; None chooses one below `runs`.
        sweep: a setting and its values; None for no sweep.
        raw: the data, where they were read before, or are some of the job's classes alone.

    Raises:
        InputError: it cannot be done.
    """
    members = members_of(job, sweep)
    raw = data_of(job.data, places) if raw is None else raw
    check(job.distillation, raw)
    check_kernel(job, raw)
    # Members of one seed share their teachers, members of all seeds their data.
    of_seed = {member.job.seed: member.job for member in members}
    problems = {seed: prepare(one, places, raw) for seed, one in of_seed.items()}
    parts = {member.part: differences_of(member, job) for member in members if member.part}
    identity = identity_of(job, raw) | ({"members": parts} if parts else {})
    kind = "" if sweep is None else f"-{swept_name(sweep)}"
    own = Path("runs") / f"{raw.name}-ipc{job.distillation.ipc}{kind}-{digest(identity)}"
    return Run(
        job=job,
        members=members,
        sweep=None if sweep is None else swept_name(sweep),
        problems=problems,
        folder=out or own,
        proven=out in (None, own),
        identity=identity,
    )


def described(run: Run) -> str:
    """The run in a line."""
    settings, count = run.job.distillation, len(run.members)
    images = settings.ipc * run.problem.raw.classes
    said = f"{images} distilled images, {settings.steps} steps: {words(settings)}"
    if run.sweep is not None:
        values = ", ".join(str(member.value) for member in run.members)
        said += f"; {count} distillations side by side, {run.sweep} {values}, without baselines"
    elif count > 1:
        said += f"; {' and '.join(member.title for member in run.members)} side by side"
    return f"{said}; in {run.folder}"


def require_run(run: Run, places: Places, *, stream: bool) -> None:
    """Refuse what the run would be refused for later."""
    if run.needs_teachers:
        for seed, problem in run.teachers.items():
            require_teaching(dataclasses.replace(run.job, seed=seed), problem, places)
    require_distillation(
        run.job, run.problem, made_of(run).method, stream=stream, copies=len(run.teachers)
    )


def describe_work(run: Run, report: Report, *, stream: bool, devices: int | None = None) -> None:
    """Say what the run would take: for `--dry-run`.

    Args:
        run: that is asked for.
        report: told of it.
        stream: whether the teachers are read from disk as they are needed.
        devices: also say what it would take on so many; None leaves that out.
    """
    member, made = example_of(run)
    needed = describe_distillation(run.job, run.problem, (made.method, member), report)
    if run.needs_teachers:
        describe_teaching(run.job, run.problem, report)
    if (run.folder / "result.json").exists():
        report.say(f"{run.folder} is complete, and takes no more time")
        return
    small, quick = example_of(run, lighter)
    times = made_of(run).method.operations / quick.method.operations
    examples = [small] * len(run.members)
    step_fn = partial(trial.step_seconds, quick.method, examples, needed=needed)
    stages = stages_of(run)
    tried = partial(trial.unit_seconds, run.job, run.problem, stages, lambda: times * step_fn())
    costs = trial.describe_stages(tried, stages, run.problem.network.num_params, report)
    if devices is None:
        return
    if costs is None:
        machines.say_unknown(devices, report)
        return
    missing = round(sum(stage.epochs for stage in stages) / run.job.teaching.epochs)
    size = read_bytes(run.job, run.problem, copies=len(run.teachers)) if run.needs_teachers else 0
    reading = workload.Trajectories(size, stream)
    kinds_fn = partial(_kinds, run, made_of(run).method, missing, reading, needed)
    machines.describe([machines.Tried(stage, costs, kinds_fn) for stage in stages], devices, report)


def _kinds(
    run: Run,
    method: Method,
    missing: int,
    reading: workload.Trajectories,
    needed: int | None,
    paces: work.Costs,
) -> Kinds:
    """What a run has of each kind of work, where its units take some seconds."""
    job, problem = run.job, run.problem
    network, shapes = problem.network, workload.shapes_of(problem.raw)
    return Kinds(
        workload.teaching_kind(job.teaching, network, shapes, missing),
        workload.step_kind(
            job.distillation,
            network,
            shapes,
            method,
            reading,
            members=len(run.members),
            needed=needed,
            seconds=paces.step,
        ),
        workload.evaluation_kind(
            job.evaluation,
            network,
            shapes,
            job.distillation.ipc * shapes.classes,
            seconds=paces.evaluation,
        ),
    )


def stages_of(run: Run) -> list[work.Stage]:
    """The stages of a run that has not begun."""
    problems = run.teachers.values() if run.needs_teachers else ()
    missing = sum(len(one.store.missing(run.job.teaching.teachers)) for one in problems)
    titles = [member.title for member in run.members]
    return work.stages(run.job, missing, titles, run.problem.raw)


def made_of(run: Run, change: Change = as_it_is) -> Made:
    """The method, not to be fed yet: of the run's job, or of one that differs in its steps."""
    shape = run.problem.raw.x_train.shape[1:]
    return make_method(
        change(run.job),
        Sources(run.problems),
        members=[dataclasses.replace(one, job=change(one.job)) for one in run.members],
        image_operations=work.forward_operations(run.problem.network, shape),
    )


def example_of(run: Run, change: Change = as_it_is) -> tuple[distill.Member, Made]:
    """A distillation of the run's sizes, with made-up images, and its method."""
    made, raw, job = made_of(run, change), run.problem.raw, change(run.members[0].job)
    labels = np.arange(job.distillation.ipc * raw.classes, dtype=np.int32) % raw.classes
    shape = (len(labels), *raw.x_train.shape[1:])
    images = np.asarray(jax.random.normal(jax.random.key(0), shape, np.float32))
    start = DistilledSet(images, labels, job.distillation.alpha)
    hparams = made.hparams_fn(job.distillation)
    return distill.Member("example", 0, start, hparams, Path()), made
