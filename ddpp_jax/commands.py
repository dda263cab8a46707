"""What the commands do: stages joined by files, and a table at the end."""

import dataclasses
import importlib.metadata
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

import ddpp_jax
from ddpp_jax import distill, evaluate, plots, tables, teachers
from ddpp_jax.configs import DistillJob, EvaluateJob, TeachersJob, digest
from ddpp_jax.data import Dataset, load_dataset, random_per_class
from ddpp_jax.errors import InputError
from ddpp_jax.keys import named_key
from ddpp_jax.models import ConvNet, Network, make_network
from ddpp_jax.report import Report
from ddpp_jax.results import (
    DistilledFile,
    claimed_folder,
    read_distilled,
    read_json,
    read_rows,
    write_json,
)
from ddpp_jax.storage import TeacherStore

_VERSIONS = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")


@dataclass(frozen=True, kw_only=True)
class Problem:
    """What all commands set out from: the data, the network, and where its teachers are kept."""

    dataset: Dataset
    network: Network
    store: TeacherStore
    manifest: dict[str, Any]


def run_teachers(job: TeachersJob, teachers_dir: Path, report: Report, *, dry: bool) -> None:
    """Train the teachers that are missing, and show how good all of them are."""
    problem = _prepare(job, teachers_dir)
    _describe(job, problem, report)
    if dry:
        return
    trajectories = _train_teachers(job, problem, report)
    rows = [_teacher_row(trajectories, problem)]
    report.show(tables.table(_result(job, problem.dataset, rows)))
    report.say(f"Their trajectories are in {problem.store.folder}")


def run_distill(
    job: DistillJob, teachers_dir: Path, out: Path | None, report: Report, *, dry: bool
) -> None:
    """The whole job: teachers, distillation, evaluation, pictures and a table."""
    problem = _prepare(job, teachers_dir)
    dataset, ipc = problem.dataset, job.distillation.ipc
    distill.check(job.distillation, dataset)
    identity = {
        "version": ddpp_jax.__version__,
        "fingerprint": dataset.fingerprint,
        "config": dataclasses.asdict(job),
    }
    folder = out or Path("runs") / f"{dataset.name}-ipc{ipc}-{digest(identity)}"
    _describe(job, problem, report)
    _describe_distillation(job, problem, folder, report)
    if dry:
        return
    with claimed_folder(folder, identity, name="config.json"):
        if (folder / "result.json").exists():
            report.say(f"{folder} is complete; its results:")
            report.show(tables.table(read_json(folder / "result.json")))
            return
        trajectories = _train_teachers(job, problem, report)
        methods = _distill_methods(job, problem, trajectories, folder, report)
        rows = _judge(job, problem, methods, trajectories, report)
        result = _result(job, dataset, rows) | {"ipc": ipc, "iterate": "last"}
        _draw(methods, folder, ipc, dataset.name)
        write_json(folder / "result.json", result)
    report.show(tables.table(result))
    report.say(f"Images, curves, metrics and settings are in {folder}")


def run_evaluate(job: EvaluateJob, files: Sequence[Path], out: Path | None, report: Report) -> None:
    """Judge distilled sets with fresh networks."""
    if out is not None and out.exists():
        raise InputError(f"{out} exists already; choose another --out")
    sets = [read_distilled(path) for path in files]
    dataset = load_dataset(job.data)
    for path, distilled in zip(files, sets, strict=True):
        _check_matches(path, distilled, dataset)
    network = _make_network(job, dataset)
    rows = [
        _evaluation_row(job, dataset, network, str(path), distilled, report)
        for path, distilled in zip(files, sets, strict=True)
    ]
    result = _result(job, dataset, rows)
    report.show(tables.table(result))
    if out is not None:
        write_json(out, result)


def _result(
    job: TeachersJob | EvaluateJob, dataset: Dataset, rows: list[dict[str, Any]]
) -> dict[str, Any]:
    """What every result file says: the rows, and all that is needed to read them."""
    packages = {name: importlib.metadata.version(name) for name in _VERSIONS}
    return {
        "dataset": dataset.name,
        "seed": job.seed,
        "rows": rows,
        "std": "population, over all networks of a row",
        "config": dataclasses.asdict(job),
        "fingerprint": dataset.fingerprint,
        "versions": {"ddpp-jax": ddpp_jax.__version__, "python": platform.python_version()}
        | packages,
        "device": jax.devices()[0].device_kind,
    }


