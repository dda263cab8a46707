"""`python -m ddpp_jax.distill`: the whole job."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Generic, NoReturn

import jax
import numpy as np

from ddpp_jax import distill
from ddpp_jax.cli.baseline import evaluate_random
from ddpp_jax.cli.flags import Shown, run_with_setting
from ddpp_jax.cli.methods import Made, Sources, check, lighter, make_method, words
from ddpp_jax.configs import (
    DistillJob,
    MemberJob,
    Places,
    differences_of,
    digest,
    members_of,
    swept_name,
)
from ddpp_jax.configs.jobs import Config
from ddpp_jax.data import Dataset, load_raw
from ddpp_jax.evaluate import Evaluations, Procedure, Tests
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
from ddpp_jax.report import pictures, write_report
from ddpp_jax.results import tables
from ddpp_jax.sets import DistilledSet, set_path
from ddpp_jax.storage import claimed_folder, write_json


@dataclass(frozen=True, kw_only=True)
class _Run:
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


def run_distill(
    job: DistillJob,
    places: Places,
    out: Path | None,
    report: Report,
    *,
    sweep: str | None = None,
    dry: bool = False,
) -> None:
    """The whole job: teachers, distillation, evaluation, pictures and a table.

    Args:
        job: what is asked for.
        places: where things are kept.
        out: the run's folder; None chooses one below `runs`.
        report: told as it goes on.
        sweep: a setting and its values, such as `threshold=none,0.05,0.1`; None for no sweep.
        dry: only say what would be done.
    """
    run = _prepare(job, places, out, sweep)
    for seed, problem in run.problems.items():
        own = dataclasses.replace(job, seed=seed)
        describe(own, problem, report, with_teachers=run.needs_teachers)
    report.say(_described(run))
    stream = False
    if run.needs_teachers:
        copies = len(run.problems)
        stream = choose_reading(job, run.problem, places.read, report, copies=copies)
    check_free(run.folder, run.identity, proven=run.proven)
    if not (run.folder / "result.json").exists():
        _require(run, places, stream=stream)
    if dry:
        _describe_work(run, report)
        return
    keep_programs(places.cache_dir)
    with claimed_folder(run.folder, run.identity, name="config.json", proven=run.proven):
        if run.is_complete():
            found = finished(run.folder)
            _draw(run, found, report, only_missing=True)
            write_report(run.folder, only_stale=True)
            report.say(f"{run.folder} is complete; its results:")
            show(found, report)
            return
        costs = work.operations(job, run.problem, _made(run).method.operations)
        report.expect({stage.name: costs.of(stage) for stage in _stages(run)})
        with report.run(run.folder, run.identity):
            dataset = load(job, run.problem, places, report)
            if run.needs_teachers:
                for seed, problem in run.problems.items():
                    train_teachers(dataclasses.replace(job, seed=seed), problem, dataset, report)
            found = _compute(run, Sources(run.problems, dataset, stream), report)
        write_report(run.folder)
    show(found, report)
    report.say(f"Images, curves, metrics and settings are in {run.folder}; open its report.html")


def _prepare(job: DistillJob, places: Places, out: Path | None, sweep: str | None) -> _Run:
    """The run, its data read; nothing is computed or written yet."""
    members = members_of(job, sweep)
    raw = load_raw(job.data)
    check(job.distillation, raw)
    # Members of one seed share their teachers, members of all seeds their data.
    of_seed = {member.job.seed: member.job for member in members}
    problems = {seed: prepare(one, places, raw) for seed, one in of_seed.items()}
    parts = {member.part: differences_of(member, job) for member in members if member.part}
    identity = identity_of(job, raw) | ({"members": parts} if parts else {})
    kind = "" if sweep is None else f"-{swept_name(sweep)}"
    own = Path("runs") / f"{raw.name}-ipc{job.distillation.ipc}{kind}-{digest(identity)}"
    return _Run(
        job=job,
        members=members,
        sweep=None if sweep is None else swept_name(sweep),
        problems=problems,
        folder=out or own,
        proven=out in (None, own),
        identity=identity,
    )


def _described(run: _Run) -> str:
    settings, count = run.job.distillation, len(run.members)
    images = settings.ipc * run.problem.raw.classes
    said = f"{images} distilled images, {settings.steps} steps: {words(settings)}"
    if run.sweep is not None:
        values = ", ".join(str(member.value) for member in run.members)
        said += f"; {count} distillations side by side, {run.sweep} {values}, without baselines"
    elif count > 1:
        said += f"; {' and '.join(member.title for member in run.members)} side by side"
    return f"{said}; in {run.folder}"


def _require(run: _Run, places: Places, *, stream: bool) -> None:
    """Refuse what the run would be refused for later."""
    if run.needs_teachers:
        for seed, problem in run.problems.items():
            require_teaching(dataclasses.replace(run.job, seed=seed), problem, places)
    require_distillation(
        run.job, run.problem, _made(run).method, stream=stream, copies=len(run.problems)
    )


def _describe_work(run: _Run, report: Report) -> None:
    """Say what the run would take: for `--dry-run`."""
    member, made = _example(run, run.job)
    needed = describe_distillation(run.job, run.problem, (made.method, member), report)
    if run.needs_teachers:
        describe_teaching(run.job, run.problem, report)
    if (run.folder / "result.json").exists():
        report.say(f"{run.folder} is complete, and takes no more time")
        return
    light, times = lighter(run.job)
    small, quick = _example(run, light)
    examples = [small] * len(run.members)
    step_fn = partial(trial.step_seconds, quick.method, examples, needed=needed)
    tried = partial(
        trial.stage_seconds, run.job, run.problem, _stages(run), lambda: times * step_fn()
    )
    trial.describe(tried, run.problem.network.num_params, report)


def _stages(run: _Run) -> list[work.Stage]:
    problems = run.problems.values() if run.needs_teachers else ()
    missing = sum(len(one.store.missing(run.job.teaching.teachers)) for one in problems)
    return work.stages(run.job, missing, [member.title for member in run.members])


def _made(run: _Run) -> Made:
    """The method, not to be fed yet."""
    shape = run.problem.raw.x_train.shape[1:]
    operations = work.forward_operations(run.problem.network, shape)
    return make_method(run.job, Sources(run.problems), image_operations=operations)


def _example(run: _Run, job: DistillJob) -> tuple[distill.Member, Made]:
    """A distillation of the job's sizes, with made-up images, and its method."""
    made, raw = make_method(job, Sources(run.problems)), run.problem.raw
    labels = np.arange(job.distillation.ipc * raw.classes, dtype=np.int32) % raw.classes
    shape = (len(labels), *raw.x_train.shape[1:])
    images = np.asarray(jax.random.normal(jax.random.key(0), shape, np.float32))
    start = DistilledSet(images, labels, job.distillation.alpha)
    hparams = made.hparams_fn(job.distillation)
    return distill.Member("example", 0, start, hparams, Path()), made


