"""Paths as people give them, and files that are replaced whole or not at all."""

import contextlib
import glob
import os
import re
import socket
import stat
import tempfile
import time
import zlib
from pathlib import Path

from ddpp_jax import cluster
from ddpp_jax.errors import InputError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def _host() -> str:
    """The name of where this process's number means something: a machine since it was started.

    Containers may share their host's name and have numbers of their own.
    """
    name, places = socket.gethostname(), ("/proc/sys/kernel/random/boot_id", "/proc/self/ns/pid")
    known = [name]
    for place in map(Path, places):  # Of Linux alone.
        with contextlib.suppress(OSError):
            known.append(str(place.readlink()) if place.is_symlink() else place.read_text())
    short = re.sub(r"[^A-Za-z0-9-]", "-", name)[:24]
    return f"{short}-{zlib.crc32(' '.join(known).encode()):08x}"


HOST = _host()
"""The name of this machine, or of this container."""

# Earlier versions did not name the machine.
_TEMPORARY = re.compile(r"\..*\.(\d{1,9})(?:@([A-Za-z0-9-]*))?\.ddpp-tmp.*")
_SECONDS_OF_A_WRITE = 86_400
"""No file takes longer to write; by this the files of another machine are told to be left over."""


def expanded(text: str) -> Path:
    """The path, with a leading `~` or `~NAME` as that user's home folder.

    Raises:
        InputError: there is no such user, or no home folder.
    """
    try:
        return Path(text).expanduser()
    except RuntimeError:
        raise InputError(
            f"{text}: {Path(text).parts[0]} is no home folder that is known here; give the path "
            f"from the root, or ./{text} for one of that name"
        ) from None


def plain_file(path: Path) -> Path:
    """The path, if it is a plain file or a link to one: nothing else is ever opened.

    Opening a named pipe would wait for a writer, and a device may never end.

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


class Replacement:
    """A temporary path that replaces the real file when the block ends without an error.

    Of several processes of one job (`ddpp_jax.cluster`) only what the leading one writes is kept.
    """

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        """Prepare to replace `path`; its folder is made if need be.

        With `sync` the file is flushed to the disk before it is renamed, and its folder after, so
        that a power loss leaves the old file or the new one. It takes some milliseconds; use it for
        files that other files and later commands rely on.
        """
        self._path, self._sync = path, sync
        own = f".{path.stem}.{os.getpid()}@{HOST}.ddpp-tmp{path.suffix}"
        self._temporary = path.with_name(own)
        self._elsewhere: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> Path:
        """The path to write to."""
        if not cluster.leads():
            self._elsewhere = tempfile.TemporaryDirectory(prefix="ddpp-")
            return Path(self._elsewhere.name) / self._path.name
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in self._path.parent.glob(f".{glob.escape(self._path.stem)}.*"):
            clear_leftover(leftover)
        return self._temporary

    def __exit__(self, kind: object, error: BaseException | None, *_: object) -> None:
        """Move the file into place, or remove it after an error."""
        name_file(error, self._path)
        if self._elsewhere is not None:
            self._elsewhere.cleanup()
            return
        try:
            if error is None:
                if self._sync:
                    _sync(self._temporary)
                self._temporary.replace(self._path)
                if self._sync:
                    _sync(self._path.parent)
        finally:
            self._temporary.unlink(missing_ok=True)


def name_file(error: BaseException | None, path: Path) -> None:
    """Add the file's name to a write error; the system leaves it out."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(path)


def sync_tree(folder: Path) -> None:
    """Flush a folder and everything in it to the disk."""
    for place in [*folder.rglob("*"), folder, folder.parent]:
        _sync(place)


def clear_leftover(path: Path) -> None:
    """Delete a temporary file whose process is gone; leave every other file.

    Of a process of another machine nobody here can tell whether it lives; its files stay for a day.
    """
    found = _TEMPORARY.fullmatch(path.name)
    if found is None or not path.is_file():
        return
    if found[2] != HOST:
        with contextlib.suppress(FileNotFoundError):
            if time.time() - path.stat().st_mtime > _SECONDS_OF_A_WRITE:
                path.unlink()
        return
    if process_is_gone(int(found[1])):
        path.unlink(missing_ok=True)


def process_is_gone(pid: int) -> bool:
    """Whether this machine has no process of that number."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        pass  # The process lives and is another user's.
    return False


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
