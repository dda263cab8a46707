"""The whole job: teachers, distillation, evaluation, pictures and a table."""

import dataclasses
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ddpp_jax import cluster, distill
from ddpp_jax.cli.baseline import evaluate_random, random_of
from ddpp_jax.cli.methods import Made, Sources, make_method
from ddpp_jax.cli.outcomes import (
    doubts_of,
    draw_run,
    kernel_row,
    member_row,
    plain_outcome,
    say_outcome,
)
from ddpp_jax.cli.runs import (
    Run,
    describe_work,
    described,
    made_of,
    prepare_run,
    require_run,
    stages_of,
)
from ddpp_jax.cli.shown import DryRun
from ddpp_jax.cli.starts import labelled, starter
from ddpp_jax.configs import TEACHERS_LABELS, DistillJob, KernelConfig, Places
from ddpp_jax.data import Dataset
from ddpp_jax.evaluate import Evaluations, Procedure, Tests
from ddpp_jax.planning import work
from ddpp_jax.planning.identities import origin_of
from ddpp_jax.planning.limits import check_free
from ddpp_jax.planning.problem import (
    describe,
    evaluation_key,
    finished,
    load,
    result,
    show,
    teacher_row,
    train_teachers,
)
from ddpp_jax.planning.programs import keep_programs
from ddpp_jax.planning.sizes import choose_reading
from ddpp_jax.progress import Report
from ddpp_jax.report import pictures, write_report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import claimed_folder, write_json
from ddpp_jax.tuning import TUNING, read_tuning


def run_distill(
    job: DistillJob,
    places: Places,
    out: Path | None,
    report: Report,
    *,
    sweep: str | None = None,
    dry: DryRun | None = None,
    tuning: Path | None = None,
    beside: Path | None = None,
) -> Path:
    """The whole job: teachers, distillation, evaluation, pictures and a table; the run's folder.

    Args:
        job: what is asked for.
        places: where things are kept.
        out: the run's folder; None chooses one below `runs`.
        report: told as it goes on.
        sweep: a setting and its values, such as `threshold=none,0.05,0.1`; None for no sweep.
        dry: what is only to be said; None begins.
        tuning: the file that says how the settings were found; None where they were given.
        beside: the folder of a run whose figures of random real images may be taken; None evaluates
            them.

    Raises:
        InputError: it cannot be done, or its folder is another's.
    """
    run = cluster.together(lambda: prepare_run(job, places, out, sweep))
    for seed, problem in run.teachers.items():
        own = dataclasses.replace(job, seed=seed)
        describe(own, problem, report, with_teachers=run.needs_teachers)
    report.say(described(run))
    stream = False
    if run.needs_teachers:
        copies = len(run.teachers)
        choose = partial(choose_reading, job, run.problem, places.read, report, copies=copies)
        stream = cluster.agreed(choose)
    cluster.agreed(lambda: _require(run, places, stream))
    if dry is not None:
        describe_work(run, report, stream=stream, devices=dry.devices)
        return run.folder
    keep_programs(places.cache_dir)
    with claimed_folder(run.folder, run.identity, name="config.json", proven=run.proven):
        if cluster.agreed(run.is_complete):
            cluster.agreed(lambda: _show_complete(run, report))
            return run.folder
        if tuning is not None:
            found = read_tuning(tuning)
            write_json(run.folder / TUNING, found)
            title = f"{run.problem.raw.name}: how the settings were found"
            pictures.save_trials(run.folder / "tuning.png", found["trials"], title=title)
        costs = work.operations(job, run.problem, made_of(run).method.operations)
        report.expect({stage.name: costs.of(stage) for stage in stages_of(run)})
        with report.run(run.folder, run.identity):
            dataset = load(job, run.problem, places, report)
            if run.needs_teachers:
                for seed, problem in run.teachers.items():
                    train_teachers(dataclasses.replace(job, seed=seed), problem, dataset, report)
            found = _compute(run, Sources(run.problems, dataset, stream), report, beside)
        cluster.agreed(lambda: _write_page(run.folder))
    show(found, report)
    report.say(f"Images, curves, metrics and settings are in {run.folder}; open its report.html")
    return run.folder


def _require(run: Run, places: Places, stream: bool) -> None:
    """Refuse what would be refused later, by the folder and what the machine has."""
    check_free(run.folder, run.identity, proven=run.proven)
    if not (run.folder / "result.json").exists():
        require_run(run, places, stream=stream)


def _show_complete(run: Run, report: Report) -> None:
    """Show a run that is over, with what is lost of its pictures drawn again."""
    found = finished(run.folder)
    draw_run(run, found, report, only_missing=True)
    write_report(run.folder, only_stale=True)
    report.say(f"{run.folder} is complete; its results:")
    show(found, report)


def _write_page(folder: Path) -> None:
    write_report(folder)


def check_distill(job: DistillJob, places: Places, out: Path | None) -> None:
    """Refuse what `run_distill` would refuse before its first step; begin and write nothing.

    Raises:
        InputError: as there.
    """
    run = cluster.together(lambda: prepare_run(job, places, out, None))
    stream = run.needs_teachers and choose_reading(job, run.problem, places.read, Report(None))
    cluster.agreed(lambda: _require(run, places, stream))