def _compute(run: _Run, sources: Sources, report: Report) -> dict[str, Any]:
    """Distil, evaluate and draw; what `result.json` of the folder then holds."""
    job, dataset, network = run.job, sources.dataset, run.problem.network
    assert dataset is not None
    procedure = Procedure(job.evaluation, job.data.operations, dataset.classes)
    evaluations = Evaluations(procedure, run.folder)
    tests: Tests = {"test": (dataset.x_test, dataset.y_test)}
    keys = {member.title: evaluation_key(member.job.seed) for member in run.members}
    on_the_way = partial(_accuracies, evaluations, run, dataset, evaluation_key(job.seed))
    outcomes = _distilled(run, sources, on_the_way, report)
    rows = []
    if job.baselines and job.random_draws and run.sweep is None:
        rows.append(evaluate_random(job, evaluations, network, dataset, tests, report))
    for member in run.members:
        outcome = outcomes.get(member.title)
        if outcome is not None:
            _say_outcome(member.title, outcome, run, report)
            found = evaluations.evaluate(
                network,
                outcome.distilled,
                tests,
                report,
                key=keys[member.title],
                name=member.title,
            )
            rows.append(_row(member, outcome, found["test"]))
    if job.baselines and run.needs_teachers and run.sweep is None:
        rows.append(teacher_row(job, run.problem))
    found = result(job, run.problem.raw, rows) | {
        "ipc": job.distillation.ipc,
        "distillation": {name: _plain_outcome(outcome) for name, outcome in outcomes.items()},
    }
    found |= {} if run.sweep is None else {"sweep": run.sweep}
    _draw(run, found, report, only_missing=False)
    write_json(run.folder / "result.json", found)
    evaluations.close()
    return found


