"""Arrays on disk: teachers' trajectories and a run's checkpoints (Orbax)."""

import re
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jaxtyping import Float

from ddpp_jax.errors import InputError

_KEPT_CHECKPOINTS = 2


class TeacherStore:
    """A folder with one checkpoint for each trained teacher.

    A teacher is written whole or not at all: Orbax fills a temporary folder and renames it.
    """

    def __init__(self, folder: Path) -> None:
        """Open the folder, which need not exist yet."""
        self.folder = folder

    def write(self, index: int, trajectory: Float[np.ndarray, "snapshots parameters"]) -> None:
        """Keep one teacher's parameters, snapshot 0 (the initialisation) first."""
        _save(self._path(index), {"trajectory": np.asarray(trajectory)})

    def missing(self, count: int) -> list[int]:
        """Which of the first `count` teachers are not trained yet."""
        return [index for index in range(count) if not self._path(index).is_dir()]

    def read(
        self, count: int, *, snapshots: int, num_params: int
    ) -> Float[np.ndarray, "teachers snapshots parameters"]:
        """The trajectories of the first `count` teachers.

        Raises:
            InputError: a teacher is missing, cannot be read, or has another shape.
        """
        trajectories = np.empty((count, snapshots, num_params), np.float32)
        for index in range(count):
            like = {"trajectory": np.empty((snapshots, num_params), np.float32)}
            trajectories[index] = _load(self._path(index), like)["trajectory"]
        return trajectories

    def _path(self, index: int) -> Path:
        return self.folder / f"teacher-{index:03d}"


class Checkpoints:
    """The newest states of a run, so that an interrupted one goes on."""

    def __init__(self, folder: Path) -> None:
        """Open the folder, which need not exist yet."""
        self.folder = folder

    def latest(self) -> int | None:
        """The step of the newest complete checkpoint, or None."""
        return max(self._steps(), default=None)

    def save(self, step: int, state: Any) -> None:
        """Keep a state; older ones but the last few are then removed."""
        _save(self._path(step), jax.tree.map(np.asarray, state))
        for old in sorted(self._steps())[:-_KEPT_CHECKPOINTS]:
            shutil.rmtree(self._path(old))

    def load(self, step: int, like: Any) -> Any:
        """A state of the structure, shapes and dtypes of `like`.

        Raises:
            InputError: the checkpoint cannot be read.
        """
        return _load(self._path(step), jax.tree.map(np.asarray, like))

    def remove(self) -> None:
        """Delete all of them, once their run is complete."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _steps(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        names = (re.fullmatch(r"step-(\d+)", path.name) for path in self.folder.iterdir())
        return [int(name[1]) for name in names if name]

    def _path(self, step: int) -> Path:
        return self.folder / f"step-{step:06d}"


def _save(path: Path, tree: Any) -> None:
    """Write a tree of NumPy arrays, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for unfinished in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):
        shutil.rmtree(unfinished)
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        checkpointer.save(path.absolute(), args=ocp.args.StandardSave(tree))


def _load(path: Path, like: Any) -> Any:
    """Read a tree of NumPy arrays with the structure, shapes and dtypes of `like`."""
    if not path.is_dir():
        raise InputError(f"{path} is not there; run the same command again to make it")
    with ocp.Checkpointer(ocp.StandardCheckpointHandler()) as checkpointer:
        try:
            tree = checkpointer.restore(path.absolute(), args=ocp.args.StandardRestore(like))
        except (ValueError, KeyError, OSError) as error:
            reason = str(error).splitlines()[0]
            raise InputError(f"{path} cannot be read ({reason}); delete that folder") from error
    found, wanted = (jax.tree.map(lambda x: (x.shape, x.dtype), t) for t in (tree, like))
    if found != wanted:
        raise InputError(f"{path} holds {found}, wanted {wanted}; delete that folder")
    return tree
