"""Settings that every test runs under."""

import os
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"
# What one test has compiled, the next need not; the same holds for the processes that tests start.
os.environ["DDPP_TEST_CACHE"] = str(Path(__file__).parent.parent / ".pytest_cache" / "xla")
os.environ["JAX_COMPILATION_CACHE_DIR"] = os.environ["DDPP_TEST_CACHE"]
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.2"

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("ddpp", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ddpp")
jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def float64():
    """Double precision for one test, as the golden numbers were made."""
    with jax.enable_x64(True):
        yield
