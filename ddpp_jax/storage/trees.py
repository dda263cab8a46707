"""A tree of arrays as a folder (Orbax): written whole or not at all, every file with a checksum."""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import jax
import numpy as np
import orbax.checkpoint as ocp

from ddpp_jax import cluster
from ddpp_jax.errors import InputError
from ddpp_jax.storage.files import sync_tree
from ddpp_jax.storage.sealed import read_sealed, write_json

_REMEDY = "start the same command again, which sets it aside and makes a new one"


class Seal(TypedDict):
    """What stands beside a folder of arrays.

    Attributes:
        arrays: the shape and dtype of each, by its path in the tree.
        digests: the SHA-256 of the content of each; earlier versions wrote none.
        files: the SHA-256 of each file in the folder.
    """

    arrays: dict[str, list[Any]]
    digests: NotRequired[dict[str, str]]
    files: dict[str, str]


def save_tree(path: Path, tree: Any, notes: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write a tree of NumPy arrays to a folder.

    Orbax fills a temporary folder and renames it; then `NAME.json` beside it, with the checksum of
    every file and array, marks the folder as complete. What an earlier, killed attempt left behind
    is removed first.

    Args:
        path: the folder.
        tree: arrays.
        notes: plain values that are kept in the JSON file too.
        sync: flush everything to the disk before it counts as complete, so that a power loss does
            not damage it; some 50 ms for a dozen files.

    Raises:
        OSError: the disk is full or may not be written to.
    """
    if not cluster.leads():
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_tree(path)
    with _plain_errors(path), _checkpointer(ocp.StandardCheckpointHandler) as checkpointer:
        checkpointer.save(path.absolute(), args=ocp.args.StandardSave(tree))
    if sync:
        sync_tree(path)
    seal = {"arrays": _kinds(tree), "digests": _digests(tree), "files": checksums(path)}
    write_json(_seal(path), {**seal, **notes}, sync=sync)


def load_tree(path: Path, like: Any) -> Any:
    """A tree of NumPy arrays with the structure, shapes and dtypes of `like`, checked by digest.

    If `like` is a mapping of names to arrays, it may leave some out; those are not read.

    Raises:
        InputError: the folder is missing, damaged, cannot be read, or holds something else.
    """
    if not is_complete(path):
        raise InputError(f"{path} is not there; run the same command again to make it")
    seal = read_notes(path)
    held, wanted = seal["arrays"], _kinds(like)
    for name, kind in wanted.items():
        if held.get(name) != kind:  # Orbax does not complain about an array that is missing.
            raise InputError(f"{path} holds {held.get(name, 'nothing')} as {name}, wanted {kind}")
    restore = ocp.args.PyTreeRestore(
        item=like,
        restore_args=jax.tree.map(lambda _: ocp.RestoreArgs(restore_type=np.ndarray), like),
        partial_restore=True,
    )
    with _checkpointer(ocp.PyTreeCheckpointHandler) as checkpointer:
        try:
            tree = checkpointer.restore(path.absolute(), args=restore)
        except Exception as error:  # Damage makes Orbax raise errors of all kinds.
            found = damage(path)
            if found is None and not isinstance(error, (ValueError, KeyError, OSError)):
                raise
            reason = found or f"{path} cannot be read ({str(error).splitlines()[0]})"
            raise InputError(f"{reason}; {_REMEDY}") from error
    for name, digest in _digests(tree).items():
        if seal.get("digests", {}).get(name, digest) != digest:
            raise InputError(f"{path} is damaged: {name} is not as it was written; {_REMEDY}")
    return tree


def _checkpointer(handler: Any) -> ocp.Checkpointer:
    """Orbax's own, which would wait for the other processes of a job; each reads for itself."""
    if cluster.count() == 1:
        return ocp.Checkpointer(handler())
    own = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
        primary_host=own, active_processes={own}, barrier_sync_key_prefix=f"process-{own}"
    )
    return ocp.Checkpointer(handler(multiprocessing_options=alone), multiprocessing_options=alone)


def is_complete(path: Path) -> bool:
    """Whether the folder was written to its end."""
    return path.is_dir() and _seal(path).is_file()


def read_notes(path: Path, kind: Any = Seal, *, remedy: str = _REMEDY) -> dict[str, Any]:
    """The values that were saved with a tree, and the checksums of its files and arrays.

    Raises:
        InputError: their file is damaged, or they do not match `kind`; `remedy` is what to do.
    """
    return read_sealed(_seal(path), remedy=remedy, kind=kind)


def damage(path: Path) -> str | None:
    """What is wrong with a complete folder, naming the file; None if every checksum holds."""
    try:
        expected = read_notes(path)["files"]
    except InputError:
        return f"{_seal(path)} is damaged"
    found = checksums(path)
    for name in sorted(expected.keys() | found.keys()):
        if name not in found:
            return f"{path / name} is missing"
        if expected.get(name) != found[name]:
            return f"{path / name} is damaged: its checksum is not the one it was written with"
    return None


def remove_tree(path: Path) -> None:
    """Delete a tree, its notes, and what unfinished attempts to write it left behind."""
    if not cluster.leads():
        return
    _seal(path).unlink(missing_ok=True)
    _remove_leftovers(path)
    if path.exists():
        shutil.rmtree(path)


def set_aside(path: Path) -> Path:
    """The folder's new name, after moving it and its notes out of the way; nothing is deleted."""
    number = 1
    while (aside := path.with_name(f"{path.name}.damaged-{number}")).exists():
        number += 1
    if not cluster.leads():
        return aside
    path.rename(aside)
    _seal(path).rename(_seal(aside))
    return aside


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path within."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            found[path.relative_to(folder).as_posix()] = digest
    return found


def _remove_leftovers(path: Path) -> None:
    for leftover in path.parent.glob(f"{path.name}.orbax-checkpoint-tmp*"):
        shutil.rmtree(leftover)


def _kinds(tree: Any) -> dict[str, list[Any]]:
    """The shape and dtype of every array, by its path in the tree."""
    return {
        jax.tree_util.keystr(place): [list(np.shape(leaf)), str(np.asarray(leaf).dtype)]
        for place, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _digests(tree: Any) -> dict[str, str]:
    """The SHA-256 of the content of every array, by its path in the tree."""
    return {
        jax.tree_util.keystr(place): hashlib.sha256(
            np.ascontiguousarray(leaf).reshape(-1).view(np.uint8).data
        ).hexdigest()
        for place, leaf in jax.tree_util.tree_leaves_with_path(tree)
    }


def _seal(path: Path) -> Path:
    return path.with_name(f"{path.name}.json")


@contextlib.contextmanager
def _plain_errors(path: Path) -> Iterator[None]:
    """Turn errors of Orbax and TensorStore into the system error behind them.

    Orbax logs the traceback of its writing thread before it raises the same error; that log is
    left out.
    """
    logger = logging.getLogger("absl")
    was_disabled, logger.disabled = logger.disabled, True
    try:
        yield
    except (ValueError, OSError) as error:
        _remove_leftovers(path)
        if "No space left on device" in str(error):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path)) from error
        raise OSError(f"{path} cannot be written: {str(error).splitlines()[0]}") from error
    finally:
        logger.disabled = was_disabled
