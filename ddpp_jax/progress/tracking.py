"""Who is told of a run's progress beside the console: its own folder, and a tracker if wanted."""

import contextlib
import datetime
import importlib
import importlib.metadata
import json
import math
import os
import platform
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, Protocol, TypeAlias

import jax
import psutil

import ddpp_jax
from ddpp_jax.errors import InputError
from ddpp_jax.progress.records import read_progress
from ddpp_jax.storage import append_row, cut_torn_row

PROGRESS = "progress.jsonl"
"""The file of a run folder that says what was done when; one process after another adds to it."""

Tracker: TypeAlias = Literal["none", "tensorboard", "trackio", "wandb"]

_SECONDS_BETWEEN = 1.0
_SHARE_BETWEEN = 0.01  # Of the stage's time so far, so that a long run keeps few rows.
_PACKAGES = {"tensorboard": "tensorboardX", "trackio": "trackio", "wandb": "wandb"}
_MIB = 2**20


class Watcher(Protocol):
    """Somebody who is told how stages go on, one stage at a time."""

    def begin(self, stage: str, total: int, unit: str, done: int) -> None:
        """A stage of `total` units begins, of which `done` are behind it."""
        ...

    def tick(self, stage: str, done: int, values: Mapping[str, float]) -> None:
        """So much is done, and these are the numbers to show."""
        ...

    def end(self, stage: str) -> None:
        """The stage is over, by its end or by an error."""
        ...

    def close(self, error: BaseException | None) -> None:
        """The run is over."""
        ...


class RunLog:
    """Writes `progress.jsonl`: what `report --follow` reads, and the time and memory of stages.

    Rows have a number (`row`, by which lost ones are missed) and an `event`: `start` (the command,
    the time, the device), `stage`, `tick` (at most one a second), `end` (seconds of the stage in
    this process, and the most memory that was seen) and `finish` or `stop`.
    """

    def __init__(self, folder: Path, command: str | None) -> None:
        """Begin the rows of this process.

        Args:
            folder: of the run, held by this process.
            command: that does the same again; None where there is none.
        """
        path = folder / PROGRESS
        lines = cut_torn_row(path)
        # Rows of this process follow all that are there, whole or damaged.
        numbers = (row["row"] for row in read_progress(path, warn_fn=lambda _: None))
        self._rows = max([lines, *numbers])
        self._file = path.open("a")
        self._began = time.monotonic()
        self._stage_began = self._last = self._began
        self._memory, self._now, self._held = 0, 0, {}
        self._row(
            "start",
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            command=command,
            pid=os.getpid(),
            device=jax.local_devices()[0].device_kind,
        )

    def begin(self, stage: str, total: int, unit: str, done: int) -> None:
        """Note a stage."""
        self._stage_began = self._last = time.monotonic()
        self._memory, self._now, self._held = psutil.Process().memory_info().rss, done, {}
        self._row("stage", stage=stage, total=total, unit=unit, done=done)

    def tick(self, stage: str, done: int, values: Mapping[str, float]) -> None:
        """Note how far it is, now and then."""
        now = time.monotonic()
        self._now, self._held = done, values
        between = max(_SECONDS_BETWEEN, _SHARE_BETWEEN * (now - self._stage_began))
        if now - self._last >= between:
            self._last = now
            self._tick(stage)

    def end(self, stage: str) -> None:
        """Note what it took."""
        self._tick(stage)
        stats = jax.local_devices()[0].memory_stats() or {}
        device = stats.get("peak_bytes_in_use")
        self._row(
            "end",
            stage=stage,
            done=self._now,
            seconds=round(time.monotonic() - self._stage_began, 3),
            memory_mib=round(self._memory / _MIB),
            device_mib=None if device is None else round(device / _MIB),
        )

    def close(self, error: BaseException | None) -> None:
        """Note how the process ended."""
        seconds = round(time.monotonic() - self._began, 3)
        if error is None:
            self._row("finish", seconds=seconds)
        else:
            self._row("stop", seconds=seconds, error=" ".join(str(error).split()) or repr(error))
        self._file.close()

    def _tick(self, stage: str) -> None:
        self._memory = max(self._memory, psutil.Process().memory_info().rss)
        values = {name: _plain(value) for name, value in self._held.items()}
        seconds = round(time.monotonic() - self._stage_began, 3)
        self._row("tick", stage=stage, done=self._now, seconds=seconds, values=values)

    def _row(self, event: str, **values: Any) -> None:
        self._rows += 1
        append_row(self._file, {"row": self._rows, "event": event, **values})


