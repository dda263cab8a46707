"""The trajectories of trained teachers."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float

from ddpp_jax.errors import InputError
from ddpp_jax.storage.trees import (
    Seal,
    damage,
    is_complete,
    load_tree,
    read_notes,
    save_tree,
    set_aside,
)


class _Known(Seal):
    accuracy: float


class TeacherStore:
    """A folder with one tree for each trained teacher, in which every epoch is an array.

    A teacher is written whole or not at all, and read epoch by epoch. `teacher-007.json` beside its
    folder holds the checksums of its files and what is known of it.
    """

    def __init__(self, folder: Path, *, of: str | None = None) -> None:
        """Open a folder, which need not exist yet.

        `of` is a digest of the teachers' data and settings; a teacher of others counts as damaged.
        """
        self.folder, self._of = folder, of

    def write(
        self,
        index: int,
        trajectory: Float[np.ndarray, "snapshots parameters"],
        known: Mapping[str, Any],
    ) -> None:
        """Keep one teacher's parameters after each epoch, snapshot 0 (the initialisation) first.

        What else is known of it, such as its test accuracy, is kept beside it as plain values.

        Raises:
            OSError: the disk is full or may not be written to.
        """
        tree = {_epoch(number): np.asarray(row) for number, row in enumerate(trajectory)}
        save_tree(self._path(index), tree, {"index": index, "of": self._of, **known})

    def missing(self, count: int) -> list[int]:
        """Which of the first `count` teachers are not trained yet."""
        return [index for index in range(count) if not is_complete(self._path(index))]

    def has(self, index: int) -> bool:
        """Whether a teacher is there, whole or damaged."""
        return is_complete(self._path(index))

    def damaged(self, index: int) -> str | None:
        """What is wrong with a teacher that is there, naming the file, or None; reads all of it."""
        path = self._path(index)
        found = damage(path)
        if found is not None:
            return found
        notes = read_notes(path)
        others = {str(dtype) for _, dtype in notes["arrays"].values()} - {"float32"}
        if others:
            return f"{path} holds {', '.join(sorted(others))}, wanted float32"
        # Earlier versions kept neither index nor of.
        if notes.get("index", index) != index:
            return f"{path} holds teacher {notes['index']}"
        if None not in (self._of, notes.get("of")) and notes["of"] != self._of:
            return f"{path} holds a teacher of other data, settings or another seed"
        return None

    def set_aside(self, index: int) -> Path:
        """Where a teacher lies after it was moved out of the way."""
        return set_aside(self._path(index))

    def known(self, index: int) -> Mapping[str, Any]:
        """What was kept beside a teacher, including its test accuracy.

        Raises:
            InputError: it is damaged, or lacks the accuracy.
        """
        remedy = "delete it, and the same command trains this teacher again"
        return read_notes(self._path(index), _Known, remedy=remedy)

    def read(
        self, index: int, epochs: Sequence[int], *, num_params: int
    ) -> Float[np.ndarray, "snapshots parameters"]:
        """Some snapshots of one teacher, as they were written; nothing else is read.

        Raises:
            InputError: the teacher is missing or damaged, lacks an epoch, has another size, or is
                not finite.
        """
        like = {_epoch(number): np.empty(num_params, np.float32) for number in epochs}
        tree = load_tree(self._path(index), like)
        for name, vector in tree.items():
            if not np.isfinite(vector).all():
                raise InputError(
                    f"{self._path(index)} holds NaN or infinite parameters in {name}; delete that "
                    "folder, and the same command trains this teacher again"
                )
        return np.stack([tree[_epoch(number)] for number in epochs])

    def _path(self, index: int) -> Path:
        return self.folder / f"teacher-{index:03d}"


def _epoch(number: int) -> str:
    return f"epoch-{number:03d}"
