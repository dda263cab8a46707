"""Paths as people give them: homes are found, and only plain files are opened."""

import stat
from pathlib import Path

from ddpp_jax.errors import InputError

_KINDS = {
    stat.S_IFDIR: "a folder",
    stat.S_IFIFO: "a named pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def expanded(text: str) -> Path:
    """The path, with `~` and `~NAME` in front as that user's home folder.

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
