"""Compiled programs, kept from one process to the next."""

import hashlib
import platform
from pathlib import Path

import jax

_LEAST_SECONDS = 0.3
"""A program that takes less to compile is not kept."""


def keep_programs(cache_dir: Path) -> None:
    """Let JAX keep what it compiles in a folder below this one, and find it there again.

    Each kind of processor has a folder of its own, since a program is made for its instructions. A
    cache that JAX was told of otherwise, by JAX_COMPILATION_CACHE_DIR, is left as it is;
    JAX_ENABLE_COMPILATION_CACHE=false keeps nothing.
    """
    known = jax.config.jax_compilation_cache_dir  # pyright: ignore[reportAttributeAccessIssue]
    if known is not None:
        return
    folder = cache_dir.resolve() / f"programs-{_processor()}"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)


def _processor() -> str:
    """Eight digits that tell kinds of processors apart."""
    place = Path("/proc/cpuinfo")
    known = ("model name", "flags", "Features", "CPU part")
    lines = place.read_text().splitlines() if place.exists() else []
    kind = sorted({line for line in lines if line.startswith(known)})
    text = "\n".join([platform.machine(), platform.processor(), *kind])
    return hashlib.sha256(text.encode()).hexdigest()[:8]
