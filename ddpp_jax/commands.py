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
from rich.table import Table

import ddpp_jax
from ddpp_jax import distill, evaluate, plots, teachers
from ddpp_jax.configs import EvaluationConfig, RunConfig, TeachersConfig, digest
from ddpp_jax.data import Dataset, load_dataset, random_per_class
from ddpp_jax.errors import InputError
from ddpp_jax.keys import named_key
from ddpp_jax.models import ConvNet, Network, make_network
from ddpp_jax.report import Report
from ddpp_jax.results import (
    DistilledFile,
    claim_folder,
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


def run_teachers(config: TeachersConfig, teachers_dir: Path, report: Report, *, dry: bool) -> None:
    """Train the teachers that are missing, and show how good all of them are."""
    problem = _prepare(config, teachers_dir)
    _describe(config, problem, report)
    if dry:
        return
    trajectories = _train_teachers(config, problem, report)
    table = _table(f"Teachers on {problem.dataset.name}, in {problem.store.folder}")
    _add_row(table, _teacher_row(trajectories, problem))
    report.show(table)


def run_distill(
    config: RunConfig, teachers_dir: Path, out: Path | None, report: Report, *, dry: bool
) -> None:
    """The whole job: teachers, distillation, evaluation, pictures and a table."""
    problem = _prepare(config, teachers_dir)
    dataset = problem.dataset
    distill.check(config.distillation, dataset)
    identity = {
        "version": ddpp_jax.__version__,
        "fingerprint": dataset.fingerprint,
        "config": dataclasses.asdict(config),
    }
    ipc = config.distillation.ipc
    folder = out or Path("runs") / f"{dataset.name}-ipc{ipc}-{digest(identity)}"
    _describe(config, problem, report)
    _describe_distillation(config, problem, folder, report)
    if dry:
        return
    claim_folder(folder, identity, name="config.json")
    if (folder / "result.json").exists():
        report.say(f"{folder} is complete; its results:")
        report.show(_result_table(read_json(folder / "result.json")))
        return
    trajectories = _train_teachers(config, problem, report)
    methods = _distill_methods(config, problem, trajectories, folder, report)
    rows = _judge(config, problem, methods, trajectories, report)
    result = {
        "dataset": dataset.name,
        "ipc": ipc,
        "seed": config.seed,
        "iterate": "last",
        "standard_deviation": "population, over networks (and draws)",
        "rows": rows,
        "versions": _versions(),
        "device": jax.devices()[0].device_kind,
    }
    _draw(methods, folder, ipc, dataset.name)
    write_json(folder / "result.json", result)
    report.show(_result_table(result))
    report.say(f"Images, curves, metrics and settings are in {folder}")


def run_evaluate(
    config: EvaluationConfig, files: Sequence[Path], out: Path | None, report: Report
) -> None:
    """Judge distilled sets with fresh networks."""
    sets = [read_distilled(path) for path in files]
    dataset = load_dataset(config.data)
    for path, distilled in zip(files, sets, strict=True):
        _check_matches(path, distilled, dataset)
    network = _make_network(config, dataset)
    rows = [
        _evaluation_row(config, dataset, network, str(path), distilled, report)
        for path, distilled in zip(files, sets, strict=True)
    ]
    result = {"dataset": dataset.name, "seed": config.seed, "rows": rows, "versions": _versions()}
    if out is not None:
        write_json(out, result)
    report.show(_result_table(result))


def _prepare(config: TeachersConfig, teachers_dir: Path) -> Problem:
    dataset = load_dataset(config.data)
    network = _make_network(config, dataset)
    settings = dataclasses.asdict(config)
    manifest = {
        "version": ddpp_jax.__version__,
        "fingerprint": dataset.fingerprint,
        "dataset": config.data.dataset,
        "augment": config.data.augment,
        "model": settings["model"],
        "teaching": {k: v for k, v in settings["teaching"].items() if k != "teachers"},
        "seed": config.seed,
    }
    folder = teachers_dir / f"{dataset.name}-{digest(manifest)}"
    return Problem(dataset=dataset, network=network, store=TeacherStore(folder), manifest=manifest)


def _make_network(config: TeachersConfig | EvaluationConfig, dataset: Dataset) -> Network:
    height, width, channels = dataset.x_train.shape[1:]
    model = ConvNet(
        classes=dataset.classes,
        width=config.model.width,
        depth=config.model.depth,
        image_size=height,
        channels=channels,
    )
    return make_network(model, (height, width, channels))


def _describe(config: TeachersConfig, problem: Problem, report: Report) -> None:
    dataset, num_params = problem.dataset, problem.network.num_params
    teaching = config.teaching
    height, width, channels = dataset.x_train.shape[1:]
    size = teaching.teachers * (teaching.epochs + 1) * num_params * 4
    report.say(
        f"{dataset.name}: {len(dataset.y_train)} training and {len(dataset.y_test)} test images, "
        f"{height}x{width}x{channels}, {dataset.classes} classes"
    )
    report.say(
        f"ConvNet of width {config.model.width} and depth {config.model.depth}: "
        f"{num_params:,} parameters, on {jax.devices()[0].device_kind}"
    )
    missing = len(problem.store.missing(teaching.teachers))
    report.say(
        f"{teaching.teachers} teachers of {teaching.epochs} epochs ({size / 2**20:.1f} MiB) in "
        f"{problem.store.folder}: {teaching.teachers - missing} found, {missing} to train"
    )


def _describe_distillation(
    config: RunConfig, problem: Problem, folder: Path, report: Report
) -> None:
    settings = config.distillation
    threshold = "no pruning" if settings.threshold is None else f"threshold {settings.threshold:g}"
    report.say(
        f"{settings.ipc * problem.dataset.classes} distilled images, {settings.steps} steps: "
        f"J {settings.student_steps}, K {settings.target_epochs}, I+ {settings.max_start_epoch}, "
        f"{threshold}, pixel rate {settings.pixel_rate:g}, alpha {settings.alpha:g} at rate "
        f"{settings.alpha_rate:g}; in {folder}"
    )


def _train_teachers(
    config: TeachersConfig, problem: Problem, report: Report
) -> Float[Array, "teachers snapshots parameters"]:
    claim_folder(problem.store.folder, problem.manifest, name="manifest.json")
    teachers.run(config, problem.dataset, problem.network, problem.store, report)
    return jnp.asarray(
        problem.store.read(
            config.teaching.teachers,
            snapshots=config.teaching.epochs + 1,
            num_params=problem.network.num_params,
        )
    )


def _distill_methods(
    config: RunConfig,
    problem: Problem,
    trajectories: Float[Array, "teachers snapshots parameters"],
    folder: Path,
    report: Report,
) -> dict[str, tuple[Path, DistilledFile]]:
    """Each method's name, folder and distilled set; MTT beside ours where baselines are wanted."""
    threshold = config.distillation.threshold
    plans = {_method_name(threshold): (folder, threshold)}
    if config.baselines and threshold is not None:
        plans = {_method_name(None): (folder / "mtt", None)} | plans

    def judge(images, labels, alpha) -> float:
        return float(
            evaluate.run(
                _evaluation_key(config.seed),
                config.evaluation,
                problem.dataset,
                problem.network,
                images,
                labels,
                alpha,
                Report(None),
                operations=config.data.operations,
            ).mean()
        )

    methods = {}
    for name, (place, ratio) in plans.items():
        varied = dataclasses.replace(
            config, distillation=dataclasses.replace(config.distillation, threshold=ratio)
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
    config: RunConfig,
    problem: Problem,
    methods: dict[str, tuple[Path, DistilledFile]],
    trajectories: Float[Array, "teachers snapshots parameters"],
    report: Report,
) -> list[dict[str, Any]]:
    rows = [
        _evaluation_row(config, problem.dataset, problem.network, name, distilled, report)
        for name, (_, distilled) in methods.items()
    ]
    if config.baselines:
        random = [_random_row(config, problem, report)] if config.evaluation.random_draws else []
        rows = [*random, *rows, _teacher_row(trajectories, problem)]
    return rows


def _evaluation_row(
    config: RunConfig | EvaluationConfig,
    dataset: Dataset,
    network: Network,
    name: str,
    distilled: DistilledFile,
    report: Report,
) -> dict[str, Any]:
    found = evaluate.run(
        _evaluation_key(config.seed),
        config.evaluation,
        dataset,
        network,
        distilled.images,
        distilled.labels,
        distilled.alpha,
        report,
        operations=config.data.operations,
        name=f"judge {name}",
    )
    return _row(name, len(distilled.labels), found)


def _random_row(config: RunConfig, problem: Problem, report: Report) -> dict[str, Any]:
    """Random real images, trained on at the alpha that distillation starts from."""
    draws_key = named_key(jax.random.key(config.seed), "random images")
    draws, ipc = config.evaluation.random_draws, config.distillation.ipc
    found = []
    with report.progress("judge random real images", draws, unit="draw") as tick:
        for number in range(draws):
            key = jax.random.fold_in(draws_key, number)
            images, labels = random_per_class(key, problem.dataset, ipc)
            found.append(
                evaluate.run(
                    jax.random.fold_in(_evaluation_key(config.seed), number),
                    config.evaluation,
                    problem.dataset,
                    problem.network,
                    images,
                    labels,
                    config.distillation.alpha,
                    Report(None),
                    operations=config.data.operations,
                )
            )
            tick(number + 1, {"accuracy": float(found[-1].mean())})
    count = ipc * problem.dataset.classes
    return _row(f"random real images ({draws} draws)", count, np.concatenate(found))


def _teacher_row(
    trajectories: Float[Array, "teachers snapshots parameters"], problem: Problem
) -> dict[str, Any]:
    params = jax.vmap(problem.network.unflatten)(trajectories[:, -1])
    found = evaluate.accuracies(params, problem.dataset, problem.network)
    return _row("full data (the teachers)", len(problem.dataset.y_train), found)


def _row(name: str, images: int, found: Float[np.ndarray, " networks"]) -> dict[str, Any]:
    return {
        "method": name,
        "images": images,
        "networks": len(found),
        "mean": float(found.mean(dtype=np.float64)),
        "std": float(found.std(dtype=np.float64)),
        "accuracies": [float(value) for value in found],
    }


def _table(title: str) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("trained on")
    for name in ("images", "networks", "test accuracy, %"):
        table.add_column(name, justify="right")
    return table


def _add_row(table: Table, row: dict[str, Any]) -> None:
    accuracy = f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}"
    table.add_row(row["method"], f"{row['images']:,}", str(row["networks"]), accuracy)


def _result_table(result: dict[str, Any]) -> Table:
    ipc = f", {result['ipc']} per class" if "ipc" in result else ""
    table = _table(f"{result['dataset']}{ipc}, seed {result['seed']}")
    for row in result["rows"]:
        _add_row(table, row)
    return table


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


def _versions() -> dict[str, str]:
    packages = {name: importlib.metadata.version(name) for name in _VERSIONS}
    return {"ddpp-jax": ddpp_jax.__version__, "python": platform.python_version()} | packages
