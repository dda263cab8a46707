"""Class-incremental learning as a run: its folder, its steps one by one, and what it found."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ddpp_jax import continual
from ddpp_jax.cli.condensing import (
    Compared,
    Whole,
    condense,
    given_sets,
    identity_of_step,
    require_classes,
    require_distinct,
)
from ddpp_jax.cli.folders import Place, results_in
from ddpp_jax.cli.outlook import look_ahead, require_steps, say_outlook, seconds
from ddpp_jax.configs import ContinualConfig, DistillJob, Places, digest
from ddpp_jax.continual import Task, arrivals, evaluation_key, summarise, summary_table
from ddpp_jax.data import Dataset, fit_transform, normalised, require_per_class
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Evaluation, Evaluations, Procedure
from ddpp_jax.planning import trial
from ddpp_jax.planning.identities import identity_of, plain, say_settings
from ddpp_jax.planning.limits import require_data, require_evaluation
from ddpp_jax.planning.problem import network_for, result
from ddpp_jax.planning.sources import data_in_memory, describe_data
from ddpp_jax.progress import Report
from ddpp_jax.report import pictures
from ddpp_jax.results import tables
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import claimed_folder, write_json

PICTURE = "continual.png"
_SHARED = ("data", "model", "teaching", "evaluation", "real_rate", "seed")
"""Settings that are the same for all methods."""


def run_continual(
    job: DistillJob,
    compared: Sequence[Compared],
    config: ContinualConfig,
    places: Places,
    out: Path | None,
    report: Report,
    *,
    sets: Sequence[Path] = (),
    dry: bool = False,
) -> None:
    """Let the classes of a dataset arrive in steps, and compare methods by what they keep of them.

    Args:
        job: the settings that all methods share.
        compared: the methods.
        config: how the classes arrive.
        places: where teachers and whitenings are kept.
        out: the run's folder; None chooses one below `runs`.
        report: told as it goes on.
        sets: small sets of all classes, which are compared likewise.
        dry: only say what would be done.

    Raises:
        InputError: it cannot be done, or a method could not; what the others left stays.
    """
    raw = data_in_memory(job.data, places, "continual learning")
    compared = [*compared, *given_sets(job, sets, raw, places, report, dry=dry)]
    require_distinct(compared)
    orders = [arrivals(seed, raw.classes, config.class_steps) for seed in range(config.orders)]
    fewest = min(len(task.classes) for task in orders[0])
    for one in compared:
        require_classes(one, fewest, config.class_steps, raw.classes)
    if _ipc(job, compared) is not None:
        require_per_class(raw, job.distillation.ipc)
    identity = _identity(job, compared, config, raw)
    own = Path("runs") / f"{raw.name}-continual-{digest(identity)}"
    folder = out or own
    whole = Whole(raw=raw, places=places, folder=folder, seed=job.seed)
    describe_data(raw, report)
    report.say(_described(job, compared, config, orders, folder))
    place = Place(folder, identity, folder == own)
    place.check_free()
    network, tasks = network_for(job, raw), [task for order in orders for task in order]
    complete = place.is_complete()
    if not complete:
        require_data(job, raw, places)
        require_evaluation(job.evaluation, network, job.model.width)
        require_steps(compared, orders[0], whole)
    if dry:
        say_settings(job, raw, report)
        outlook = look_ahead(compared, tasks, whole)
        if complete:
            report.say(f"{folder} is complete, and takes no more time")
            return
        say_outlook(outlook, job, network, whole, report)
        tried = partial(seconds, outlook, compared, job, network, whole)
        trial.describe(tried, network.num_params, report)
        return
    found = results_in(
        place,
        places.cache_dir,
        report,
        compute_fn=partial(_compute, job, compared, config, orders, whole, report),
        draw_fn=partial(_draw, folder),
    )
    _show(found, report)
    report.say(f"Small sets, curves and settings are in {folder}; open its report.html")


def _draw(folder: Path, found: Mapping[str, Any]) -> None:
    """The picture, where it is not there yet."""
    if not (folder / PICTURE).exists():
        pictures.save_steps(folder / PICTURE, found["continual"], title=_title(found))


def _compute(
    job: DistillJob,
    compared: Sequence[Compared],
    config: ContinualConfig,
    orders: Sequence[Sequence[Task]],
    whole: Whole,
    report: Report,
) -> dict[str, Any]:
    """Condense, remember and evaluate; what `result.json` of the folder then holds."""
    raw = whole.raw
    report.say(
        "Images are normalised by numbers of all training images, of classes that are yet to "
        "arrive too, as published"
    )
    data, cache_dir = job.data, whole.places.cache_dir
    transform = fit_transform(raw, zca=data.zca, contrast=data.contrast, cache_dir=cache_dir)
    dataset = normalised(raw, transform)
    found: dict[str, list[list[Evaluation]]] = {}
    images: dict[str, list[list[int]]] = {}
    failed: dict[str, str] = {}
    for one in compared:
        seen = dataset if one.given is None else normalised(raw, one.given.transform)
        try:
            for tasks in orders:
                learned = list(_learn(job, one, config, tasks, seen, whole, report))
                found.setdefault(one.title, []).append([own.evaluation for own in learned])
                sizes = [len(own.memory.labels) for own in learned]
                images.setdefault(one.title, []).append(sizes)
        except InputError as error:
            failed[one.title] = str(error)
            report.warn(f"{one.title} is left out, the others go on: {error}")
    if failed:
        raise InputError(
            f"{', '.join(failed)} could not be done, as said above; the same command goes on with "
            "what is left"
        )
    values = _result(job, compared, config, orders, raw, found, images)
    write_json(whole.folder / "result.json", values)
    return values


def _learn(
    job: DistillJob,
    one: Compared,
    config: ContinualConfig,
    tasks: Sequence[Task],
    dataset: Dataset,
    whole: Whole,
    report: Report,
) -> list[continual.Learned]:
    """What stands after each step of an order, by one method."""
    network = network_for(job, whole.raw)
    procedure = Procedure(job.evaluation, job.data.operations, dataset.classes)

    def condense_fn(task: Task, own: Dataset) -> DistilledSet:
        names = ", ".join(own.class_names)
        report.say(
            f"{one.title}, order {task.order}, step {task.number + 1} of {len(tasks)}: {names}"
        )
        return condense(one, task, own, whole, report)

    def evaluate_fn(task: Task, memory: DistilledSet, seen: Any) -> Evaluation:
        part = whole.part(one, task)
        if config.rate is not None:
            memory = memory._replace(alpha=config.rate)
        with claimed_folder(part, identity_of_step(one, task, whole), name="config.json"):
            evaluation = Evaluations(procedure, part).evaluate(
                network,
                memory,
                {"test": seen},
                report,
                key=evaluation_key(whole.seed, task),
                name=one.title,
            )["test"]
        report.say(
            f"{one.title}, order {task.order}: {100 * evaluation.mean:.1f} ± "
            f"{100 * evaluation.std:.1f} % of {len(task.seen)} classes by {len(memory.labels)} "
            "images"
        )
        return evaluation

    return list(continual.run(tasks, dataset, condense_fn, evaluate_fn))


def _result(
    job: DistillJob,
    compared: Sequence[Compared],
    config: ContinualConfig,
    orders: Sequence[Sequence[Task]],
    raw: Dataset,
    found: Mapping[str, Sequence[Sequence[Evaluation]]],
    images: Mapping[str, Sequence[Sequence[int]]],
) -> dict[str, Any]:
    """What `result.json` holds: a row for each method after the last step, and all curves."""
    rows = []
    for name, by_order in found.items():
        last = [steps[-1].accuracies for steps in by_order]
        diverged = sum(one.diverged for steps in by_order for one in steps)
        rows.append(tables.row(name, max(s[-1] for s in images[name]), last))
        rows[-1]["diverged"] = diverged
    accuracies = {
        name: np.asarray([[one.accuracies for one in steps] for steps in by_order], np.float64)
        for name, by_order in found.items()
    }
    values = result(job, raw, rows)
    values["config"] = _shared(job, raw)
    values["continual"] = {
        "class_steps": config.class_steps,
        "ipc": _ipc(job, compared),
        "seen": [len(task.seen) for task in orders[0]],
        "orders": [[list(task.classes) for task in tasks] for tasks in orders],
        "images": dict(images),
        "folders": {one.title: one.name for one in compared},
        **summarise(accuracies),
    }
    return values


def _show(found: Mapping[str, Any], report: Report) -> None:
    report.say(_title(found))
    report.show(summary_table(found["continual"], found["continual"]["seen"]))
    for comparison in found["continual"]["comparisons"]:
        report.say(tables.comparison_words(comparison))
    for row in found["rows"]:
        if row["diverged"]:
            report.warn(
                f"{row['method']}: {row['diverged']} networks diverged, and their figures mean "
                "nothing; give a lower --rate"
            )


def _ipc(job: DistillJob, compared: Sequence[Compared]) -> int | None:
    """Images of each class that methods keep; None where all is taken from sets that are given."""
    return job.distillation.ipc if any(one.job is not None for one in compared) else None


def _kept(ipc: int | None) -> str:
    return (
        "those of each in sets that are given"
        if ipc is None
        else f"{ipc} image{'' if ipc == 1 else 's'} of each"
    )


def _title(found: Mapping[str, Any]) -> str:
    """What a result is of, in a line."""
    own = found["continual"]
    orders = len(own["orders"])
    return (
        f"{found['dataset']}: {own['class_steps']} steps of classes, {_kept(own['ipc'])} kept, "
        f"{orders} order{'s' if orders > 1 else ''}"
    )


def _described(
    job: DistillJob,
    compared: Sequence[Compared],
    config: ContinualConfig,
    orders: Sequence[Sequence[Task]],
    folder: Path,
) -> str:
    sizes = "+".join(str(len(task.classes)) for task in orders[0])
    rate = "of the sets" if config.rate is None else f"{config.rate:g}"
    networks = job.evaluation.networks
    return (
        f"Classes arrive in {config.class_steps} steps ({sizes}), in {config.orders} order"
        f"{'s' if config.orders > 1 else ''}; {_kept(_ipc(job, compared))} are kept by "
        f"{', '.join(one.title for one in compared)}; after each step {networks} network"
        f"{'s' if networks > 1 else ''}, {job.evaluation.eval_epochs + 1} epochs at rate {rate}, "
        f"augmentation {job.data.augment}; in {folder}"
    )


def _identity(
    job: DistillJob, compared: Sequence[Compared], config: ContinualConfig, raw: Dataset
) -> dict[str, Any]:
    """What the run's folder is claimed for."""
    methods = {
        one.name: plain(one.job, raw)["distillation"] if isinstance(one.job, DistillJob) else {}
        for one in compared
        if one.job is not None
    }
    given = {one.title: one.given.digest for one in compared if one.given is not None}
    rates = {one.title: one.given.rate for one in compared if one.given is not None}
    return identity_of(job, raw) | {
        "config": _shared(job, raw),
        "continual": dataclasses.asdict(config) | {"ipc": _ipc(job, compared)},
        "methods": methods,
        "sets": given,
        "rates": rates,
    }


def _shared(job: DistillJob, raw: Dataset) -> dict[str, Any]:
    """The settings that all methods share, as plain values."""
    return {name: value for name, value in plain(job, raw).items() if name in _SHARED}
