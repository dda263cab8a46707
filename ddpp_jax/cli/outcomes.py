"""What a run of `python -m ddpp_jax.distill` found: rows, words and pictures."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np

from ddpp_jax import distill
from ddpp_jax.cli.baseline import RANDOM
from ddpp_jax.cli.real import infinite_of
from ddpp_jax.cli.runs import Run, made_of
from ddpp_jax.configs import DistillJob, KernelConfig, MemberJob, TrajectoryConfig
from ddpp_jax.data import Dataset, deviation, seen_by_teachers
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Evaluation, Tests, evaluate_by_kernel
from ddpp_jax.planning.problem import TEACHERS
from ddpp_jax.planning.work import by_kernel
from ddpp_jax.progress import Report, read_metrics
from ddpp_jax.report import pictures
from ddpp_jax.results import Evidence, doubt, tables
from ddpp_jax.sets import DistilledSet, set_path
from ddpp_jax.tuning import TUNING, epochs_as_one, first_alpha, found_names, smoothness

_FEW_TEACHERS, _FIRST_EPOCHS = 2, 3
"""The teachers and their epochs that tell how smooth all paths are, as where rates are chosen.

Where an epoch has few SGD steps, several count as one, as there.
"""


def member_row(
    member: MemberJob, outcome: distill.Outcome, found: Mapping[str, Evaluation]
) -> dict[str, Any]:
    """The row of `result.json` for one of the distillations, by the evaluation of each test set."""
    small = outcome.distilled
    about = {name: small.origin[name] for name in ("ipc", "seed", "which", "step")}
    row = tables.evaluated_row(member.title, len(small.labels), [found["test"]], **about)
    row["means"] = outcome.means
    if "held-out" in found:
        row["held_out_mean"] = found["held-out"].mean
    return row if member.value is None else row | {"value": member.value}


def kernel_row(
    member: MemberJob,
    settings: KernelConfig,
    outcome: distill.Outcome,
    dataset: Dataset,
    tests: Tests,
    report: Report,
) -> dict[str, Any]:
    """The row of a set of KIP as its own kernel finds it."""
    name = by_kernel(member.title)
    found = evaluate_by_kernel(
        infinite_of(member.job, settings),
        outcome.distilled,
        tests,
        report,
        ridge=settings.ridge,
        classes=dataset.classes,
        name=f"evaluate {name}",
    )
    return member_row(member, outcome, found) | {"method": name}


def say_outcome(name: str, outcome: distill.Outcome, run: Run, report: Report) -> None:
    """Say how long the steps took, and how many were in trouble."""
    if outcome.seconds:
        share = 100 * outcome.waited / outcome.seconds
        report.say(
            f"{name}: {outcome.seconds:.1f} s of distillation steps, {share:.1f} % of it waiting "
            "for what they read"
        )
    counted = {metric.name: metric.counted for metric in made_of(run).method.metrics}
    counted["skipped"] = "were skipped: loss or gradient not finite"
    for kind, count in outcome.troubles.items():
        if count:
            report.warn(f"{name}: {count} steps {counted[kind]}")


def plain_outcome(outcome: distill.Outcome) -> dict[str, Any]:
    """What `result.json` says of a distillation beside its row."""
    return {
        "alpha": float(outcome.distilled.alpha),
        **{f"{kind}_steps": count for kind, count in outcome.troubles.items()},
        "seconds_of_last_process": outcome.seconds,
        "seconds_waiting": outcome.waited,
    }


def doubts_of(
    run: Run,
    outcomes: Mapping[str, distill.Outcome],
    rows: Sequence[Mapping[str, Any]],
    dataset: Dataset,
    starts: Mapping[str, DistilledSet],
) -> list[str]:
    """What speaks against each distilled set, in lines; empty where nothing does."""
    by_method = {row["method"]: row for row in rows}
    found, names = list[str](), _found(run)
    for member in run.members:
        outcome = outcomes.get(member.title)
        if outcome is None or member.title not in by_method:
            continue
        settings, job = member.job.distillation, member.job
        unit = _unit(job, dataset)
        # The one that is chosen may be the set that the steps began with.
        last = distill.read_finished(run.place(member))
        moved = np.asarray(last.images) - starts[member.title].images
        evidence = Evidence(
            rows=read_metrics(
                run.place(member) / "metrics.jsonl", steps=settings.steps, warn_fn=lambda _: None
            ),
            change=float(np.sqrt(np.square(moved).mean()) / max(1e-12, deviation(dataset.x_train))),
            teacher_losses=_teacher_losses(run, job.seed) if run.needs_teachers else [],
            settings=dataclasses.asdict(settings)
            | dataclasses.asdict(job.teaching)
            | {"method": run.job.method},
            found=names,
            teachers=by_method[TEACHERS]["mean"] if TEACHERS in by_method else None,
            smoothness_fn=partial(_smoothness, run, job, unit),
            usual_alpha=_usual_alpha(job, dataset),
            epochs_as_one=unit,
        )
        line = doubt(by_method[member.title], by_method.get(RANDOM), evidence)
        found += [] if line is None else [line]
    return found


def _teacher_losses(run: Run, seed: int) -> list[float]:
    """The mean loss of each epoch over the teachers; empty where they were imported."""
    store, teaching = run.problems[seed].store, run.job.teaching
    known = [store.known(index).get("losses") for index in range(teaching.teachers)]
    losses = [one for one in known if one]
    return np.asarray(losses).mean(axis=0).tolist() if losses else []


def _found(run: Run) -> set[str]:
    """The settings that were found; none where the file is damaged, which ends no run."""
    try:
        return found_names(run.folder / TUNING)
    except InputError:
        return set()


def _unit(job: DistillJob, dataset: Dataset) -> int:
    """How many epochs count as one; of imported teachers, whose minibatches are not known, one."""
    teaching = job.teaching
    if teaching.imported is not None:
        return 1
    seen = seen_by_teachers(dataset, balance=teaching.balance)
    return epochs_as_one(seen, teaching.teacher_batch)


def _usual_alpha(job: DistillJob, dataset: Dataset) -> float | None:
    """What a search would begin with for these teachers; None where nothing tells."""
    settings, teaching = job.distillation, job.teaching
    if not isinstance(settings, TrajectoryConfig) or teaching.imported is not None:
        return None
    seen = seen_by_teachers(dataset, balance=teaching.balance)
    steps = settings.target_epochs * -(-seen // teaching.teacher_batch)
    return first_alpha(teaching.teacher_rate, steps, settings.student_steps)


def _smoothness(run: Run, job: DistillJob, unit: int) -> float | None:
    """That of the first epochs of a few teachers; None where they are too few, or lost."""
    last = min((job.distillation.last_epoch or 0) // unit, _FIRST_EPOCHS)
    if last < 2:
        return None
    epochs = range(0, last * unit + 1, unit)
    problem = run.problems[job.seed]
    few = range(min(_FEW_TEACHERS, job.teaching.teachers))
    size = problem.network.num_params
    try:
        paths = [problem.store.read(index, epochs, num_params=size) for index in few]
    except InputError:
        return None  # The set is told about all the same.
    return smoothness(np.diff(np.stack(paths, axis=1), axis=0))


def draw_run(run: Run, found: Mapping[str, Any], report: Report, *, only_missing: bool) -> None:
    """The pictures of a run, from its files."""
    title = f"{run.problem.raw.name}, {run.job.distillation.ipc} per class"
    there = [member for member in run.members if set_path(run.place(member), "last").exists()]
    for member in there:
        picture = run.place(member) / "distilled.png"
        if not (only_missing and picture.exists()):
            small = distill.read_finished(run.place(member), run.job.evaluation.which)
            which = tables.which_words(small.origin)
            chosen = "" if small.origin["which"] == "last" else f", {which}"
            pictures.save_grid(picture, small, title=f"{title}: {member.title}{chosen}")
    if run.sweep is not None and not (only_missing and (run.folder / "sweep.png").exists()):
        means = found["rows"][0]["means"] if found["rows"] else {}
        metrics = [one for one in made_of(run).method.metrics if one.name in means]
        pictures.save_sweep(
            run.folder / "sweep.png",
            found["rows"],
            name=run.sweep,
            quantities={metric.name: metric.label for metric in metrics},
            title=title,
        )
    if only_missing and (run.folder / "curves.png").exists():
        return
    rows = {}
    for member in there:
        metrics = run.place(member) / "metrics.jsonl"
        if not metrics.exists():
            report.warn(f"{metrics} is missing; the curves lack what it held")
        steps = run.job.distillation.steps
        rows[member.title] = read_metrics(metrics, steps=steps, warn_fn=report.warn)
    pictures.save_curves(run.folder / "curves.png", rows, title=title)