def _prepare(job: TeachersJob, teachers_dir: Path) -> Problem:
    dataset = load_dataset(job.data)
    network = _make_network(job, dataset)
    settings = dataclasses.asdict(job)
    manifest = {
        "version": ddpp_jax.__version__,
        "fingerprint": dataset.fingerprint,
        "dataset": job.data.dataset,
        "augment": job.data.augment,
        "model": settings["model"],
        "teaching": {k: v for k, v in settings["teaching"].items() if k != "teachers"},
        "seed": job.seed,
    }
    folder = teachers_dir / f"{dataset.name}-{digest(manifest)}"
    return Problem(dataset=dataset, network=network, store=TeacherStore(folder), manifest=manifest)


def _make_network(job: TeachersJob | EvaluateJob, dataset: Dataset) -> Network:
    height, width, channels = dataset.x_train.shape[1:]
    model = ConvNet(
        classes=dataset.classes,
        width=job.model.width,
        depth=job.model.depth,
        image_size=height,
        channels=channels,
    )
    return make_network(model, (height, width, channels))


def _describe(job: TeachersJob, problem: Problem, report: Report) -> None:
    dataset, num_params = problem.dataset, problem.network.num_params
    teaching = job.teaching
    height, width, channels = dataset.x_train.shape[1:]
    size = teaching.teachers * (teaching.epochs + 1) * num_params * 4
    report.say(
        f"{dataset.name}: {len(dataset.y_train)} training and {len(dataset.y_test)} test images, "
        f"{height}x{width}x{channels}, {dataset.classes} classes"
    )
    report.say(
        f"ConvNet of width {job.model.width} and depth {job.model.depth}: "
        f"{num_params:,} parameters, on {jax.devices()[0].device_kind}"
    )
    missing = len(problem.store.missing(teaching.teachers))
    report.say(
        f"{teaching.teachers} teachers of {teaching.epochs} epochs ({size / 2**20:.1f} MiB) in "
        f"{problem.store.folder}: {teaching.teachers - missing} found, {missing} to train"
    )


def _describe_distillation(job: DistillJob, problem: Problem, folder: Path, report: Report) -> None:
    settings = job.distillation
    threshold = "no pruning" if settings.threshold is None else f"threshold {settings.threshold:g}"
    report.say(
        f"{settings.ipc * problem.dataset.classes} distilled images, {settings.steps} steps: "
        f"J {settings.student_steps}, K {settings.target_epochs}, I+ {settings.max_start_epoch}, "
        f"{threshold}, pixel rate {settings.pixel_rate:g}, alpha {settings.alpha:g} at rate "
        f"{settings.alpha_rate:g}; in {folder}"
    )


def _train_teachers(
    job: TeachersJob, problem: Problem, report: Report
) -> Float[Array, "teachers snapshots parameters"]:
    count, snapshots = job.teaching.teachers, job.teaching.epochs + 1
    with claimed_folder(problem.store.folder, problem.manifest, name="manifest.json"):
        teachers.run(job, problem.dataset, problem.network, problem.store, report)
    num_params = problem.network.num_params
    return jnp.asarray(problem.store.read(count, snapshots=snapshots, num_params=num_params))


def _distill_methods(
    job: DistillJob,
    problem: Problem,
    trajectories: Float[Array, "teachers snapshots parameters"],
    folder: Path,
    report: Report,
) -> dict[str, tuple[Path, DistilledFile]]:
    """Each method's name, folder and distilled set; MTT beside ours where baselines are wanted."""
    threshold = job.distillation.threshold
    plans = {_method_name(threshold): (folder, threshold)}
    if job.baselines and threshold is not None:
        plans = {_method_name(None): (folder / "mtt", None)} | plans

    def judge(images, labels, alpha) -> float:
        return float(
            evaluate.run(
                _evaluation_key(job.seed),
                job.evaluation,
                problem.dataset,
                problem.network,
                images,
                labels,
                alpha,
                Report(None),
                operations=job.data.operations,
            ).mean()
        )

    methods = {}
    for name, (place, ratio) in plans.items():
        varied = dataclasses.replace(
            job, distillation=dataclasses.replace(job.distillation, threshold=ratio)
        )
        distilled = distill.run(
            varied,
            problem.dataset,
            problem.network,
            trajectories,
            place,
            report,
            name=f"distil, {name}",
            evaluate_fn=judge,
        )
        methods[name] = (place, distilled)
    return methods


