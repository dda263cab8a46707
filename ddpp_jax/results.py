"""Small result files of a run: JSON, JSON lines, and the distilled set (safetensors)."""

import fcntl
import json
import math
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TextIO

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float, Int

import ddpp_jax
from ddpp_jax.errors import InputError

FORMAT = "ddpp-jax distilled set 1"
"""The key of the metadata, and a sign that a file is ours."""


class DistilledFile(NamedTuple):
    """A distilled set as it lies on disk.

    Attributes:
        images: normalised images.
        labels: one for each image.
        alpha: the learning rate that was distilled with them.
        class_names: a name for each label.
        mean: per channel; true pixels are images * std + mean, from 0 to 1.
        std: per channel.
    """

    images: Float[np.ndarray, "images height width channels"]
    labels: Int[np.ndarray, " images"]
    alpha: float
    class_names: tuple[str, ...]
    mean: Float[np.ndarray, " channels"]
    std: Float[np.ndarray, " channels"]


def write_distilled(path: Path, distilled: DistilledFile) -> None:
    """Write a distilled set as safetensors, whole or not at all.

    Tensors `images`, `labels` and `alpha`; under the one key `FORMAT` of the metadata a JSON object
    with the version that wrote it, the class names and the normalisation. Equal sets give equal
    files.
    """
    tensors = {
        "images": np.ascontiguousarray(distilled.images, np.float32),
        "labels": np.ascontiguousarray(distilled.labels, np.int32),
        "alpha": np.asarray(distilled.alpha, np.float32),
    }
    metadata = {
        "version": ddpp_jax.__version__,
        "class_names": distilled.class_names,
        "mean": distilled.mean.tolist(),
        "std": distilled.std.tolist(),
    }
    with Replacement(path) as temporary:
        # One entry, since safetensors writes several in an order that changes from run to run.
        safetensors.numpy.save_file(tensors, temporary, metadata={FORMAT: json.dumps(metadata)})


def read_distilled(path: Path) -> DistilledFile:
    """Read a distilled set that `write_distilled` wrote.

    Raises:
        InputError: the file is missing, damaged, or not a distilled set.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            entries = file.metadata() or {}
            if FORMAT not in entries:
                raise InputError(f"{path} is not a distilled set of this program")
            images, labels, alpha = (file.get_tensor(n) for n in ("images", "labels", "alpha"))
        metadata = json.loads(entries[FORMAT])
        distilled = DistilledFile(
            images=images,
            labels=labels,
            alpha=float(alpha.item()),
            class_names=tuple(metadata["class_names"]),
            mean=np.asarray(metadata["mean"], np.float32),
            std=np.asarray(metadata["std"], np.float32),
        )
    except InputError:
        raise
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read as a distilled set: {error}") from error
    _check_distilled(path, distilled)
    return distilled


def _check_distilled(path: Path, distilled: DistilledFile) -> None:
    images, labels, classes = distilled.images, distilled.labels, len(distilled.class_names)
    if images.ndim != 4 or labels.shape != images.shape[:1] or len(labels) == 0:
        raise InputError(
            f"{path} holds images {images.shape} and labels {labels.shape}; wanted a label for "
            "each image of (height, width, channels)"
        )
    if labels.dtype.kind != "i" or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"{path} has labels beyond its {classes} classes")
    if not np.isfinite(images).all() or not 0 < distilled.alpha < math.inf:
        raise InputError(f"{path} holds NaN or infinite pixels, or an alpha that is not above 0")


def write_json(path: Path, values: Any) -> None:
    """Write values as JSON for people and programs, whole or not at all."""
    with Replacement(path) as temporary:
        temporary.write_text(json.dumps(values, indent=2, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        InputError: the file is not JSON.
    """
    try:
        return json.loads(path.read_text())
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise InputError(f"{path} is damaged: {error}; delete it") from error


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file, or none where there is no file.

    A kill can leave the last line unfinished; that line is not a row.

    Raises:
        InputError: another line is not JSON.
    """
    if not path.exists():
        return []
    rows = []
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines[:-1], start=1):
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError as error:
            raise InputError(f"{path}, line {number} is damaged: {error}; delete it") from error
    return rows


def append_row(file: TextIO, row: dict[str, Any]) -> None:
    """Add a row to an open JSON-lines file, at once."""
    file.write(json.dumps(row, allow_nan=False) + "\n")
    file.flush()


def write_rows(path: Path, rows: Iterable[dict[str, Any]]) -> None:
    """Write a JSON-lines file, whole or not at all."""
    with Replacement(path) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows))


class Replacement:
    """A temporary path that takes the real file's place once the block ends without an error."""

    def __init__(self, path: Path) -> None:
        """Prepare to replace `path`; its folder is made if need be."""
        self._path = path
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp{path.suffix}")

    def __enter__(self) -> Path:
        """The path to write to."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        return self._temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Move the file into place, or remove it after an error."""
        try:
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


@contextmanager
def claimed_folder(folder: Path, identity: dict[str, Any], *, name: str) -> Iterator[None]:
    """Hold a folder for this process, and for what `identity` says, while the block runs.

    Args:
        folder: made if need be.
        identity: plain values that say what the folder holds.
        name: the JSON file in it that keeps them.

    Raises:
        InputError: the folder is there for something else, and nothing in it is touched; or another
            process holds it.
    """
    _check_claim(folder, identity, name)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is working in {folder}; wait for it or choose another folder"
            ) from None
        _check_claim(folder, identity, name)
        if not (folder / name).exists():
            write_json(folder / name, identity)
        yield


def _check_claim(folder: Path, identity: dict[str, Any], name: str) -> None:
    path = folder / name
    if path.exists():
        differing = differences(identity, read_json(path))
        if differing:
            raise InputError(
                f"{folder} holds something else ({'; '.join(differing)}); choose another folder"
            )
    elif folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another folder")
    elif folder.is_dir() and any(not entry.name.startswith(".") for entry in folder.iterdir()):
        raise InputError(f"{folder} holds other files and no {name}; choose another folder")


def differences(ours: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """Each value that differs, as `name was theirs, is ours`; nested names are joined by dots."""
    lines: list[str] = []
    for name in sorted(ours.keys() | theirs.keys()):
        a, b = ours.get(name), theirs.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name} was {b}, is {a}")
    return lines
