"""Settings that every test runs under."""

import gc
import os
from importlib import metadata
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# What one test has compiled, the next need not; the same holds for the processes that tests start.
os.environ["DDPP_TEST_CACHE"] = str(Path(__file__).parent.parent / ".pytest_cache" / "xla")
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["DDPP_TEST_CACHE"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"
# Most of what tests take is compilation, and what LLVM optimises runs for moments.
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
if metadata.version("jaxlib").startswith("0.10.") and "DDPP_TEST_BITS" not in os.environ:
    # XLA's older way of writing fused loops gives LLVM less to do. Later ones have it no more.
    os.environ["XLA_FLAGS"] += " --xla_cpu_use_fusion_emitters=false"

import hypothesis
import jax
import pytest

OLDER_LOOPS = "use_fusion_emitters" in os.environ["XLA_FLAGS"]
"""Whether XLA writes fused loops in its older way.

It rounds fused sums otherwise, so two programs that give the same bits as users compile them need
not. Where DDPP_TEST_BITS is set, tests compile loops as users do.
"""

hypothesis.settings.register_profile("ddpp", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ddpp")
jax.config.update("jax_numpy_rank_promotion", "raise")


MOST_MAPS = 20_000
"""Memory maps of a process above which what it has compiled is let go; Linux allows 65,530."""


@pytest.fixture(scope="module", autouse=True)
def _few_memory_maps():
    """Each compiled program holds a few maps, and a process that runs out of them dies in XLA."""
    yield
    maps = Path("/proc/self/maps")  # Of Linux alone.
    if maps.exists() and maps.read_bytes().count(b"\n") > MOST_MAPS:
        jax.clear_caches()
        gc.collect()


@pytest.fixture
def float64():
    """Double precision for one test, as the golden numbers were made."""
    with jax.enable_x64(True):
        yield
