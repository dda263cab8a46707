"""`python -m ddpp_jax.distill`: the whole job."""

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from ddpp_jax import distill
from ddpp_jax.cli.baseline import judge_random
from ddpp_jax.cli.flags import Shown, run_with_setting
from ddpp_jax.cli.judge import Judge, Tests
from ddpp_jax.cli.reading import feed_of
from ddpp_jax.cli.sweep import run_sweep
from ddpp_jax.configs import DistillJob, Places, digest
from ddpp_jax.data import Dataset
from ddpp_jax.evaluate import Verdict
from ddpp_jax.planning import trial, work
from ddpp_jax.planning.limits import check_free, require_distillation, require_teaching
from ddpp_jax.planning.problem import (
    Problem,
    describe,
    evaluation_key,
    finished,
    identity_of,
    load,
    origin_of,
    prepare,
    result,
    show,
    teacher_row,
    train_teachers,
)
from ddpp_jax.planning.programs import keep_programs
from ddpp_jax.planning.sizes import choose_reading, describe_distillation, describe_teaching
from ddpp_jax.progress import Report, read_metrics
from ddpp_jax.report import plots, write_report
from ddpp_jax.results import tables
from ddpp_jax.sets import DistilledFile, iterate_path
from ddpp_jax.storage import FeedFn, claimed_folder, write_json


def run_distill(
    job: DistillJob, places: Places, out: Path | None, report: Report, *, dry: bool
) -> None:
    """The whole job: teachers, distillation, evaluation, pictures and a table."""
    problem = prepare(job, places)
    raw = problem.raw
    distill.check(job.distillation, raw)
    identity = identity_of(job, raw)
    own = Path("runs") / f"{raw.name}-ipc{job.distillation.ipc}-{digest(identity)}"
    folder = out or own
    describe(job, problem, report)
    _describe(job, problem, folder, report)
    stream = choose_reading(job, problem, places.read, report)
    check_free(folder, identity, proven=folder == own)
    if not (folder / "result.json").exists():
        require_teaching(job, problem, places)
        require_distillation(job, problem, stream=stream)
    stages = work.stages(job, problem, list(_methods(job, folder)))
    if dry:
        describe_distillation(job, problem, folder, report)
        describe_teaching(job, problem, report)
        if (folder / "result.json").exists():
            report.say(f"{folder} is complete, and takes no more time")
            return
        tried = partial(trial.stage_seconds, job, problem, stages)
        trial.describe(tried, problem.network.num_params, report)
        return
    keep_programs(places.cache_dir)
    with claimed_folder(folder, identity, name="config.json", proven=folder == own):
        sets = [
            iterate_path(place, iterate)
            for place, _ in _methods(job, folder).values()
            for iterate in {"last", job.evaluation.iterate}
        ]
        lost = [path for path in sets if not path.exists()]
        if (folder / "result.json").exists() and not lost:
            found = finished(folder)
            _draw(job, raw.name, folder, report, only_missing=True)
            write_report(folder, only_stale=True)
            report.say(f"{folder} is complete; its results:")
            show(found, report)
            return
        operations = work.operations(job, problem)
        report.expect({stage.name: operations.of(stage) for stage in stages})
        with report.run(folder, identity):
            dataset = load(job, problem, places, report)
            train_teachers(job, problem, dataset, report)
            feed_fn = feed_of(job, problem, stream=stream)
            found = _compute(job, problem, dataset, feed_fn, folder, report)
        write_report(folder)
    show(found, report)
    report.say(f"Images, curves, metrics and settings are in {folder}; open its report.html")


