"""Each step of class-incremental learning as a distillation, or a choice, of its own."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ddpp_jax.cli.job import distil_members
from ddpp_jax.cli.methods import Made, Sources, make_method
from ddpp_jax.cli.runs import Run, prepare_run
from ddpp_jax.cli.select import chosen_set, with_one_teacher
from ddpp_jax.cli.sets import SmallSet, read_set
from ddpp_jax.configs import (
    AlignmentConfig,
    DistillJob,
    EvaluateJob,
    Places,
    RealConfig,
    SelectJob,
)
from ddpp_jax.continual import Task, draw_seed, taken
from ddpp_jax.data import Dataset, of_classes
from ddpp_jax.errors import InputError
from ddpp_jax.methods import Room
from ddpp_jax.planning.identities import identity_of
from ddpp_jax.planning.problem import Problem, prepare, train_teachers
from ddpp_jax.planning.sizes import choose_reading
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet, read_distilled, set_path, write_distilled
from ddpp_jax.storage import claimed_folder

OF_ONE_CLASS = ("random", "dm")
"""Methods that ask nothing of how classes differ."""


@dataclass(frozen=True, kw_only=True)
class Compared:
    """What is compared: a method, or a set that is given.

    Attributes:
        name: short, for the names of folders.
        title: what tables call it.
        job: its settings, for all classes at once; None of a set that is given.
        given: the set, of all classes; None of a method.
    """

    name: str
    title: str
    job: DistillJob | SelectJob | None = None
    given: SmallSet | None = None

    @property
    def needs_teachers(self) -> bool:
        """Whether it reads networks that were trained on a step's classes."""
        if isinstance(self.job, SelectJob):
            return self.job.selection.method != "random"
        return self.job is not None and self.job.distillation.last_epoch is not None


@dataclass(frozen=True, kw_only=True)
class Whole:
    """What all steps of all methods share.

    Attributes:
        raw: all classes, as they came.
        places: where teachers and whitenings are kept.
        folder: of the run.
        seed: of all draws but the orders.
        programs: the steps of the methods that were compiled, by method and number of classes.
    """

    raw: Dataset
    places: Places
    folder: Path
    seed: int
    programs: dict[tuple[Any, ...], Callable[..., Any]] = field(default_factory=dict)

    def part(self, compared: Compared, task: Task) -> Path:
        """The folder of a step of a method in an order."""
        return self.folder / f"{compared.name}-order{task.order}-step{task.number + 1}"


def given_sets(
    job: DistillJob,
    sets: Sequence[Path],
    raw: Dataset,
    places: Places,
    report: Report,
    *,
    dry: bool,
) -> list[Compared]:
    """Small sets that are given, as what is compared.

    Args:
        job: how they are evaluated.
        sets: their files or folders.
        raw: all classes, as they came.
        places: where a whitening is kept.
        report: told how their images are seen.
        dry: keep no whitening.

    Raises:
        InputError: one cannot be taken, or lacks a class.
    """
    own = EvaluateJob(data=job.data, model=job.model, evaluation=job.evaluation)
    found = []
    for path in sets:
        small = read_set(own, path, raw, None if dry else places.cache_dir, report)
        if small.said:
            report.say(small.said)
        hard = small.labels if small.labels.ndim == 1 else small.labels.argmax(axis=1)
        missing = [n for label, n in enumerate(raw.class_names) if label not in hard]
        if missing:
            raise InputError(
                f"{path} has no image of {', '.join(missing)}, and all classes arrive; give a set "
                "of all"
            )
        name = f"set-{small.digest[:8]}"
        found.append(Compared(name=name, title=str(path), given=small))
    return found


def require_distinct(compared: Sequence[Compared]) -> None:
    """Refuse two that nothing tells apart, and nothing at all.

    Raises:
        InputError: it is so.
    """
    if not compared:
        raise InputError("nothing to compare; give --methods, such as random,dm, or --sets")
    names, titles = [one.name for one in compared], [one.title for one in compared]
    for place, one in enumerate(compared):
        if one.name in names[:place] or one.title in titles[:place]:
            raise InputError(f"{one.title} is compared twice with these settings; name it once")


def require_classes(compared: Compared, fewest: int, steps: int, classes: int) -> None:
    """Refuse steps of a single class where a method learns what tells classes apart.

    Args:
        compared: the method.
        fewest: classes in a step.
        steps: how many there are.
        classes: how many there are in all.

    Raises:
        InputError: there is nothing for it to learn.
    """
    if fewest < 2 and compared.job is not None and compared.name not in OF_ONE_CLASS:
        raise InputError(
            f"--class-steps {steps} leaves steps of one class, of which {compared.name} learns "
            f"nothing; give {max(1, classes // 2)} or fewer, or --methods {','.join(OF_ONE_CLASS)}"
        )


