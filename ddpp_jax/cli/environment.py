"""What JAX's environment may not change: the numbers that a command works with, and its device."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import jax

from ddpp_jax.errors import InputError

NUMBERS: dict[str, Any] = {
    "jax_enable_x64": False,
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_enable_custom_prng": False,
    "jax_legacy_prng_key": "allow",
    "jax_debug_key_reuse": False,
    "jax_numpy_dtype_promotion": "standard",
    "jax_default_matmul_precision": None,
    "jax_allow_f16_reductions": True,
    "jax_softmax_custom_jvp": False,
    "jax_use_direct_linearize": True,
    "jax_disable_jit": False,
    "jax_disable_most_optimizations": False,
    "jax_optimization_level": "UNKNOWN",
    "jax_exec_time_optimization_effort": 0.0,
    "jax_memory_fitting_effort": 0.0,
    "jax_memory_fitting_level": "O2",
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_check_tracer_leaks": False,
    "jax_no_tracing": False,
    "jax_no_execution": False,
    "jax_transfer_guard": None,
    "jax_transfer_guard_host_to_device": None,
    "jax_transfer_guard_device_to_device": None,
    "jax_transfer_guard_device_to_host": None,
}
"""JAX's settings that decide bits, or that break a command, and what commands work with."""

_PLACES = ("JAX_PLATFORMS", "JAX_PLATFORM_NAME", "JAX_DEFAULT_DEVICE")


@contextmanager
def own_numbers() -> Iterator[tuple[str, ...]]:
    """Work with `NUMBERS` while the block lasts, whatever JAX was told before.

    Yields:
        What JAX had been told otherwise, as `JAX_ENABLE_X64=True`.
    """
    values = jax.config.values
    others = {
        name: values[name]
        for name, own in NUMBERS.items()
        if name in values and values[name] != own
    }
    for name in others:
        jax.config.update(name, NUMBERS[name])
    try:
        yield tuple(f"{name.upper()}={value}" for name, value in others.items())
    finally:
        for name, value in others.items():
            jax.config.update(name, value)


def require_device() -> None:
    """Refuse to begin where JAX has not the device that it was told to take.

    Raises:
        InputError: it has not.
    """
    try:
        jax.devices()
        jax.numpy.zeros(()).block_until_ready()
    except Exception as error:  # JAX and its plugins raise several, one of them without words.
        said = " ".join(str(error).split()) or "there is no such device, or no support for it"
        asked = [f"{name}={os.environ[name]}" for name in _PLACES if os.environ.get(name)]
        if asked:
            advice = f"unset {' and '.join(_named(asked))}, or give JAX_PLATFORMS=cpu"
        else:
            advice = "JAX_PLATFORMS=cpu works without it"
        what = " ".join(asked) or "by default"
        raise InputError(f"JAX finds no device, {what}: {said}; {advice}") from error


def _named(asked: list[str]) -> list[str]:
    return [setting.partition("=")[0] for setting in asked]
