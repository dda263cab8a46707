"""Files written whole or not at all, folders held by one process, and what a disk still holds."""

import fcntl
import glob
import hashlib
import json
import os
import re
import shutil
import stat
import textwrap
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from ddpp_jax.errors import InputError

_MOST_DIFFERENCES, _LONGEST = 5, 90
_TEMPORARY = re.compile(r"\..*\.(\d+)\.ddpp-tmp.*")


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


def cut_torn_row(path: Path) -> None:
    """Cut a JSON-lines file to its whole rows, so that more can be added after a kill."""
    if path.exists():
        whole = path.read_bytes()
        end = whole.rfind(b"\n") + 1
        if end < len(whole):
            with path.open("r+b") as file:
                file.truncate(end)


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
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.ddpp-tmp{path.suffix}")

    def __enter__(self) -> Path:
        """The path to write to."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in self._path.parent.glob(f".{glob.escape(self._path.stem)}.*"):
            _clear(leftover)
        return self._temporary

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        """Move the file into place, or remove it after an error."""
        try:
            if kind is None:
                self._temporary.replace(self._path)
        finally:
            self._temporary.unlink(missing_ok=True)


@contextmanager
def claimed_folder(
    folder: Path, identity: dict[str, Any], *, name: str, proven: bool = False
) -> Iterator[None]:
    """Hold a folder for this process, and for what `identity` says, while the block runs.

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
    with (folder / ".lock").open("a") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"another process is working in {folder}; wait for it or choose another folder"
            ) from None
        claimed = check_claim(folder, identity, name=name, proven=proven)
        for place in folder.rglob(".*"):
            _clear(place)
        if not claimed:
            write_json(folder / name, identity)
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
    path = folder / name
    if path.exists():
        try:
            theirs = read_json(path)
            if not isinstance(theirs, dict):
                raise InputError(f"{path} is damaged")
        except InputError:
            if proven:
                return False
            raise InputError(
                f"{path} is damaged, and without it nobody can tell what {folder} holds; "
                "choose another folder"
            ) from None
        differing = differences(identity, theirs)
        if differing:
            some = [textwrap.shorten(line, _LONGEST) for line in differing[:_MOST_DIFFERENCES]]
            more = len(differing) - len(some)
            some += [f"and {more} more"] if more else []
            raise InputError(
                f"{folder} holds something else ({'; '.join(some)}); choose another folder"
            )
        return True
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder} is a file; choose another folder")
    entries = folder.iterdir() if folder.is_dir() else ()
    if not proven and any(not entry.name.startswith(".") for entry in entries):
        raise InputError(f"{folder} holds other files and no {name}; choose another folder")
    return False


def _clear(path: Path) -> None:
    """Delete a temporary file whose process was killed."""
    found = _TEMPORARY.fullmatch(path.name)
    if found is None:
        return
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        path.unlink(missing_ok=True)
    except PermissionError:
        pass  # It lives, and is another user's.


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


def checksums(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file below a folder, by its path within."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                    file, "sha256"
                ).hexdigest()
    return found


def require_space(folder: Path, needed: int, *, what: str) -> None:
    """Refuse to begin where the disk has less room than is needed.

    Args:
        folder: where it would be written; it need not exist yet.
        needed: bytes.
        what: names it in the message.

    Raises:
        InputError: the disk has less.
    """
    free = free_bytes(folder)
    if needed > free:
        raise InputError(
            f"{what} need {gib(needed)}, but the disk of {folder} has {gib(free)} free; "
            "make room or choose another folder"
        )


def free_bytes(folder: Path) -> int:
    """What is free on the disk of a folder, which need not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


def gib(size: int | float) -> str:
    """A number of bytes for a person, in KiB, MiB or GiB."""
    if size < 2**20:
        return f"{size / 2**10:.1f} KiB"
    return f"{size / 2**20:.1f} MiB" if size < 2**30 else f"{size / 2**30:.2f} GiB"


_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def plain_file(path: Path) -> Path:
    """The path, where it is a plain file or a link to one: nothing else is ever opened.

    To open a named pipe would wait for somebody who writes to it, and a device may never end.

    Raises:
        InputError: it is something else, or there is nothing.
    """
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
    except OSError as error:
        if path.is_symlink():
            raise InputError(f"{path} is a link to nothing; replace or remove it") from error
        if isinstance(error, FileNotFoundError):
            raise InputError(f"there is no file {path}") from error
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    if kind != stat.S_IFREG:
        raise InputError(
            f"{path} is {_KINDS.get(kind, 'something else')}; wanted a plain file: "
            "replace or remove it"
        )
    return path
