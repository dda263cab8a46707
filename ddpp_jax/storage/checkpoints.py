"""The newest states of a run (Orbax)."""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpp_jax.errors import InputError
from ddpp_jax.storage.trees import (
    damage,
    is_complete,
    load_tree,
    notes,
    remove_tree,
    save_tree,
    set_aside,
)

_KEPT = 2
_SECONDS_BETWEEN_SYNCS = 5.0
"""To bring a state to the disk takes 50 ms, which is 7 % of the time of 50 steps on the digits."""
_NAME = re.compile(r"step-(\d+)(?!.*\.damaged-)")


class Resumed(NamedTuple):
    """Where a run goes on.

    Attributes:
        step: how many steps are behind it.
        state: after them; None at step 0.
        warnings: a line for each newer checkpoint that was damaged and set aside.
    """

    step: int
    state: Any
    warnings: tuple[str, ...]


class Checkpoints:
    """The newest states of a run, so that an interrupted one goes on."""

    def __init__(self, folder: Path, *, of: str | None = None) -> None:
        """Open the folder, which need not exist yet.

        Args:
            folder: of the checkpoints.
            of: what they are of, as a digest; one of something else counts as damaged. None does
                not ask.
        """
        self.folder, self._of = folder, of
        self._synced_at, self._synced = -math.inf, -1

    def save(self, step: int, state: Any) -> None:
        """Keep a state; older ones but the last are then removed.

        The first of a process, and then one every few seconds, is brought to the disk at once, and
        stays until the next such: a loss of power costs no more than these seconds of work.

        Raises:
            OSError: the disk is full or may not be written to; the older ones stay.
        """
        now = time.monotonic()
        sync = now - self._synced_at >= _SECONDS_BETWEEN_SYNCS
        arrays = jax.tree.map(np.asarray, state)
        save_tree(self._path(step), arrays, sync=sync, of=self._of, step=step)
        if sync:
            self._synced_at, self._synced = now, step
        for old in self._steps()[:-_KEPT]:
            if old != self._synced:
                remove_tree(self._path(old))

    def resume(self, like: Any) -> Resumed:
        """The newest state that is whole; a damaged one is set aside and the one before it taken.

        Args:
            like: a state of the same structure, shapes and dtypes.
        """
        warnings: list[str] = []
        for step in reversed(self._steps()):
            path = self._path(step)
            try:
                found = damage(path) or self._foreign(step)
                state = None if found else load_tree(path, jax.tree.map(np.asarray, like))
            except InputError as error:
                found, state = str(error), None
            if found is None:
                return Resumed(step, state, tuple(warnings))
            warnings.append(f"{found}; going on from the checkpoint before it, or the start")
            set_aside(path)
        return Resumed(0, None, tuple(warnings))

    def load_latest(self, begun: Any, warn: Callable[[str], None]) -> tuple[Any, int]:
        """The newest state that is whole, and how many steps are behind it.

        Args:
            begun: the state of a run that has just begun, taken where there is none.
            warn: told of each damaged checkpoint.
        """
        resumed = self.resume(begun)
        for line in resumed.warnings:
            warn(line)
        if not resumed.step:
            return begun, 0
        return jax.tree.map(jnp.asarray, resumed.state), resumed.step

    def exist(self) -> bool:
        """Whether any is there."""
        return bool(self._steps())

    def remove(self) -> None:
        """Delete all of them, unfinished ones too, once their run is complete.

        What was damaged and set aside stays.
        """
        for step in self._found():
            remove_tree(self._path(step))
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _foreign(self, step: int) -> str | None:
        """What is wrong with a whole checkpoint that is of something else, or None."""
        known, path = notes(self._path(step)), self._path(step)
        if known.get("step", step) != step:
            return f"{path} holds step {known['step']}"
        if None not in (self._of, known.get("of")) and known["of"] != self._of:
            return f"{path} is of another run"
        return None

    def _steps(self) -> list[int]:
        return [step for step in self._found() if is_complete(self._path(step))]

    def _found(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        names = (_NAME.match(path.name) for path in self.folder.iterdir())
        return sorted({int(name[1]) for name in names if name})

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"
