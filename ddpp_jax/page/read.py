"""What the files of a run folder say."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float, Int

from ddpp_jax.distill.history import FOLDER, REAL
from ddpp_jax.errors import InputError
from ddpp_jax.files import read_json, read_rows
from ddpp_jax.report import PROGRESS
from ddpp_jax.results import DistilledFile, iterate_path, read_distilled


class Frame(NamedTuple):
    """Some distilled images as they looked after a step.

    Attributes:
        step: how many steps were done.
        pixels: 0 is black, 1 is white; they may lie beyond.
        labels: of the images.
    """

    step: int
    pixels: Float[np.ndarray, "images height width channels"]
    labels: Int[np.ndarray, " images"]


class Method(NamedTuple):
    """One distillation or selection of a run.

    Attributes:
        name: as its tables call it.
        rows: of its metrics.
        frames: how its images came about, in the order of the steps; none for a selection.
        real: some real images of the same classes; None where the run kept none.
        small: the set itself; None while it is made.
    """

    name: str
    rows: Sequence[Mapping[str, Any]]
    frames: Sequence[Frame]
    real: Frame | None
    small: DistilledFile | None


class Run(NamedTuple):
    """A run folder.

    Attributes:
        folder: as it was named.
        identity: what `config.json` says: the settings, the data's fingerprint, the version.
        result: what `result.json` says; empty while there is none.
        methods: the distillations or selections in it.
        log: rows of `progress.jsonl`.
    """

    folder: Path
    identity: Mapping[str, Any]
    result: Mapping[str, Any]
    methods: Sequence[Method]
    log: Sequence[Mapping[str, Any]]


def read_run(folder: Path) -> Run:
    """What a run folder holds so far.

    Raises:
        InputError: it is no run folder, or a file in it is damaged.
    """
    config, result = folder / "config.json", folder / "result.json"
    if not config.exists():
        raise InputError(f"{folder} is no run folder; it has no config.json")
    identity = read_json(config)
    settings = identity.get("config") if isinstance(identity, dict) else None
    if not isinstance(settings, dict) or "dataset" not in settings.get("data", {}):
        raise InputError(f"{config} is not that of a run; wanted its settings")
    found = read_json(result) if result.exists() else {}
    if not isinstance(found, dict) or (found and "rows" not in found):
        raise InputError(f"{result} is damaged; delete it, and the run's command makes it again")
    places = [folder, *sorted(place for place in folder.iterdir() if place.is_dir())]
    methods = [_method(place, identity) for place in places if _holds_a_method(place)]
    if "sweep" in found:  # In the order of its values.
        names = [row["method"] for row in found["rows"]]
        methods.sort(key=lambda m: names.index(m.name) if m.name in names else len(names))
    return Run(
        folder=folder,
        identity=identity,
        result=found,
        methods=methods,
        log=read_rows(folder / PROGRESS),
    )


def _holds_a_method(place: Path) -> bool:
    ours = (place / "config.json").exists() or not (place / "export.json").exists()
    return ours and (iterate_path(place, "last").exists() or (place / "metrics.jsonl").exists())


def _method(place: Path, identity: Mapping[str, Any]) -> Method:
    path = iterate_path(place, "last")
    small = read_distilled(path) if path.exists() else None
    history = place / FOLDER
    frames = [_frame(file) for file in sorted(history.glob("[0-9]*.safetensors"))]
    real = history / f"{REAL}.safetensors"
    return Method(
        name=_name(place, identity) if small is None else str(small.origin.get("method")),
        rows=read_rows(place / "metrics.jsonl"),
        frames=frames,
        real=_frame(real) if real.exists() else None,
        small=small,
    )


def _name(place: Path, identity: Mapping[str, Any]) -> str:
    """What a method that is still being made may be called."""
    if (place / "config.json").exists():
        threshold = identity["config"].get("distillation", {}).get("threshold")
        return "MTT (no pruning)" if threshold is None else f"ours (threshold {threshold:g})"
    return {"mtt": "MTT (no pruning)"}.get(place.name, place.name.replace("-", " ", 1))


def _frame(path: Path) -> Frame:
    try:
        found = safetensors.numpy.load_file(path)
        pixels, labels = found["pixels"].astype(np.float32), found["labels"]
    except (OSError, KeyError, ValueError, safetensors.SafetensorError) as error:
        raise InputError(f"{path} is damaged: {error}; delete it") from error
    return Frame(int(path.stem) if path.stem.isdigit() else 0, pixels, labels)
