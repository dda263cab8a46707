"""What this machine has: cores, memory that a device can share, and room on its disks."""

import os
import shutil
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import psutil
from jaxtyping import Float32

from ddpp_jax.errors import InputError

ALIGNMENT = 64
"""JAX's CPU backend takes arrays that begin at a multiple of this without a copy (device_put)."""


def cores() -> int:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1  # As on macOS, where a process cannot be held to some.


def aligned_empty(shape: tuple[int, ...]) -> Float32[np.ndarray, "..."]:
    """A float32 array of any content that `jax.device_put` does not copy on the CPU."""
    size = 4 * int(np.prod(shape))
    buffer = np.empty(size + ALIGNMENT, np.uint8)
    start = -buffer.ctypes.data % ALIGNMENT
    return buffer[start : start + size].view(np.float32).reshape(shape)


def require_space(folder: Path, needed: int, *, what: str) -> None:
    """Refuse to begin if the disk of a folder, which need not exist yet, lacks so many free bytes.

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
    """The bytes free on the disk of a folder, which need not exist yet."""
    place = folder.absolute()
    while not place.exists():
        place = place.parent
    return shutil.disk_usage(place).free


class Room(NamedTuple):
    """Bytes that large data may take.

    Attributes:
        memory: of the machine.
        device: of a device.
    """

    memory: int
    device: int


def free_room() -> Room:
    """What is free now: all of the machine's memory, and half of what a device has."""
    return Room(psutil.virtual_memory().available, device_bytes())


def device_bytes() -> int:
    """Bytes that may be taken on the device: half of what is free there.

    Of the CPU, whose memory is the machine's, half of what is free in that.
    """
    found = jax.local_devices()[0].memory_stats()
    if found is None:
        return psutil.virtual_memory().available // 2
    return (found["bytes_limit"] - found["bytes_in_use"]) // 2


def gib(size: int | float) -> str:
    """A number of bytes for a person, in KiB, MiB or GiB."""
    if size < 2**20:
        return f"{size / 2**10:.1f} KiB"
    return f"{size / 2**20:.1f} MiB" if size < 2**30 else f"{size / 2**30:.2f} GiB"
