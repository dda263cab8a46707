"""Compiled programs, kept from one process to the next."""

import glob
import hashlib
import os
import platform
from pathlib import Path

import jax

_LEAST_SECONDS = 0.3
"""A program that takes less to compile is not kept."""

_HARMLESS = ("--xla_dump", "--xla_hlo_profile", "--xla_force_host_platform_device_count")
"""Flags of XLA, by how they begin, that no result depends on."""


def keep_programs(cache_dir: Path) -> None:
    """Let JAX keep what it compiles in a folder below this one, and find it there again.

    Each kind of processor has a folder of its own, since a program is made for its instructions. A
    cache that JAX was told of otherwise, by JAX_COMPILATION_CACHE_DIR, is left as it is;
    JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
    """
    if _kept_in() is not None:
        return
    folder = cache_dir.resolve() / f"programs-{_processor()}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def forget_program(name: str) -> str:
    """Remove what is kept of a program that JAX could not read, so that it is kept anew.

    Args:
        name: of the program, as JAX calls it.

    Returns:
        A line that says so.
    """
    folder = Path(_kept_in() or ".")
    if not folder.is_dir():
        return f"compiled programs cannot be kept, since {folder} is no folder and cannot be made"
    try:
        for path in folder.glob(f"{glob.escape(name)}-*-cache"):
            path.unlink(missing_ok=True)
    except OSError as error:
        return f"compiled programs in {folder} cannot be read, nor removed ({error}); delete it"
    return f"compiled programs in {folder} were damaged; they are removed and compiled again"


def compiler_flags() -> list[str]:
    """What XLA_FLAGS asks for, in order, as far as results may depend on it."""
    flags = os.environ.get("XLA_FLAGS", "").split()
    return sorted(flag for flag in flags if not flag.startswith(_HARMLESS))


def _kept_in() -> str | None:
    return jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]


def _processor() -> str:
    """Eight digits that tell kinds of processors apart."""
    place = Path("/proc/cpuinfo")
    known = ("model name", "flags", "Features", "CPU part")
    lines = place.read_text().splitlines() if place.exists() else []
    kind = sorted({line for line in lines if line.startswith(known)})
    text = "\n".join([platform.machine(), platform.processor(), *kind])
    return hashlib.sha256(text.encode()).hexdigest()[:8]
