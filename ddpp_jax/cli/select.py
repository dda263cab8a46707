"""`python -m ddpp_jax.select`: real images chosen per class, as a set like a distilled one."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn, cast

import jax
import numpy as np
from jaxtyping import Int

from ddpp_jax import select
from ddpp_jax.cli.flags import run_with_setting
from ddpp_jax.cli.shown import Shown
from ddpp_jax.configs import (
    SELECTIONS,
    DistillJob,
    Places,
    Reading,
    SelectConfig,
    SelectJob,
    digest,
)
from ddpp_jax.core import named_key
from ddpp_jax.data import (
    Dataset,
    on_device,
    random_indices,
    require_per_class,
)
from ddpp_jax.planning import trial
from ddpp_jax.planning.identities import identity_of, origin_of, say_settings
from ddpp_jax.planning.limits import check_free, require_data, require_teaching
from ddpp_jax.planning.problem import (
    Problem,
    describe,
    load,
    prepare,
    teacher_params,
    train_teachers,
)
from ddpp_jax.planning.programs import keep_programs
from ddpp_jax.planning.sources import describe_data
from ddpp_jax.progress import Report
from ddpp_jax.report import pictures, write_report
from ddpp_jax.sets import DistilledSet, read_distilled, write_distilled
from ddpp_jax.storage import claimed_folder
from ddpp_jax.training import predictions


def run_select(
    job: SelectJob, places: Places, out: Path | None, report: Report, *, dry: bool = False
) -> None:
    """Choose real images, and leave them as distillation leaves its set."""
    selection = job.selection
    job = with_one_teacher(job)
    problem = prepare(job, places)
    raw = problem.raw
    require_per_class(raw, selection.ipc)
    identity = identity_of(job, raw)
    own = Path("runs") / f"{raw.name}-{selection.method}-ipc{selection.ipc}-{digest(identity)}"
    folder = out or own
    name = SELECTIONS[selection.method]
    report.say(f"{name}: {selection.ipc} of each of {raw.classes} classes; in {folder}")
    path = folder / "distilled.safetensors"
    check_free(folder, identity, proven=folder == own)
    if not path.exists():
        if selection.method == "random":
            describe_data(raw, report)
            require_data(job, raw, places)
        else:
            describe(job, problem, report)
            require_teaching(job, problem, places)
    if dry:
        say_settings(job, raw, report)
        if selection.method != "random" and not path.exists():
            tried = partial(trial.teaching_seconds, job, problem)
            trial.describe(tried, problem.network.num_params, report)
        return
    with claimed_folder(folder, identity, name="config.json", proven=folder == own):
        if path.exists():
            chosen = read_distilled(path, remedy="delete it, and the same command makes it again")
            report.say(f"{folder} is complete")
        else:
            keep_programs(places.cache_dir)
            with report.run(folder, identity):
                dataset = load(job, problem, places, report)
                chosen = chosen_set(job, problem, dataset, report)
                write_distilled(path, chosen)
        picture = folder / "distilled.png"
        if not picture.exists():
            title = f"{raw.name}, {selection.ipc} per class: {name}"
            pictures.save_grid(picture, chosen, title=title)
        write_report(folder, only_stale=True)
    where = "".join(
        f" --{flag} {value}"
        for flag, value in (("dataset", job.data.dataset), ("data-dir", job.data.data_dir))
        if value not in (None, raw.name)
    )
    report.say(
        f"The images are in {path}; python -m ddpp_jax.evaluate {folder}{where} evaluates them"
    )


def select_job(job: DistillJob, method: str | None = None) -> SelectJob:
    """The choice of real images that belongs to a job of distillation.

    Args:
        job: its settings.
        method: how they are chosen; None takes what is usual.
    """
    chosen = SelectConfig(ipc=job.distillation.ipc)
    if method is not None:
        chosen = dataclasses.replace(chosen, method=cast(Any, method))
    return SelectJob(
        data=job.data,
        model=job.model,
        teaching=job.teaching,
        selection=chosen,
        evaluation=job.evaluation,
        real_rate=job.real_rate,
        seed=job.seed,
    )


def with_one_teacher(job: SelectJob) -> SelectJob:
    """The job with a single trained network, which is enough, whatever else its store holds."""
    return dataclasses.replace(job, teaching=dataclasses.replace(job.teaching, teachers=1))


def chosen_set(job: SelectJob, problem: Problem, dataset: Dataset, report: Report) -> DistilledSet:
    """The real images that a job asks for; trains the network that chooses them, if one does.

    Args:
        job: how many of each class, and how they are chosen.
        problem: the data as they came, and where the network is kept.
        dataset: the data as networks see them.
        report: told as it goes on.
    """
    selection = job.selection
    indices = indices_of(job, problem, dataset, report)
    origin = origin_of(SELECTIONS[selection.method], job, problem.raw, ipc=selection.ipc)
    return select.real_set(indices, problem.raw, dataset, alpha=job.real_rate, origin=origin)


def indices_of(
    job: SelectJob, problem: Problem, dataset: Dataset, report: Report
) -> Int[np.ndarray, " chosen"]:
    """Which training images are chosen, class by class; a network is trained where one is needed.

    Args:
        job: how they are chosen.
        problem: the images as they came, and where teachers are kept.
        dataset: the same images, normalised.
        report: told as it goes on.
    """
    method, ipc, labels = job.selection.method, job.selection.ipc, dataset.y_train
    key = named_key(jax.random.key(job.seed), "selection")
    if method == "random":
        return random_indices(key, labels, ipc, classes=dataset.classes)
    train_teachers(job, problem, dataset, report)
    if method.startswith("forgetting"):
        events = _events(job, problem, dataset, report)
        most = method == "forgetting"
        return select.forgetting(key, events, labels, ipc, most=most)
    params = teacher_params(problem, 0, job.teaching.last_kept)
    features = select.features_of(params, dataset.x_train, network=problem.network)
    chosen_by = {"herding": select.herding, "k-centre": select.k_centre}
    return chosen_by[method](features, labels, ipc)


def _events(job: SelectJob, problem: Problem, dataset: Dataset, report: Report) -> np.ndarray:
    """How often the teacher forgot each training image, seen without augmentation."""
    network, images, correct = problem.network, on_device(dataset.x_train), []
    last = job.teaching.last_kept
    with report.progress("count forgetting", last, unit="epoch") as tick:
        for epoch in range(1, last + 1):
            alone = jax.tree.map(lambda leaf: leaf[None], teacher_params(problem, 0, epoch))
            found = predictions(alone, images, apply_fn=network.apply_fn, parts_fn=network.parts)
            correct.append(np.asarray(found[0]) == dataset.y_train)
            tick(epoch, {"accuracy": float(correct[-1].mean())})
    return select.forgetting_events(np.stack(correct))


@dataclass(frozen=True, kw_only=True)
class _Select:
    config: SelectJob
    shown: Shown = field(default_factory=Shown)

    teachers_dir: Path = Path("runs/teachers")
    """Folder of all teachers; each setting has a subfolder of its own."""

    cache_dir: Path = Path("runs/cache")
    """Folder for what was fitted to the data and can be fitted again (ZCA)."""

    images: Reading = "auto"
    """Hold all real images in memory, stream them from disk, or decide by what fits."""

    out: Path | None = None
    """The folder of the result, never one of another; by default runs/DATASET-METHOD-SETTINGS."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Choose real images: `python -m ddpp_jax.select [SETTING]`."""

    def work(command: _Select, report: Report) -> None:
        places = Places(
            teachers_dir=command.teachers_dir, cache_dir=command.cache_dir, images=command.images
        )
        run_select(command.config, places, command.out, report, dry=command.shown.dry_run)

    def default(job: DistillJob) -> _Select:
        return _Select(config=select_job(job))

    about = "Choose real images of each class, to compare distilled ones with."
    run_with_setting("select", about, arguments, default, work)