class _TensorBoard:
    """Scalars by stage, in `tensorboard` of the run folder."""

    def __init__(self, package: Any, folder: Path) -> None:
        self._writer = package.SummaryWriter(str(folder / "tensorboard"))

    def begin(self, stage: str, total: int, unit: str, done: int) -> None:
        pass

    def tick(self, stage: str, done: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            self._writer.add_scalar(f"{stage}/{name}", value, done)

    def end(self, stage: str) -> None:
        self._writer.flush()

    def close(self, error: BaseException | None) -> None:
        self._writer.close()


class _Wandb:
    """Trackio and Weights & Biases: `init`, `log` and `finish` of the one are those of the other.

    Both count one step for a whole run, so the place within a stage is a number of its own.
    """

    def __init__(self, package: Any, folder: Path, config: Mapping[str, Any]) -> None:
        self._package = package
        about = {"name": folder.name, "config": json.loads(json.dumps(config))}
        try:
            package.init(project="ddpp-jax", **about)
        except Exception as error:  # Each package has kinds of its own, such as for no login.
            raise InputError(
                f"{package.__name__} cannot begin: {error}; see to it, or leave --track out"
            ) from error

    def begin(self, stage: str, total: int, unit: str, done: int) -> None:
        self._unit = unit

    def tick(self, stage: str, done: int, values: Mapping[str, float]) -> None:
        named = {f"{stage}/{name}": value for name, value in values.items()}
        self._package.log({f"{stage}/{self._unit}": done, **named})

    def end(self, stage: str) -> None:
        pass

    def close(self, error: BaseException | None) -> None:
        if error is not None and self._package.__name__ == "wandb":
            self._package.finish(exit_code=1)
        else:
            self._package.finish()


def require_tracker(kind: Tracker) -> Any:
    """The package of a tracker; None for none.

    Raises:
        InputError: it is not installed.
    """
    if kind == "none":
        return None
    name = _PACKAGES[kind]
    try:
        return importlib.import_module(name)
    except ImportError:
        raise InputError(
            f"--track {kind} needs the package {name}, which is not installed: pip install {name}"
        ) from None


@contextmanager
def watchers(
    folder: Path, config: Mapping[str, Any], *, command: str | None, track: Tracker
) -> Iterator[list[Watcher]]:
    """Those who are told of a run while the block lasts.

    Args:
        folder: of the run, held by this process.
        config: its settings, for a tracker to show.
        command: that does the same again.
        track: which tracker.

    Raises:
        InputError: the tracker's package is not installed.
    """
    package = require_tracker(track)
    makers: list[Callable[[], Watcher]] = [lambda: RunLog(folder, command)]
    if track == "tensorboard":
        makers.append(lambda: _TensorBoard(package, folder))
    elif track != "none":
        makers.append(lambda: _Wandb(package, folder, config))
    with contextlib.ExitStack() as stack:
        told = []
        for make in makers:
            watcher = make()
            stack.push(lambda _, error, __, close=watcher.close: close(error))
            told.append(watcher)
        yield told


def _plain(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def versions() -> dict[str, str]:
    """The versions of this package, of Python, and of the packages that figures depend on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    own = {"ddpp-jax": ddpp_jax.__version__, "python": platform.python_version()}
    return own | {name: importlib.metadata.version(name) for name in packages}
