"""Folders that are held by one process, and for one thing."""

import fcntl
import json
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, NamedTuple, TextIO

from ddpp_jax.errors import InputError
from ddpp_jax.storage.plain import plain_file
from ddpp_jax.storage.replacement import clear_leftover
from ddpp_jax.storage.sealed import read_json, read_sealed, write_json
from ddpp_jax.text import warn

_LOCK = ".lock"
_HELD = "another process is working in {}; wait for it or choose another folder"
_MOST_DIFFERENCES, _LONGEST = 5, 90


@contextmanager
def claimed_folder(
    folder: Path, identity: dict[str, Any], *, name: str, proven: bool = False
) -> Iterator[None]:
    """Hold a folder for this process, and for what `identity` says, while the block runs.

    What it is held for is kept twice, in `name` and in a hidden copy beside it, so that damage to
    one of them loses nothing.

    Args:
        folder: made if need be.
        identity: plain values that say what the folder holds.
        name: the JSON file in it that keeps them.
        proven: as for `check_claim`.

    Raises:
        InputError: the folder is there for something else, and nothing in it is touched; or another
            process holds it.
    """
    check_claim(folder, identity, name=name, proven=proven)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(_HELD.format(folder)) from None
        check_claim(folder, identity, name=name, proven=proven)
        for place in folder.rglob(".*"):
            clear_leftover(place)
        path, found = folder / name, _claim(folder, name)
        if found.of_copy:
            warn(f"{found.trouble}; it is restored from {_copy(path)}")
        for place, sealed in ((path, found.trouble is None), (_copy(path), found.copied)):
            if not sealed:
                write_json(place, identity)
        yield


def check_claim(folder: Path, identity: dict[str, Any], *, name: str, proven: bool = False) -> bool:
    """Whether a folder is claimed for what `identity` says; one for anything else is refused.

    Nothing in it is touched.

    Args:
        folder: it need not exist.
        identity: plain values that say what the folder holds.
        name: the JSON file in it that keeps them.
        proven: the folder's own name proves what it holds, so that a damaged file is no loss.

    Raises:
        InputError: the folder is there for something else, or nobody can tell.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another folder")
    path, found = folder / name, _claim(folder, name)
    if found.values is not None:
        differing = differences(json.loads(json.dumps(identity)), found.values)
        if differing:
            some = [textwrap.shorten(line, _LONGEST) for line in differing[:_MOST_DIFFERENCES]]
            more = len(differing) - len(some)
            some += [f"and {more} more"] if more else []
            raise InputError(
                f"{folder} holds something else ({'; '.join(some)}); choose another folder"
            )
        return not found.of_copy
    if proven:
        return False
    if path.exists():
        raise InputError(
            f"{path} is damaged, and without it nobody can tell what {folder} holds; "
            "choose another folder"
        )
    entries = folder.iterdir() if folder.is_dir() else ()
    if any(not entry.name.startswith(".") for entry in entries):
        raise InputError(f"{folder} holds other files and no {name}; choose another folder")
    return False


def is_held(folder: Path) -> bool:
    """Whether a process holds a folder, which need not exist."""
    if not (folder / _LOCK).exists():
        return False
    with _lock(folder, "r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _lock(folder: Path, mode: Literal["a", "r"]) -> TextIO:
    path = folder / _LOCK
    return (plain_file(path) if path.exists() else path).open(mode)


def check_unheld(folder: Path) -> None:
    """Refuse a folder that could not be claimed now, and touch nothing.

    Args:
        folder: it need not exist yet.

    Raises:
        InputError: another process holds it, or this user may not write to it, or it cannot be
            made since a part of its path is a file.
    """
    if is_held(folder):
        raise InputError(_HELD.format(folder))
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{folder} cannot be made, since {place} is a file; choose another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{place} may not be written to; change that, or choose another folder")


def read_claim(folder: Path, *, name: str, warn_fn: Callable[[str], None] = warn) -> dict[str, Any]:
    """What a folder is claimed for; where its file is damaged, by the copy of it.

    Args:
        folder: that `claimed_folder` made.
        name: the JSON file in it.
        warn_fn: told where the copy was read.

    Raises:
        InputError: it and its copy are damaged.
        OSError: it cannot be read.
    """
    path, found = folder / name, _claim(folder, name)
    if found.values is None or (found.trouble is not None and not found.of_copy):
        return read_sealed(path, remedy="start the command that made the folder again")
    if found.differs:
        raise InputError(
            f"{path} and {_copy(path)} say different things, so one of them is of another folder; "
            "start the command that made this one again"
        )
    if found.of_copy:
        warn_fn(f"{found.trouble}; {_copy(path)} is read in its place")
    return found.values


class _Claim(NamedTuple):
    """What the two files of a claim say.

    Attributes:
        values: what the folder is claimed for; None where neither tells.
        trouble: what is wrong with the file itself; None where it is whole.
        of_copy: whether the copy alone tells.
        copied: whether the copy is whole and says the same.
        differs: whether both are whole and say different things.
    """

    values: dict[str, Any] | None
    trouble: str | None
    of_copy: bool
    copied: bool
    differs: bool = False


def _claim(folder: Path, name: str) -> _Claim:
    path = folder / name
    values, copy = (_whole(place) for place in (path, _copy(path)))
    trouble = None
    if values is None:
        trouble = f"{path} is {'damaged' if path.exists() else 'missing'}"
    if values is None and copy is not None:
        return _Claim(copy, trouble, of_copy=True, copied=True)
    if values is None and path.is_file():
        try:
            values = read_json(path)  # Earlier versions wrote no digest.
        except InputError:
            values = None
    copied = values is not None and copy == values
    differs = None not in (values, copy) and not copied
    return _Claim(values, trouble, of_copy=False, copied=copied, differs=differs)


def _whole(path: Path) -> dict[str, Any] | None:
    try:
        return read_sealed(path)
    except InputError:
        return None


def _copy(path: Path) -> Path:
    return path.with_name(f".{path.name}")


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