def _compute(
    job: DistillJob,
    problem: Problem,
    dataset: Dataset,
    feed_fn: FeedFn,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    """Distil, judge and draw; what `result.json` of the folder then holds."""
    judge = Judge(job, folder, classes=dataset.classes)
    tests: Tests = {"test": (dataset.x_test, dataset.y_test)}
    both: Tests = tests
    if len(dataset.y_held):
        both = {**tests, "held-out": (dataset.x_held, dataset.y_held)}
    key = evaluation_key(job.seed)
    quantities = {"test": "accuracy", "held-out": "held_out_accuracy"}

    def accuracies(images: Any, labels: Any, alpha: Any) -> dict[str, float]:
        found = judge.judge(problem.network, both, images, labels, alpha, Report(None), key=key)
        means = {quantities[test]: verdict.mean for test, verdict in found.items()}
        return means | {f"{quantities[test]}_std": v.std for test, v in found.items()}

    outcomes = {
        name: distill.run(
            varied,
            dataset,
            problem.network,
            feed_fn,
            place,
            report,
            origin=origin_of(name, varied, problem.raw, ipc=job.distillation.ipc),
            name=f"distil, {name}",
            evaluate_fn=accuracies,
        )
        for name, (place, varied) in _methods(job, folder).items()
    }
    rows = []
    if job.baselines and job.random_draws:
        rows.append(judge_random(job, judge, tests, problem.network, dataset, report))
    for name, outcome in outcomes.items():
        _say_outcome(name, outcome, report)
        judge_fn = partial(judge.judge, problem.network, tests, key=key, name=name, report=report)
        rows.append(_judged(name, outcome.distilled, judge_fn))
    if job.baselines:
        rows.append(teacher_row(job, problem))
    found = result(job, problem.raw, rows) | {
        "ipc": job.distillation.ipc,
        "distillation": {name: _plain_outcome(outcome) for name, outcome in outcomes.items()},
    }
    _draw(job, problem.raw.name, folder, report, only_missing=False)
    write_json(folder / "result.json", found)
    judge.close()
    return found


def _judged(
    name: str,
    distilled: DistilledFile,
    judge_fn: Callable[..., dict[str, Verdict]],
) -> dict[str, Any]:
    images, labels, alpha = distilled.images, distilled.labels, distilled.alpha
    found = judge_fn(images=images, labels=labels, alpha=alpha)
    about = {n: distilled.origin[n] for n in ("ipc", "seed", "iterate", "step")}
    return tables.judged_row(name, len(labels), [found["test"]], **about)


def _methods(job: DistillJob, folder: Path) -> dict[str, tuple[Path, DistillJob]]:
    """Each method's name, folder and settings; MTT beside ours where baselines are wanted."""

    def varied(threshold: float | None) -> DistillJob:
        settings = dataclasses.replace(job.distillation, threshold=threshold)
        return dataclasses.replace(job, distillation=settings)

    threshold = job.distillation.threshold
    ours = {_name(threshold): (folder, job)}
    if job.baselines and threshold is not None:
        return {_name(None): (folder / "mtt", varied(None))} | ours
    return ours


def _describe(job: DistillJob, problem: Problem, folder: Path, report: Report) -> None:
    settings = job.distillation
    threshold = "no pruning" if settings.threshold is None else f"threshold {settings.threshold:g}"
    count = settings.ipc * problem.raw.classes
    report.say(
        f"{count} distilled images, {settings.steps} steps: "
        f"J {settings.student_steps}, K {settings.target_epochs}, I+ {settings.max_start_epoch}, "
        f"{threshold}, pixel rate {settings.pixel_rate:g}, alpha {settings.alpha:g} at rate "
        f"{settings.alpha_rate:g}; in {folder}"
    )


def _say_outcome(name: str, outcome: distill.Outcome, report: Report) -> None:
    if outcome.seconds:
        share = 100 * outcome.waited / outcome.seconds
        report.say(
            f"{name}: {outcome.seconds:.1f} s of distillation steps, {share:.1f} % of it waiting "
            "for teachers' parameters"
        )
    for count, what in (
        (outcome.skipped, "were skipped: loss or gradient not finite"),
        (outcome.alpha_held, "had alpha held above 0"),
        (outcome.few_kept, f"kept less than {distill.LEAST_KEPT:g} of the parameters"),
    ):
        if count:
            report.warn(f"{name}: {count} steps {what}")


def _plain_outcome(outcome: distill.Outcome) -> dict[str, Any]:
    return {
        "alpha": outcome.distilled.alpha,
        "skipped_steps": outcome.skipped,
        "alpha_held_steps": outcome.alpha_held,
        "few_kept_steps": outcome.few_kept,
        "seconds_of_last_process": outcome.seconds,
        "seconds_waiting_for_teachers": outcome.waited,
    }


def _draw(
    job: DistillJob, dataset: str, folder: Path, report: Report, *, only_missing: bool
) -> None:
    """The pictures of a run, from its files."""
    title = f"{dataset}, {job.distillation.ipc} per class"
    places = {name: place for name, (place, _) in _methods(job, folder).items()}
    for name, place in places.items():
        picture = place / "distilled.png"
        if not (only_missing and picture.exists()):
            shown = distill.read_finished(place, job.evaluation.iterate)
            plots.save_grid(picture, shown, title=f"{title}: {name}{_chosen(shown)}")
    curves = folder / "curves.png"
    if not (only_missing and curves.exists()):
        for place in places.values():
            if not (place / "metrics.jsonl").exists():
                report.warn(f"{place / 'metrics.jsonl'} is missing; the curves lack what it held")
        rows = {
            name: read_metrics(
                place / "metrics.jsonl", steps=job.distillation.steps, warn_fn=report.warn
            )
            for name, place in places.items()
        }
        plots.save_curves(curves, rows, title=title)


def _chosen(distilled: DistilledFile) -> str:
    words = tables.iterate_words(distilled.origin)
    return "" if distilled.origin["iterate"] == "last" else f", {words}"


def _name(threshold: float | None) -> str:
    return "MTT (no pruning)" if threshold is None else f"ours (threshold {threshold:g})"


@dataclass(frozen=True, kw_only=True)
class _Distill:
    config: DistillJob
    places: Places = field(default_factory=Places)
    shown: Shown = field(default_factory=Shown)

    out: Path | None = None
    """The run's folder, never one of another run; by default runs/DATASET-ipcIPC-SETTINGS."""

    sweep: str | None = None
    """Several distillations side by side, such as threshold=none,0.05,0.1; none for one."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The main job: `python -m ddpp_jax.distill [SETTING]`."""

    def work(command: _Distill, report: Report) -> None:
        where = {"places": command.places, "out": command.out, "report": report}
        dry = command.shown.dry_run
        if command.sweep is None:
            run_distill(command.config, **where, dry=dry)
        else:
            run_sweep(command.config, command.sweep, **where, dry=dry)

    about = (
        "Distil a dataset into a few images per class, and judge them: trains missing teachers, "
        "distils with and without pruning, trains fresh networks on the results, draws them."
    )
    run_with_setting("distill", about, arguments, lambda job: _Distill(config=job), work)
