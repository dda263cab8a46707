"""The newest states of a run, from which an interrupted one continues.

Orbax's CheckpointManager keeps no checksums: of bits flipped in its data file it read every one as
another value. It also cannot fall back to the checkpoint before a damaged one.
"""

import math
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpp_jax import cluster
from ddpp_jax.errors import InputError
from ddpp_jax.storage.trees import (
    damage,
    is_complete,
    load_tree,
    read_notes,
    remove_tree,
    save_tree,
    set_aside,
)

_KEPT = 2
_SECONDS_BETWEEN_SYNCS = 5.0
"""Flushing a state to the disk takes 50 ms, which is 7 % of the time of 50 steps on the digits."""
_NAME = re.compile(r"step-(\d+)(?!.*\.damaged-)")


class Checkpoints:
    """The newest states of a run."""

    def __init__(self, folder: Path, *, of: str | None = None) -> None:
        """Open a folder, which need not exist yet.

        `of` is a digest of the run; a checkpoint of another one counts as damaged.
        """
        self.folder, self._of = folder, of
        self._synced_at, self._synced = -math.inf, -1

    def save(self, step: int, state: Any) -> None:
        """Keep a state, and remove all older ones but the last.

        The first state of a process, and then one every few seconds, is flushed to the disk at once
        and stays until the next such: a power loss costs no more than these seconds of work.

        Raises:
            OSError: the disk is full or may not be written to; the older ones stay.
        """
        if not cluster.leads():
            return
        now = time.monotonic()
        sync = now - self._synced_at >= _SECONDS_BETWEEN_SYNCS
        arrays = jax.tree.map(np.asarray, state)
        save_tree(self._path(step), arrays, {"of": self._of, "step": step}, sync=sync)
        if sync:
            self._synced_at, self._synced = now, step
        for old in self._complete()[:-_KEPT]:
            if old != self._synced:
                remove_tree(self._path(old))

    def load_latest(self, begun: Any, warn: Callable[[str], None]) -> tuple[Any, int]:
        """The newest undamaged state, and how many steps are behind it.

        Damaged ones are set aside with a warning, and the one before them is used, or else `begun`,
        the state of a run that has just begun. All processes of a job begin with the same state.
        """
        like = jax.tree.map(np.asarray, begun)
        trees: dict[int, Any] = {}
        step = cluster.agreed(lambda: self._newest(like, trees, warn))
        if step is None:
            return begun, 0
        tree = trees[step] if step in trees else load_tree(self._path(step), like)
        return jax.tree.map(jnp.asarray, tree), step

    def _newest(self, like: Any, trees: dict[int, Any], warn: Callable[[str], None]) -> int | None:
        """The step of the newest undamaged state, which joins the trees; None if there is none."""
        for step in reversed(self._complete()):
            path = self._path(step)
            try:
                found = damage(path) or self._misplaced(step)
                if found is None:
                    trees[step] = load_tree(path, like)
                    return step
            except InputError as error:
                found = str(error)
            warn(f"{found}; going on from the checkpoint before it, or the start")
            set_aside(path)
        return None

    def exist(self) -> bool:
        """Whether any is there."""
        return cluster.agreed(lambda: bool(self._complete()))

    def remove(self) -> None:
        """Delete all checkpoints, unfinished ones too; damaged ones that were set aside stay."""
        if not cluster.leads():
            return
        for step in self._found():
            remove_tree(self._path(step))
        if self.folder.is_dir() and not any(self.folder.iterdir()):
            self.folder.rmdir()

    def _misplaced(self, step: int) -> str | None:
        """What says that an undamaged checkpoint belongs elsewhere, or None."""
        path = self._path(step)
        notes = read_notes(path)
        if notes.get("step", step) != step:
            return f"{path} holds step {notes['step']}"
        if None not in (self._of, notes.get("of")) and notes["of"] != self._of:
            return f"{path} is of another run"
        return None

    def _complete(self) -> list[int]:
        return [step for step in self._found() if is_complete(self._path(step))]

    def _found(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        names = (_NAME.match(path.name) for path in self.folder.iterdir())
        return sorted({int(name[1]) for name in names if name})

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"
