"""Files that take the place of others whole, or not at all."""

import glob
import os
import re
from pathlib import Path

_TEMPORARY = re.compile(r"\..*\.(\d{1,9})\.ddpp-tmp.*")


class Replacement:
    """A temporary path that takes the real file's place once the block ends without an error."""

    def __init__(self, path: Path, *, sync: bool = False) -> None:
        """Prepare to replace `path`; its folder is made if need be.

        Args:
            path: of the real file.
            sync: bring the file to the disk before it takes its place, and the new name after, so
                that a loss of power leaves the old file or the new one. It takes some milliseconds;
                for what other files and later commands rely on.
        """
        self._path, self._sync = path, sync
        self._temporary = path.with_name(f".{path.stem}.{os.getpid()}.ddpp-tmp{path.suffix}")

    def __enter__(self) -> Path:
        """The path to write to."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        for leftover in self._path.parent.glob(f".{glob.escape(self._path.stem)}.*"):
            clear_leftover(leftover)
        return self._temporary

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *_: object
    ) -> None:
        """Move the file into place, or remove it after an error."""
        name_file(error, self._path)
        try:
            if kind is None:
                if self._sync:
                    _sync(self._temporary)
                self._temporary.replace(self._path)
                if self._sync:
                    _sync(self._path.parent)
        finally:
            self._temporary.unlink(missing_ok=True)


def name_file(error: BaseException | None, path: Path) -> None:
    """Let an error of writing say which file it was, which the system itself does not."""
    if isinstance(error, OSError) and error.errno is not None and error.filename is None:
        error.filename = str(path)


def sync_tree(folder: Path) -> None:
    """Bring a folder, and all that is in it, to the disk."""
    for place in [*folder.rglob("*"), folder, folder.parent]:
        _sync(place)


def clear_leftover(path: Path) -> None:
    """Delete a temporary file whose process was killed; leave every other file."""
    found = _TEMPORARY.fullmatch(path.name)
    if found is None or not path.is_file():
        return
    try:
        os.kill(int(found[1]), 0)
    except ProcessLookupError:
        path.unlink(missing_ok=True)
    except PermissionError:
        pass  # It lives, and is another user's.


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
