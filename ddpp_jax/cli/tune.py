"""Settings found for data that nobody has tuned, before `distill` runs with them."""

import contextlib
import dataclasses
from pathlib import Path
from typing import Any

import jax

from ddpp_jax.cli.demands import check, check_kernel
from ddpp_jax.cli.pilots import Quick, pieces_of, pilots_of
from ddpp_jax.cli.search import Search, Sized, found_in, said_of
from ddpp_jax.configs import (
    DistillJob,
    EvaluateConfig,
    Places,
    TrajectoryConfig,
)
from ddpp_jax.core import named_key
from ddpp_jax.data import Dataset, balanced
from ddpp_jax.errors import InputError
from ddpp_jax.planning.limits import check_free, require_data, require_teaching
from ddpp_jax.planning.problem import Problem, load, prepare, train_teachers
from ddpp_jax.planning.programs import keep_programs
from ddpp_jax.planning.sources import data_in_memory
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import claimed_folder, read_sealed, write_json
from ddpp_jax.teachers import sharpness_of
from ddpp_jax.tuning import (
    GIVEN,
    SHARE,
    TUNING,
    Asked,
    Budget,
    Costs,
    RangeTest,
    Spent,
    epochs_as_one,
    first_alpha,
    race,
    range_test,
)
from ddpp_jax.tuning.found import REMEDY

_TEACHING = "teaching.json"
_LONG_EVALUATION = 0.02
"""Share of a run's time beyond which an evaluation of 1,000 epochs is cut to 300."""
_EPOCHS_TO_TARGET = 2


def require_search(search: Search, found: Sized, places: Places) -> Dataset:
    """The data of a search; refuses what it would be refused for, and begins and writes nothing.

    Raises:
        InputError: the data are too few or cannot be normalised, something is asked for that a
            search cannot give, or its folder is not to be had.
    """
    folder, identity, job = found
    if job.data.held_out is None:
        raise InputError(
            "--held-out none leaves no images to choose settings by; leave it out, or name "
            "settings by --settings"
        )
    if job.teaching.imported is not None:
        raise InputError(
            "--imported names teachers with settings of their own; name the settings that they "
            "were imported with by --settings"
        )
    raw = data_in_memory(job.data, places, "a search for settings")
    check(job.distillation, raw)
    check_kernel(job, raw)
    require_data(job, raw, places)
    pilots_of(search, job)
    check_free(folder, identity, proven=True)
    return raw


def require_new(folder: Path) -> None:
    """Refuse the folder for a run whose settings are yet to be found, where it holds another run.

    Raises:
        InputError: it does, or it is not to be had.
    """
    if any((folder / name).exists() for name in ("config.json", ".config.json")):
        raise InputError(
            f"{folder} holds a run, and the settings for this one are yet to be found, so it is "
            "another; choose another --out"
        )
    check_free(folder, {}, proven=False)


def find_settings(
    search: Search, found: Sized, raw: Dataset, places: Places, report: Report
) -> DistillJob:
    """The job with settings that suit its data.

    Raises:
        InputError: a stage of the search is refused.
    """
    folder, identity, job = found
    path = folder / TUNING
    keep_programs(places.cache_dir)
    with claimed_folder(folder, identity, name="config.json", proven=True):
        if not path.exists():
            spent = Spent(folder)
            try:
                with report.run(folder, identity):
                    _search(search, job, raw, (places, folder, spent), report)
            except BaseException:
                with contextlib.suppress(OSError):  # What went wrong first is to be told.
                    spent.keep()
                raise
    return found_in(search, path)


