"""What lies in a folder, and what its disk still holds."""

import hashlib
import shutil
from pathlib import Path

from ddpp_jax.errors import InputError


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