def _judge(
    job: DistillJob,
    problem: Problem,
    methods: dict[str, tuple[Path, DistilledFile]],
    trajectories: Float[Array, "teachers snapshots parameters"],
    report: Report,
) -> list[dict[str, Any]]:
    rows = [
        _evaluation_row(job, problem.dataset, problem.network, name, distilled, report)
        for name, (_, distilled) in methods.items()
    ]
    if job.baselines:
        random = [_random_row(job, problem, report)] if job.evaluation.random_draws else []
        rows = [*random, *rows, _teacher_row(trajectories, problem)]
    return rows


def _evaluation_row(
    job: DistillJob | EvaluateJob,
    dataset: Dataset,
    network: Network,
    name: str,
    distilled: DistilledFile,
    report: Report,
) -> dict[str, Any]:
    found = evaluate.run(
        _evaluation_key(job.seed),
        job.evaluation,
        dataset,
        network,
        distilled.images,
        distilled.labels,
        distilled.alpha,
        report,
        operations=job.data.operations,
        name=f"judge {name}",
    )
    return tables.row(name, len(distilled.labels), [found])


def _random_row(job: DistillJob, problem: Problem, report: Report) -> dict[str, Any]:
    """Random real images, trained on at the alpha that distillation starts from."""
    draws_key = named_key(jax.random.key(job.seed), "random images")
    draws, ipc = job.evaluation.random_draws, job.distillation.ipc
    found = []
    with report.progress("judge random real images", draws, unit="draw") as tick:
        for number in range(draws):
            key = jax.random.fold_in(draws_key, number)
            images, labels = random_per_class(key, problem.dataset, ipc)
            found.append(
                evaluate.run(
                    jax.random.fold_in(_evaluation_key(job.seed), number),
                    job.evaluation,
                    problem.dataset,
                    problem.network,
                    images,
                    labels,
                    job.distillation.alpha,
                    Report(None),
                    operations=job.data.operations,
                )
            )
            tick(number + 1, {"accuracy": float(found[-1].mean())})
    count = ipc * problem.dataset.classes
    return tables.row("random real images", count, found)


def _teacher_row(
    trajectories: Float[Array, "teachers snapshots parameters"], problem: Problem
) -> dict[str, Any]:
    params = jax.vmap(problem.network.unflatten)(trajectories[:, -1])
    found = evaluate.accuracies(params, problem.dataset, problem.network)
    return tables.row("full data (the teachers)", len(problem.dataset.y_train), [found])


def _draw(
    methods: dict[str, tuple[Path, DistilledFile]], folder: Path, ipc: int, dataset: str
) -> None:
    for name, (place, distilled) in methods.items():
        title = f"{dataset}, {ipc} per class: {name}"
        plots.save_grid(place / "distilled.png", distilled, title=title)
    runs = {name: read_rows(place / "metrics.jsonl") for name, (place, _) in methods.items()}
    plots.save_curves(folder / "curves.png", runs, title=f"{dataset}, {ipc} per class")


def _check_matches(path: Path, distilled: DistilledFile, dataset: Dataset) -> None:
    ours, theirs = distilled.images.shape[1:], dataset.x_train.shape[1:]
    if ours != theirs:
        raise InputError(f"{path} holds images of {ours}, but {dataset.name} has {theirs}")
    if distilled.class_names != dataset.class_names:
        raise InputError(f"{path} and {dataset.name} differ in their classes; give its --dataset")
    if not np.allclose(distilled.mean, dataset.mean) or not np.allclose(distilled.std, dataset.std):
        raise InputError(
            f"{path} and {dataset.name} are normalised differently; give its --dataset"
        )


def _method_name(threshold: float | None) -> str:
    return "MTT (no pruning)" if threshold is None else f"ours (threshold {threshold:g})"


def _evaluation_key(seed: int):
    return named_key(jax.random.key(seed), "evaluation")