def _compute(run: Run, sources: Sources, report: Report, beside: Path | None) -> dict[str, Any]:
    """Distil, evaluate and draw; what `result.json` of the folder then holds."""
    job, dataset, network = run.job, sources.dataset, run.problem.network
    assert dataset is not None
    procedure = Procedure(job.evaluation, job.data.operations, dataset.classes)
    evaluations = Evaluations(procedure, run.folder)
    tests: Tests = {"test": (dataset.x_test, dataset.y_test)}
    keys = {member.title: evaluation_key(member.job.seed) for member in run.members}
    on_the_way = partial(_accuracies, evaluations, run, dataset, evaluation_key(job.seed))
    made = make_method(job, sources, members=run.members)
    outcomes, starts = distil_members(run, sources, made, report, evaluate_fn=on_the_way)
    random_fn = partial(evaluate_random, job, evaluations, network, dataset, tests, report)
    rows, soft = [], job.distillation.soft_labels
    if with_random := job.baselines and job.random_draws and run.sweep is None:
        known = cluster.agreed(lambda: random_of(beside, job, run.problem.raw))
        rows.append(known or random_fn())
        # Labels alone explain much of what sets with learned ones gain.
        if soft == TEACHERS_LABELS:
            rows.append(random_fn(soft, partial(labelled, job=job, sources=sources, seed=job.seed)))
    for member in run.members:
        outcome = outcomes.get(member.title)
        if outcome is not None:
            say_outcome(member.title, outcome, run, report)
            found = evaluations.evaluate(
                network,
                outcome.distilled,
                _tests(dataset),
                report,
                key=keys[member.title],
                name=member.title,
            )
            rows.append(member_row(member, outcome, found))
            settings = member.job.distillation
            if isinstance(settings, KernelConfig) and run.sweep is None:
                rows.append(kernel_row(member, settings, outcome, dataset, tests, report))
            if with_random and soft not in (None, TEACHERS_LABELS):
                labels = outcome.distilled.labels
                rows.append(random_fn(soft, lambda small, own=labels: small._replace(labels=own)))
    if job.baselines and run.needs_teachers and run.sweep is None:
        rows.append(cluster.agreed(lambda: teacher_row(job, run.problem)))
    found = result(job, run.problem.raw, rows) | {
        "ipc": job.distillation.ipc,
        "distillation": {name: plain_outcome(outcome) for name, outcome in outcomes.items()},
    }
    found |= {} if run.sweep is None else {"sweep": run.sweep}
    doubts = cluster.agreed(lambda: doubts_of(run, outcomes, rows, dataset, starts))
    found |= {"doubts": doubts} if doubts else {}
    cluster.agreed(lambda: draw_run(run, found, report, only_missing=False))
    write_json(run.folder / "result.json", found)
    evaluations.close()
    return found


def distil_members(
    run: Run,
    sources: Sources,
    made: Made,
    report: Report,
    *,
    evaluate_fn: distill.EvaluateFn | None = None,
    shared: Path | None = None,
    name: str = "distil",
) -> tuple[dict[str, distill.Outcome], dict[str, DistilledSet]]:
    """Distil all members of a run; what each left, and what it started from, by its title.

    Args:
        run: whose members they are.
        sources: what the method reads from.
        made: the method.
        report: told as it goes on.
        evaluate_fn: evaluates sets on the way; None evaluates none.
        shared: the folder of the checkpoints and of the whitening; None takes the run's own.
        name: what the progress calls it.

    Raises:
        InputError: the steps were not finite.
    """
    job, dataset = run.job, sources.dataset
    assert dataset is not None
    start_fn = starter(job, sources, dataset)
    members = [
        distill.Member(
            name=member.title,
            seed=member.job.seed,
            start=_leaders(start_fn(member.job.distillation, member.job.seed)),
            hparams=made.hparams_fn(member.job.distillation),
            folder=run.place(member),
            origin=origin_of(member.title, member.job, run.problem.raw, ipc=job.distillation.ipc),
        )
        for member in run.members
    ]
    settings = run.members[0].job.distillation
    outcomes = distill.run(
        made.method,
        members,
        distill.Pace(settings.steps, settings.eval_every, job.evaluation.which),
        shared or run.folder,
        report,
        seen=distill.pictured(dataset),
        evaluate_fn=evaluate_fn,
        name=name,
    )
    return outcomes, {member.name: member.start for member in members}


def _leaders(start: DistilledSet) -> DistilledSet:
    """A set as the leading process has it; teachers may say other things on other devices."""
    found = cluster.agreed(lambda: tuple(map(np.asarray, (start.images, start.labels))))
    return start._replace(images=found[0], labels=found[1])


def _tests(dataset: Dataset) -> Tests:
    """What distilled sets are evaluated on: the test set, and training images kept apart."""
    tests = {"test": (dataset.x_test, dataset.y_test)}
    if len(dataset.y_held):
        tests["held-out"] = (dataset.x_held, dataset.y_held)
    return tests


def _accuracies(
    evaluations: Evaluations, run: Run, dataset: Dataset, key: Any, small: DistilledSet
) -> dict[str, float]:
    """What an evaluation on the way finds."""
    quantities = {"test": "accuracy", "held-out": "held_out_accuracy"}
    tests = _tests(dataset)
    found = evaluations.evaluate(run.problem.network, small, tests, Report(None), key=key)
    means = {quantities[test]: evaluation.mean for test, evaluation in found.items()}
    return means | {f"{quantities[test]}_std": one.std for test, one in found.items()}