def _distilled(
    run: _Run, sources: Sources, evaluate_fn: distill.EvaluateFn, report: Report
) -> dict[str, distill.Outcome]:
    """Distil all members; what each left, by its title."""
    job, dataset = run.job, sources.dataset
    assert dataset is not None
    made = make_method(job, sources)
    members = [
        distill.Member(
            name=member.title,
            seed=member.job.seed,
            start=distill.start_from(
                dataset,
                ipc=job.distillation.ipc,
                alpha=member.job.distillation.alpha,
                seed=member.job.seed,
            ),
            hparams=made.hparams_fn(member.job.distillation),
            folder=run.place(member),
            origin=origin_of(member.title, member.job, run.problem.raw, ipc=job.distillation.ipc),
        )
        for member in run.members
    ]
    settings = run.members[0].job.distillation
    return distill.run(
        made.method,
        members,
        distill.Pace(settings.steps, settings.eval_every, job.evaluation.which),
        run.folder,
        report,
        seen=distill.pictured(dataset),
        evaluate_fn=evaluate_fn,
    )


def _accuracies(
    evaluations: Evaluations, run: _Run, dataset: Dataset, key: Any, small: DistilledSet
) -> dict[str, float]:
    """What an evaluation on the way finds."""
    quantities = {"test": "accuracy", "held-out": "held_out_accuracy"}
    tests = {"test": (dataset.x_test, dataset.y_test)}
    if len(dataset.y_held):
        tests["held-out"] = (dataset.x_held, dataset.y_held)
    found = evaluations.evaluate(run.problem.network, small, tests, Report(None), key=key)
    means = {quantities[test]: evaluation.mean for test, evaluation in found.items()}
    return means | {f"{quantities[test]}_std": one.std for test, one in found.items()}


def _row(member: MemberJob, outcome: distill.Outcome, evaluation: Any) -> dict[str, Any]:
    small = outcome.distilled
    about = {name: small.origin[name] for name in ("ipc", "seed", "which", "step")}
    row = tables.evaluated_row(member.title, len(small.labels), [evaluation], **about)
    row["means"] = outcome.means
    return row if member.value is None else row | {"value": member.value}


def _say_outcome(name: str, outcome: distill.Outcome, run: _Run, report: Report) -> None:
    if outcome.seconds:
        share = 100 * outcome.waited / outcome.seconds
        report.say(
            f"{name}: {outcome.seconds:.1f} s of distillation steps, {share:.1f} % of it waiting "
            "for what they read"
        )
    counted = {metric.name: metric.counted for metric in _made(run).method.metrics}
    counted["skipped"] = "were skipped: loss or gradient not finite"
    for kind, count in outcome.troubles.items():
        if count:
            report.warn(f"{name}: {count} steps {counted[kind]}")


def _plain_outcome(outcome: distill.Outcome) -> dict[str, Any]:
    return {
        "alpha": float(outcome.distilled.alpha),
        **{f"{kind}_steps": count for kind, count in outcome.troubles.items()},
        "seconds_of_last_process": outcome.seconds,
        "seconds_waiting": outcome.waited,
    }


def _draw(run: _Run, found: Mapping[str, Any], report: Report, *, only_missing: bool) -> None:
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
        metrics = [one for one in _made(run).method.metrics if one.name in means]
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


@dataclass(frozen=True, kw_only=True)
class _Distill(Generic[Config]):
    config: DistillJob[Config]
    places: Places = field(default_factory=Places)
    shown: Shown = field(default_factory=Shown)

    out: Path | None = None
    """The run's folder, never one of another run; by default runs/DATASET-ipcIPC-SETTINGS."""

    sweep: str | None = None
    """Several distillations side by side, such as threshold=none,0.05,0.1; none for one."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The main job: `python -m ddpp_jax.distill [SETTING]`."""

    def work(command: _Distill[Any], report: Report) -> None:
        run_distill(
            command.config,
            command.places,
            command.out,
            report,
            sweep=command.sweep,
            dry=command.shown.dry_run,
        )

    about = (
        "Distil a dataset into a few images per class, and evaluate them: trains missing teachers, "
        "distils with and without pruning, trains fresh networks on the results, draws them."
    )
    run_with_setting(
        "distill",
        about,
        arguments,
        lambda job: _Distill(config=job),
        work,
        kind_fn=lambda command: _Distill[type(command.config.distillation)],
    )
