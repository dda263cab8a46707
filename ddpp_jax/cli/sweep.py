"""`python -m ddpp_jax.distill --sweep`: several distillations side by side."""

from functools import partial
from pathlib import Path
from typing import Any

from ddpp_jax import distill
from ddpp_jax.cli.judge import Judge, Tests
from ddpp_jax.cli.reading import feed_of
from ddpp_jax.configs import DistillJob, Places, digest, sweep_jobs
from ddpp_jax.data import Dataset, load_raw
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
    train_teachers,
)
from ddpp_jax.planning.programs import keep_programs
from ddpp_jax.planning.sizes import choose_reading
from ddpp_jax.progress import Report
from ddpp_jax.report import plots, write_report
from ddpp_jax.results import tables
from ddpp_jax.storage import FeedFn, claimed_folder, write_json


def run_sweep(
    job: DistillJob, sweep: str, places: Places, out: Path | None, report: Report, *, dry: bool
) -> None:
    """Distil all members of a sweep, judge each, and draw what the setting does.

    Args:
        job: what they share.
        sweep: the setting and its values, such as `threshold=none,0.05,0.1`.
        places: where things are kept.
        out: the folder of the results; None chooses one below `runs`.
        report: told as it goes on.
        dry: only say what would be done.
    """
    name, jobs = sweep_jobs(job, sweep)
    raw = load_raw(job.data)
    # Members of one seed share their teachers, members of all seeds their data.
    of_seed = {member.seed: member for member in jobs.values()}
    problems = {seed: prepare(member, places, raw) for seed, member in of_seed.items()}
    problem = next(iter(problems.values()))
    distill.check(job.distillation, raw)
    identity = identity_of(job, raw) | {"sweep": {name: list(jobs)}}
    own = Path("runs") / f"{raw.name}-ipc{job.distillation.ipc}-{name}-{digest(identity)}"
    folder = out or own
    for seed, member in of_seed.items():
        describe(member, problems[seed], report)
    report.say(
        f"{len(jobs)} distillations of {job.distillation.steps} steps in one program, {name} "
        f"{', '.join(jobs)}, judged at the end and without baselines; in {folder}"
    )
    stream = choose_reading(job, problem, places.read, report, copies=len(problems))
    check_free(folder, identity, proven=folder == own)
    if not (folder / "result.json").exists():
        for seed, member in of_seed.items():
            require_teaching(member, problems[seed], places)
        require_distillation(job, problem, stream=stream, copies=len(problems))
    missing = sum(len(one.store.missing(job.teaching.teachers)) for one in problems.values())
    stages = work.sweep_stages(job, missing, [f"{name} {value}" for value in jobs])
    if dry:
        if (folder / "result.json").exists():
            report.say(f"{folder} is complete, and takes no more time")
            return
        tried = partial(trial.stage_seconds, job, problem, stages)
        trial.describe(tried, problem.network.num_params, report)
        return
    keep_programs(places.cache_dir)
    with claimed_folder(folder, identity, name="config.json", proven=folder == own):
        if (folder / "result.json").exists():
            report.say(f"{folder} is complete; its results:")
            write_report(folder, only_stale=True)
            show(finished(folder), report)
            return
        operations = work.operations(job, problem)
        report.expect({stage.name: operations.of(stage) for stage in stages})
        with report.run(folder, identity):
            dataset = load(job, problem, places, report)
            feeds = {}
            for seed, member in of_seed.items():
                train_teachers(member, problems[seed], dataset, report)
                feeds[seed] = feed_of(member, problems[seed], stream=stream)
            found = _compute(job, name, jobs, problem, feeds, dataset, folder, report)
        write_report(folder)
    show(found, report)
    report.say(f"A picture of what {name} does, and each distillation's files, are in {folder}")


def _compute(
    job: DistillJob,
    name: str,
    jobs: dict[str, DistillJob],
    problem: Problem,
    feeds: dict[int, FeedFn],
    dataset: Dataset,
    folder: Path,
    report: Report,
) -> dict[str, Any]:
    titles = {value: f"{name} {value}" for value in jobs}
    members = {
        titles[value]: distill.Member(
            job=member,
            feed_fn=feeds[member.seed],
            folder=folder / f"{name}-{value}",
            origin=origin_of(titles[value], member, problem.raw, ipc=member.distillation.ipc),
        )
        for value, member in jobs.items()
    }
    outcomes = distill.run_sweep(members, dataset, problem.network, folder, report)
    judge = Judge(job, folder, classes=dataset.classes)
    tests: Tests = {"test": (dataset.x_test, dataset.y_test)}
    rows = []
    for value, member in jobs.items():
        title = titles[value]
        if title not in outcomes:
            continue
        small, key = outcomes[title].distilled, evaluation_key(member.seed)
        verdict = judge.judge(
            problem.network,
            tests,
            small.images,
            small.labels,
            small.alpha,
            report,
            name=title,
            key=key,
        )["test"]
        kept = float(distill.kept_fractions(members[title].folder).mean())
        about = {n: small.origin[n] for n in ("ipc", "seed", "iterate", "step")}
        row = tables.judged_row(title, len(small.labels), [verdict], **about)
        rows.append(row | {"value": value, "kept_fraction": kept})
    found = result(job, problem.raw, rows) | {"sweep": name, "ipc": job.distillation.ipc}
    title = f"{problem.raw.name}, {job.distillation.ipc} per class"
    plots.save_sweep(folder / "sweep.png", rows, name=name, title=title)
    write_json(folder / "result.json", found)
    judge.close()
    return found