def step_run(compared: Compared, task: Task, whole: Whole) -> Run:
    """The distillation of a step; nothing is computed or written yet.

    Raises:
        InputError: it cannot be done.
    """
    job = compared.job
    assert isinstance(job, DistillJob)
    settings = dataclasses.replace(job.distillation, eval_every=0)
    if isinstance(settings, RealConfig):
        # As many as the smallest of all classes has, so that all steps are of one kind.
        smallest = int(np.bincount(whole.raw.y_train).min())
        settings = dataclasses.replace(settings, real_batch=min(settings.real_batch, smallest))
    seed = draw_seed(whole.seed, task)
    own = dataclasses.replace(job, distillation=settings, seed=seed, baselines=False)
    raw = of_classes(whole.raw, task.classes)
    return prepare_run(own, whole.places, whole.part(compared, task), None, raw)


def step_choice(compared: Compared, task: Task, whole: Whole) -> tuple[SelectJob, Problem]:
    """The choice of real images of a step; nothing is computed or written yet."""
    assert isinstance(compared.job, SelectJob)
    own = dataclasses.replace(compared.job, seed=draw_seed(whole.seed, task))
    own = with_one_teacher(own)
    return own, prepare(own, whole.places, of_classes(whole.raw, task.classes))


def identity_of_step(compared: Compared, task: Task, whole: Whole) -> dict[str, Any]:
    """What the folder of a step is claimed for."""
    if compared.given is not None:
        own: dict[str, Any] = {"set": compared.given.digest, "fingerprint": whole.raw.fingerprint}
        own |= {"config": {"data": {"dataset": whole.raw.name}}}
    elif isinstance(compared.job, SelectJob):
        job, problem = step_choice(compared, task, whole)
        own = identity_of(job, problem.raw)
    else:
        own = step_run(compared, task, whole).identity
    classes = [whole.raw.class_names[label] for label in task.classes]
    return own | {"order": task.order, "step": task.number + 1, "classes": classes}


def condense(
    compared: Compared, task: Task, dataset: Dataset, whole: Whole, report: Report
) -> DistilledSet:
    """The small set of a step; one that is there already is read.

    Args:
        compared: the method that makes it, or the set of all classes that it is taken from.
        task: the step.
        dataset: the data of its classes alone, as networks see them.
        whole: what all steps share; its folder is held by this process.
        report: told as it goes on.

    Raises:
        InputError: it could not be made.
    """
    given = compared.given
    if given is not None:
        names = whole.raw.class_names
        return taken(DistilledSet(given.images, given.labels, given.rate, names), task)
    part = whole.part(compared, task)
    path = set_path(part, "last")
    with claimed_folder(part, identity_of_step(compared, task, whole), name="config.json"):
        if not path.exists():
            _make(compared, task, dataset, whole, report)
        return read_distilled(path, remedy="delete it, and the same command makes it again")


def _make(compared: Compared, task: Task, dataset: Dataset, whole: Whole, report: Report) -> None:
    """Make the small set of a step, and leave it in its folder."""
    if isinstance(compared.job, SelectJob):
        job, problem = step_choice(compared, task, whole)
        chosen = chosen_set(job, problem, dataset, report)
        write_distilled(set_path(whole.part(compared, task), "last"), chosen, run=whole.folder)
        return
    run = step_run(compared, task, whole)
    stream = False
    if run.needs_teachers:
        train_teachers(run.job, run.problem, dataset, report)
        stream = choose_reading(run.job, run.problem, whole.places.read, Report(None))
    room = room_of(whole.raw, len(task.classes))
    sources = Sources(run.problems, dataset, stream, room)
    made = _as_compiled(make_method(run.job, sources, members=run.members), compared, run, whole)
    name = f"distil {compared.title}"
    distil_members(run, sources, made, report, shared=whole.folder, name=name)


def room_of(raw: Dataset, classes: int) -> Room:
    """How large the pool of real images is for any so many classes of the data."""
    counts = np.sort(np.bincount(raw.y_train))
    return Room(int(counts[-classes:].sum()), int(counts[-1]))


def _as_compiled(made: Made, compared: Compared, run: Run, whole: Whole) -> Made:
    """The method with the step that was compiled for an earlier one of as many classes."""
    raw, settings = run.problem.raw, run.job.distillation
    place: tuple[Any, ...] = (compared.name, raw.classes)
    if isinstance(settings, AlignmentConfig):  # It asks for more images than it matches.
        place += (int(np.bincount(raw.y_train).min()),)
    step = whole.programs.setdefault(place, made.method.step)
    return made._replace(method=made.method._replace(step=step))