def _search(
    search: Search,
    job: DistillJob,
    raw: Dataset,
    where: tuple[Places, Path, Spent],
    report: Report,
) -> None:
    """Find what is to be tried, and write what was found."""
    (places, folder, spent), budget = where, Budget(SHARE * search.seconds)
    derived: list[dict[str, Any]] = [
        {"name": name, "value": value, "why": why} for name, value, why in said_of(search, job)
    ]
    problem = prepare(job, places, raw)
    dataset = load(job, problem, places, report)
    seen = _seen(job, dataset)
    rates: list[dict[str, Any]] = []
    if job.distillation.last_epoch is not None:
        job, rates, said = _teaching(search, job, problem, (seen, budget), folder, report)
        derived += said
        spent.keep()
        problem = prepare(job, places, raw)
        require_teaching(job, problem, places)
        train_teachers(job, problem, dataset, report)
        spent.keep()
    quick = Quick(job, problem, seen)
    real_rate, seconds = quick.best_rate_on_real_images(report)
    job = search.with_found(job, {"real_rate": real_rate})
    rate_words = [("real_rate", job.real_rate, "the best of four on real images, held-out ones")]
    if job.distillation.last_epoch is None:
        job = search.with_found(job, {"alpha": real_rate})
        rate_words.append(("alpha", job.distillation.alpha, "the best of these rates"))
    derived += [
        {"name": name, "value": value, "why": GIVEN if name in search.fixed else why}
        for name, value, why in rate_words
    ]
    pilots = pilots_of(search, job, _unit(search, job, seen))
    pieces = pieces_of(job, problem, dataset, quick, stream=places.read == "stream")

    def score(small: DistilledSet) -> float:
        found = pieces.score_fn(small)
        spent.keep()
        return found

    raced = race(
        pilots,
        pieces._replace(score_fn=score),
        lambda step: budget.rungs(len(pilots), step),
        folder,
        report,
    )
    job = search.with_found(job, raced.best["values"])
    costs = Costs(budget.seconds - spent.seconds, raced.step, seconds)
    job, said = _length(search, job, budget, costs, quick.config, raced.best["steps"])
    write_json(
        folder / TUNING,
        {
            "settings": dataclasses.asdict(job) | {"data": _without_place(job)},
            "derived": derived + said,
            "rates": rates,
            "trials": raced.trials,
            "seconds": spent.seconds,
        },
    )


def _without_place(job: DistillJob) -> dict[str, Any]:
    return dataclasses.asdict(job.data) | {"data_dir": None}


def _teaching(
    search: Search,
    job: DistillJob,
    problem: Problem,
    given: tuple[Dataset, Budget],
    folder: Path,
    report: Report,
) -> tuple[DistillJob, list[dict[str, Any]], list[dict[str, Any]]]:
    """The job with its teachers' settings, what was tried, and what was derived."""
    dataset, budget = given
    path = folder / _TEACHING
    if path.exists():
        kept = read_sealed(path, remedy=REMEDY)
    else:
        tested = range_test(
            named_key(jax.random.key(job.seed), "range test"),
            problem.network,
            dataset,
            batch_size=min(job.teaching.teacher_batch, len(dataset.y_train)),
            operations=job.data.operations,
            report=report,
            epochs=_unit(search, job, dataset),
            sharpness=sharpness_of(job.teaching),
        )
        kept = _derived_teaching(search, job, dataset, budget, tested)
        write_json(path, kept)
    return search.with_found(job, kept["found"]), kept["rates"], kept["derived"]


