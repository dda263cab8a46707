"""Folders held by one process at a time, for one purpose."""

import fcntl
import json
import os
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal, TextIO

from ddpp_jax import cluster
from ddpp_jax.errors import InputError
from ddpp_jax.storage.files import clear_leftover, plain_file
from ddpp_jax.storage.sealed import read_json, read_sealed, write_json
from ddpp_jax.text import warn

_LOCK = ".lock"
_HELD = "another process is working in {}; wait for it or choose another folder"
_MAX_DIFFERENCES, _MAX_LENGTH = 5, 90


@contextmanager
def claimed_folder(
    folder: Path, identity: dict[str, Any], *, name: str, proven: bool = False, shared: bool = False
) -> Iterator[bool]:
    """Hold a folder for this process and this purpose while the block runs.

    Of several processes of one job the leading one holds it.

    The purpose is kept twice, in `name` and in a hidden copy beside it, so that damage to one of
    them loses nothing.

    Args:
        folder: made if need be.
        identity: plain values that say what the folder holds.
        name: the JSON file in it that keeps them.
        proven: as for `check_claim`.
        shared: where another process holds the folder for the same purpose, work in it beside that
            one; the work itself is then shared by `Leases`.

    Yields:
        Whether this process holds the folder.

    Raises:
        InputError: the folder holds something else, and stays as it is; or another process holds
            it.
    """
    if not cluster.leads():
        yield False
        return
    check_claim(folder, identity, name=name, proven=proven)
    folder.mkdir(parents=True, exist_ok=True)
    with _lock(folder, "a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if not shared:
                raise InputError(_HELD.format(folder)) from None
            yield False
            return
        check_claim(folder, identity, name=name, proven=proven)
        # Others may make and remove folders meanwhile, which os.walk passes over.
        for above, _, names in os.walk(folder):
            for name_of_file in names:
                clear_leftover(Path(above) / name_of_file)
        path, copy = folder / name, folder / f".{name}"
        if _whole(path) is None and _whole(copy) is not None:
            warn(f"{_trouble(path)}; it is restored from {copy}")
        plain = json.loads(json.dumps(identity))
        for place in (path, copy):
            if _whole(place) != plain:
                write_json(place, identity)
        yield True


def check_claim(folder: Path, identity: dict[str, Any], *, name: str, proven: bool = False) -> bool:
    """Whether a folder, which need not exist, is claimed for this purpose; nothing is touched.

    If `proven`, the folder's own name proves what it holds, so that a damaged file is no loss.

    Raises:
        InputError: the folder holds something else, or nobody can tell.
    """
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another folder")
    path = folder / name
    own, copy = _whole(path), _whole(folder / f".{name}")
    if own is None and copy is None and path.is_file():
        own = _whole(path, sealed=False)  # Earlier versions wrote no digest.
    values = copy if own is None else own
    if values is not None:
        differing = differences(json.loads(json.dumps(identity)), values)
        if differing:
            some = [textwrap.shorten(line, _MAX_LENGTH) for line in differing[:_MAX_DIFFERENCES]]
            more = len(differing) - len(some)
            some += [f"and {more} more"] if more else []
            raise InputError(
                f"{folder} holds something else ({'; '.join(some)}); choose another folder"
            )
        return own is not None
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
    """Whether a process holds a folder, which need not exist; nothing in it is touched."""
    if not (folder / _LOCK).exists():
        return False
    with _lock(folder, "r") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def check_unheld(folder: Path) -> None:
    """Refuse a folder, which need not exist, that could not be claimed now; nothing is touched.

    Raises:
        InputError: another process holds it, this user may not write to it, or it cannot be made
            since a part of its path is a file.
    """
    if is_held(folder):
        raise InputError(_HELD.format(folder))
    check_writable(folder)


def check_writable(folder: Path) -> None:
    """Refuse a folder, which need not exist, that this user could not write to.

    Raises:
        InputError: this user may not, or it cannot be made since a part of its path is a file.
    """
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    if not place.is_dir():
        raise InputError(f"{folder} cannot be made, since {place} is a file; choose another folder")
    if not os.access(place, os.W_OK | os.X_OK):
        raise InputError(f"{place} may not be written to; change that, or choose another folder")


def read_claim(folder: Path, *, name: str, warn_fn: Callable[[str], None] = warn) -> dict[str, Any]:
    """What `claimed_folder` claimed a folder for; read from the copy, with a warning, if need be.

    Raises:
        InputError: the file and its copy are damaged, or differ.
        OSError: it cannot be read.
    """
    path, copy_path = folder / name, folder / f".{name}"
    own, copy = _whole(path), _whole(copy_path)
    if own is None and copy is not None:
        warn_fn(f"{_trouble(path)}; {copy_path} is read in its place")
        return copy
    if own is None:
        return read_sealed(path, remedy="start the command that made the folder again")
    if copy not in (None, own):
        raise InputError(
            f"{path} and {copy_path} say different things, so one of them is of another folder; "
            "start the command that made this one again"
        )
    return own


def differences(own: dict[str, Any], theirs: dict[str, Any], prefix: str = "") -> list[str]:
    """Each value that differs, as `name was THEIRS, is OWN`; nested names are joined by dots."""
    lines: list[str] = []
    for name in sorted(own.keys() | theirs.keys()):
        a, b = own.get(name), theirs.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            lines += differences(a, b, f"{prefix}{name}.")
        elif a != b:
            lines.append(f"{prefix}{name} was {b}, is {a}")
    return lines


def _lock(folder: Path, mode: Literal["a", "r"]) -> TextIO:
    path = folder / _LOCK
    return (plain_file(path) if path.exists() else path).open(mode)


def _trouble(path: Path) -> str:
    return f"{path} is {'damaged' if path.exists() else 'missing'}"


def _whole(path: Path, *, sealed: bool = True) -> dict[str, Any] | None:
    try:
        return read_json(path, sealed=sealed)
    except InputError:
        return None
