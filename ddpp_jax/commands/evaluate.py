"""`python -m ddpp_jax.evaluate`: the last stage alone."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpp_jax import evaluate, tables
from ddpp_jax.commands.problem import evaluation_key, network_for, result
from ddpp_jax.configs import EvaluateJob
from ddpp_jax.data import RawDataset, apply, load_raw, transform_from
from ddpp_jax.errors import InputError
from ddpp_jax.files import write_json
from ddpp_jax.models import Network
from ddpp_jax.report import Report
from ddpp_jax.results import DistilledFile, read_distilled


def run_evaluate(job: EvaluateJob, files: Sequence[Path], out: Path | None, report: Report) -> None:
    """Judge distilled sets with fresh networks, on test images seen as each set sees its own."""
    if out is not None and out.exists():
        raise InputError(f"{out} exists already; choose another --out")
    files = [path / "distilled.safetensors" if path.is_dir() else path for path in files]
    sets = [read_distilled(path) for path in files]
    raw = load_raw(job.data)
    for path, distilled in zip(files, sets, strict=True):
        _check_matches(path, distilled, raw)
    network = network_for(job, raw)
    report.say(
        f"{raw.name}: {len(raw.y_test)} test images; {job.evaluation.networks} ConvNets of width "
        f"{job.model.width} and depth {job.model.depth}, {job.evaluation.eval_epochs + 1} epochs, "
        f"augmentation {job.data.augment}"
    )
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
    rows = [
        _row(job, raw, network, str(path), distilled, report)
        for path, distilled in zip(files, sets, strict=True)
    ]
    found = result(job, raw, rows)
    report.show(tables.table(found))
    if out is not None:
        write_json(out, found)


def _row(
    job: EvaluateJob,
    raw: RawDataset,
    network: Network,
    name: str,
    distilled: DistilledFile,
    report: Report,
) -> dict[str, Any]:
    found = evaluate.run(
        evaluation_key(job.seed),
        job.evaluation,
        (apply(transform_from(distilled.transform), raw.x_test), raw.y_test),
        network,
        distilled.images,
        distilled.labels,
        distilled.alpha,
        report,
        operations=job.data.operations,
        name=f"judge {name}",
    )
    return tables.row(name, len(distilled.labels), [found])


def _check_matches(path: Path, distilled: DistilledFile, raw: RawDataset) -> None:
    ours, theirs = distilled.images.shape[1:], raw.x_train.shape[1:]
    if ours != theirs:
        raise InputError(
            f"{path} holds images of {ours}, but {raw.name} has {theirs}; give the --setting or "
            "the --dataset that it was distilled from"
        )
    if distilled.class_names != raw.class_names:
        raise InputError(
            f"{path} and {raw.name} differ in their classes; give its --setting or --dataset"
        )
