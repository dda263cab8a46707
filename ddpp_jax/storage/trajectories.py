"""The trajectories of trained teachers (Orbax)."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from jaxtyping import Float

from ddpp_jax.errors import InputError
from ddpp_jax.storage.schema import require_kind
from ddpp_jax.storage.trees import damage, is_complete, load_tree, notes, save_tree, set_aside


class _Known(TypedDict):
    """What is known of a teacher."""

    accuracy: float


class TeacherStore:
    """A folder with one checkpoint for each trained teacher, in which every epoch is an array.

    A teacher is written whole or not at all, and read epoch by epoch. `teacher-007.json` beside its
    folder holds the checksums of its files and what is known of it.
    """

    def __init__(self, folder: Path, *, of: str | None = None) -> None:
        """Open the folder, which need not exist yet.

        Args:
            folder: of the store.
            of: what its teachers are of, as a digest; a teacher of something else counts as
                damaged. None does not ask.
        """
        self.folder, self._of = folder, of

    def write(
        self, index: int, trajectory: Float[np.ndarray, "snapshots parameters"], **known: Any
    ) -> None:
        """Keep one teacher's parameters, snapshot 0 (the initialisation) first.

        Args:
            index: which teacher.
            trajectory: its parameters after each epoch.
            known: plain values to keep beside it, such as its test accuracy.

        Raises:
            OSError: the disk is full or may not be written to.
        """
        tree = {_epoch(number): np.asarray(row) for number, row in enumerate(trajectory)}
        save_tree(self._path(index), tree, index=index, of=self._of, **known)

    def missing(self, count: int) -> list[int]:
        """Which of the first `count` teachers are not trained yet."""
        return [index for index in range(count) if not is_complete(self._path(index))]

    def damaged(self, index: int) -> str | None:
        """What is wrong with a teacher that is there, naming the file, or None; reads all of it."""
        found = damage(self._path(index))
        return self._spoilt(index) if found is None else found

    def set_aside(self, index: int) -> Path:
        """Where a teacher lies after it was moved out of the way."""
        return set_aside(self._path(index))

    def known(self, index: int) -> Mapping[str, Any]:
        """What was kept beside a teacher, its test accuracy among it.

        Raises:
            InputError: it is damaged, or lacks that.
        """
        found = notes(self._path(index))
        try:
            require_kind(found, _Known)
        except ValueError as error:
            raise InputError(
                f"{self._path(index)}.json is damaged: {error}; delete it, and the same command "
                "trains this teacher again"
            ) from error
        return found

    def read(
        self, index: int, epochs: Sequence[int], *, num_params: int
    ) -> Float[np.ndarray, "snapshots parameters"]:
        """Some snapshots of one teacher, as they were written; nothing else is read.

        Raises:
            InputError: the teacher is missing, damaged, lacks an epoch, has another size, or is not
                finite.
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

    def _spoilt(self, index: int) -> str | None:
        """What keeps a teacher that is whole from being of use, or None."""
        found, path = notes(self._path(index)), self._path(index)
        others = {str(kind) for _, kind in found["arrays"].values()} - {"float32"}
        if others:
            return f"{path} holds {', '.join(sorted(others))}, wanted float32"
        if found.get("index", index) != index:
            return f"{path} holds teacher {found['index']}"
        # Earlier versions kept neither.
        if None not in (self._of, found.get("of")) and found["of"] != self._of:
            return f"{path} holds a teacher of other data, settings or another seed"
        return None

    def _path(self, index: int) -> Path:
        return self.folder / f"teacher-{index:03d}"


def _epoch(number: int) -> str:
    return f"epoch-{number:03d}"
