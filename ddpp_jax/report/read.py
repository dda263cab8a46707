"""What the files of a run folder say."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ddpp_jax.distill.frames import FOLDER, REAL, read_frame
from ddpp_jax.errors import InputError
from ddpp_jax.progress import PROGRESS, read_metrics, read_progress
from ddpp_jax.results import read_result
from ddpp_jax.sets import DistilledSet, check_identity, origin_digest, read_distilled, set_path
from ddpp_jax.storage import read_claim, read_sealed
from ddpp_jax.text import warn


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
    small: DistilledSet | None


class Run(NamedTuple):
    """A run folder.

    Attributes:
        folder: as it was named.
        identity: what `config.json` says: the settings, the data's fingerprint, the version.
        result: what `result.json` says; empty while there is none.
        methods: the distillations or selections in it.
        log: rows of `progress.jsonl`.
        tuning: how the settings were found; empty where they were given.
    """

    folder: Path
    identity: Mapping[str, Any]
    result: Mapping[str, Any]
    methods: Sequence[Method]
    log: Sequence[Mapping[str, Any]]
    tuning: Mapping[str, Any]


def read_run(folder: Path, warn_fn: Callable[[str], None] = warn) -> Run:
    """What a run folder holds so far.

    Args:
        folder: of the run.
        warn_fn: told of what damage to a file cost.

    Raises:
        InputError: it is no run folder, or a file in it is damaged.
        OSError: one cannot be read.
    """
    config, result = folder / "config.json", folder / "result.json"
    if not config.exists():
        raise InputError(f"{folder} is no run folder; it has no config.json")
    identity = read_claim(folder, name="config.json", warn_fn=warn_fn)
    check_identity(config, identity)
    found = read_result(result) if result.exists() else {}
    places = [folder, *sorted(place for place in folder.iterdir() if place.is_dir())]
    # Where classes arrive in steps, each step has a run of its own.
    whole = "continual" not in identity
    methods = [_method(place, warn_fn) for place in places if whole and _holds_a_method(place)]
    if "sweep" in found:  # In the order of its values.
        names = [row["method"] for row in found["rows"]]
        methods.sort(key=lambda m: names.index(m.name) if m.name in names else len(names))
    log = read_progress(folder / PROGRESS, warn_fn=warn_fn)
    if found and log and log[-1]["event"] not in ("finish", "stop"):
        warn_fn(f"{folder / PROGRESS} ends before its run did; the report lacks the time after")
    tuning = folder / "tuning.json"
    return Run(
        folder=folder,
        identity=identity,
        result=found,
        methods=methods,
        log=log,
        tuning=read_sealed(tuning) if tuning.exists() else {},
    )


def _holds_a_method(place: Path) -> bool:
    own = (place / "config.json").exists() or not (place / "export.json").exists()
    return own and (set_path(place, "last").exists() or (place / "metrics.jsonl").exists())


def _method(place: Path, warn_fn: Callable[[str], None]) -> Method:
    path, metrics = set_path(place, "last"), place / "metrics.jsonl"
    remedy = "delete it, and the run's command makes it again"
    small = read_distilled(path, remedy=remedy) if path.exists() else None
    steps = None if small is None else small.origin.get("step")
    of = None if small is None else origin_digest(small.origin)
    history = place / FOLDER
    frames = [_frame(file, of) for file in sorted(history.glob("[0-9]*.safetensors"))]
    real = history / f"{REAL}.safetensors"
    rows = read_metrics(metrics, of=of, steps=steps, warn_fn=warn_fn)
    # Of a set that is still being made, its metrics tell the name; or else its folder.
    name = next((str(row["method"]) for row in rows[:1] if "method" in row), place.name)
    return Method(
        name=name if small is None else str(small.origin.get("method")),
        rows=rows,
        frames=frames,
        real=_frame(real, of) if real.exists() else None,
        small=small,
    )


def _frame(path: Path, of: str | None) -> Frame:
    pixels, labels = read_frame(path, of=of)
    return Frame(int(path.stem) if path.stem.isdecimal() else 0, pixels, labels)
