"""What class-incremental learning would be refused for, and what it would take."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ddpp_jax import teachers
from ddpp_jax.cli.condensing import Compared, Whole, step_choice, step_run
from ddpp_jax.cli.demands import lighter
from ddpp_jax.cli.runs import example_of, made_of, require_run
from ddpp_jax.configs import DistillJob, SelectJob, TeachersJob
from ddpp_jax.continual import Task
from ddpp_jax.evaluate import Procedure
from ddpp_jax.networks import Network
from ddpp_jax.planning import trial
from ddpp_jax.planning.limits import require_teaching
from ddpp_jax.planning.problem import Problem
from ddpp_jax.planning.sizes import choose_reading
from ddpp_jax.progress import Report
from ddpp_jax.sets import set_path
from ddpp_jax.storage import free_bytes, gib

_FLOAT = 4


class Lacking(NamedTuple):
    """A store of teachers of some step's classes, and how many it lacks."""

    job: TeachersJob
    problem: Problem
    missing: int


class Outlook(NamedTuple):
    """What is left to do.

    Attributes:
        condensations: the steps whose small sets are not there, by the title of their method.
        evaluations: the steps whose memory was not evaluated, likewise.
        stores: of teachers that are lacking, by their folders.
    """

    condensations: Mapping[str, Sequence[Task]]
    evaluations: Mapping[str, Sequence[Task]]
    stores: Mapping[Path, Lacking]


def require_steps(compared: Sequence[Compared], tasks: Sequence[Task], whole: Whole) -> None:
    """Refuse what the steps of an order would be refused for later, by the first of each size.

    Raises:
        InputError: one would be.
    """
    firsts = {len(task.classes): task for task in reversed(tasks)}
    for one in compared:
        for task in firsts.values() if one.job is not None else ():
            if isinstance(one.job, SelectJob):
                job, problem = step_choice(one, task, whole)
                if one.needs_teachers:
                    require_teaching(job, problem, whole.places)
            else:
                run, stream = step_run(one, task, whole), False
                if run.needs_teachers:
                    read = whole.places.read
                    stream = choose_reading(run.job, run.problem, read, Report(None))
                require_run(run, whole.places, stream=stream)


def look_ahead(compared: Sequence[Compared], tasks: Sequence[Task], whole: Whole) -> Outlook:
    """What is left to do, by the files that are there.

    Args:
        compared: the methods.
        tasks: the steps of all orders.
        whole: what they share.
    """
    made = [one for one in compared if one.job is not None]
    condensations = {
        one.title: [task for task in tasks if not set_path(whole.part(one, task), "last").exists()]
        for one in made
    }
    evaluations = {
        one.title: [
            task for task in tasks if not (whole.part(one, task) / "evaluations.json").exists()
        ]
        for one in compared
    }
    stores: dict[Path, Lacking] = {}
    for one in made:
        for task in condensations[one.title] if one.needs_teachers else ():
            if isinstance(one.job, SelectJob):
                job, problem = step_choice(one, task, whole)
            else:
                run = step_run(one, task, whole)
                job, problem = run.job, run.problem
            missing = len(problem.store.missing(job.teaching.teachers))
            known = stores.get(problem.store.folder)
            if missing > (0 if known is None else known.missing):
                stores[problem.store.folder] = Lacking(job, problem, missing)
    return Outlook(condensations, evaluations, stores)


def say_outlook(
    outlook: Outlook, job: DistillJob, network: Network, whole: Whole, report: Report
) -> None:
    """Say how much is left to do, and what it takes on disk.

    Args:
        outlook: what is left.
        job: the settings that all methods share.
        network: that is trained on the memories.
        whole: what all steps share.
        report: told of it.
    """
    condensations = sum(map(len, outlook.condensations.values()))
    by_method = ", ".join(f"{name} {len(left)}" for name, left in outlook.condensations.items())
    memories = sum(map(len, outlook.evaluations.values()))
    networks = job.evaluation.networks
    lacking = sum(store.missing for store in outlook.stores.values())
    report.say(
        f"{condensations} small sets are to be made" + (f": {by_method}" if by_method else "")
    )
    report.say(
        f"{memories} memories are to be trained on by {networks} network"
        f"{'s' if networks > 1 else ''} each: {memories * networks} trainings of "
        f"{job.evaluation.eval_epochs + 1} epochs; {lacking} teachers are to be trained before"
    )
    raw = whole.raw
    image = raw.x_train[0].size
    classes = sum(len(task.classes) for left in outlook.condensations.values() for task in left)
    # The images twice, as networks and as people see them.
    sets = 2 * _FLOAT * classes * job.distillation.ipc * image
    stored = sum(
        store.missing * teachers.stored_bytes(store.job.teaching, store.problem.network)
        for store in outlook.stores.values()
    )
    whitening = _FLOAT * image * (image + 1) if job.data.zca else 0
    free = free_bytes(whole.folder)
    needed = sets + stored + whitening
    report.say(
        f"Disk: {gib(sets + whitening)} for small sets and {gib(stored)} for teachers, "
        f"{gib(free)} free: {'enough' if needed <= free else 'too little'}"
    )


def seconds(
    outlook: Outlook,
    compared: Sequence[Compared],
    job: DistillJob,
    network: Network,
    whole: Whole,
) -> dict[str, float]:
    """Seconds of what is left, by a short trial of each kind.

    Args:
        outlook: what is left.
        compared: the methods.
        job: the settings that all methods share.
        network: that is trained on the memories.
        whole: what all steps share.
    """
    found: dict[str, float] = {}
    if outlook.stores:
        first = next(iter(outlook.stores.values()))
        epochs = sum(store.missing for store in outlook.stores.values()) * first.job.teaching.epochs
        found["teachers"] = epochs * trial.epoch_seconds(first.job, first.problem)
    for one in compared:
        left = outlook.condensations.get(one.title)
        if left and isinstance(one.job, DistillJob):
            run = step_run(one, left[0], whole)
            small, quick = example_of(run, lighter)
            times = made_of(run).method.operations / quick.method.operations
            step = times * trial.step_seconds(quick.method, [small], needed=None)
            found[f"distil {one.title}"] = len(left) * run.job.distillation.steps * step
    raw = whole.raw
    images = job.distillation.ipc * raw.classes
    evaluated = trial.evaluation_seconds(
        Procedure(job.evaluation, job.data.operations, raw.classes),
        network,
        (images, *raw.x_train.shape[1:]),
        test=len(raw.y_test),
    )
    for one in compared:
        own = images if one.given is None else len(one.given.labels)
        shares = (len(task.seen) / raw.classes for task in outlook.evaluations[one.title])
        found[f"evaluate {one.title}"] = sum(shares) * evaluated * own / images
    return found