def _derived_teaching(
    search: Search, job: DistillJob, dataset: Dataset, budget: Budget, tested: RangeTest
) -> dict[str, Any]:
    settings = job.distillation
    assert isinstance(settings, TrajectoryConfig)
    unit, fixed = _unit(search, job, dataset), search.fixed
    span = settings.target_epochs if "target_epochs" in fixed else _EPOCHS_TO_TARGET * unit
    start = settings.max_start_epoch if "max_start_epoch" in fixed else _EPOCHS_TO_TARGET * unit
    teachers, units = budget.teachers_and_epochs(
        tested.seconds * unit,
        teachers=job.teaching.teachers if "teachers" in fixed else None,
        epochs=max(1, job.teaching.epochs // unit) if "epochs" in fixed else None,
    )
    epochs = max(units * unit, start - 1 + span, job.teaching.keep_epochs or 0)
    rate = job.teaching.teacher_rate if "teacher_rate" in fixed else tested.rate
    epoch_steps = -(-len(dataset.y_train) // job.teaching.teacher_batch)
    alpha = first_alpha(rate, span * epoch_steps, settings.student_steps)
    why = {
        "teacher_rate": (
            rate,
            "the largest with a smooth path, or the lowest that learns enough",
        ),
        "epochs": (epochs, "what the time allows"),
        "teachers": (teachers, "what the time allows"),
        "target_epochs": (span, "two epochs, or as many as make about 40 steps"),
        "alpha": (alpha, "half the teacher's rate times steps between start and target"),
    }
    return {
        "found": {name: value for name, (value, _) in why.items()},
        "derived": [
            {"name": name, "value": value, "why": reason}
            for name, (value, reason) in why.items()
            if name not in fixed
        ],
        "rates": [one._asdict() for one in tested.tried],
    }


def _seen(job: DistillJob, dataset: Dataset) -> Dataset:
    """The training images as teachers see them, and held-out ones with all classes as often."""
    even = balanced(dataset)
    if job.teaching.balance:
        return even
    return dataclasses.replace(dataset, x_held=even.x_held, y_held=even.y_held)


def _unit(search: Search, job: DistillJob, dataset: Dataset) -> int:
    """How many epochs are taken as one; no more than the epochs that are kept have room for."""
    found = epochs_as_one(len(dataset.y_train), job.teaching.teacher_batch)
    settings, fixed = job.distillation, search.fixed
    if not {"epochs", "keep_epochs"} & fixed or not isinstance(settings, TrajectoryConfig):
        return found

    def last(unit: int) -> int:
        own = _EPOCHS_TO_TARGET * unit
        start = settings.max_start_epoch if "max_start_epoch" in fixed else own
        return start - 1 + (settings.target_epochs if "target_epochs" in fixed else own)

    return next((u for u in range(found, 1, -1) if last(u) <= job.teaching.last_kept), 1)


def _length(
    search: Search,
    job: DistillJob,
    budget: Budget,
    costs: Costs,
    quickly: EvaluateConfig,
    shown: int,
) -> tuple[DistillJob, list[dict[str, Any]]]:
    """The job with as many steps as the time that is left allows, and what was derived.

    Args:
        search: what is asked for.
        job: with all else that was found.
        budget: of the whole run.
        costs: with the seconds of a quick evaluation.
        quickly: how that is made.
        shown: the steps after which the best pilot was chosen.
    """
    evaluation, own, fixed = job.evaluation, job.distillation, search.fixed
    draws = job.random_draws if job.baselines and not search.sweep else 0
    networks = evaluation.networks / quickly.networks
    epochs = evaluation.eval_epochs if "eval_epochs" in fixed else 1000
    one = costs.evaluation * networks * epochs / quickly.eval_epochs
    if "eval_epochs" not in fixed and one > _LONG_EVALUATION * budget.seconds:
        epochs, one = 300, one * 300 / epochs
    asked = Asked(
        own.steps if "steps" in fixed else None,
        0 if search.sweep else own.eval_every if "eval_every" in fixed else None,
        needed=evaluation.which != "last",
        least=shown,
    )
    steps, every = budget.length(
        costs._replace(evaluation=one), asked, members=search.members, draws=draws
    )
    found = {"steps": steps, "eval_epochs": epochs}
    why = {
        "steps": "what the time allows, or as many as the best pilot had",
        "eval_epochs": "1,000 where that is quick, else 300",
    }
    if not search.sweep:
        found["eval_every"] = every
    if not every:
        why["eval_every"] = "0, at the end alone, where evaluations on the way take long"
    said = [
        {"name": name, "value": found[name], "why": reason}
        for name, reason in why.items()
        if name in found and name not in fixed
    ]
    return search.with_found(job, found), said
