"""Settings that every test runs under."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import hypothesis
import jax
import pytest

hypothesis.settings.register_profile("ddpp", deadline=None, derandomize=True)
hypothesis.settings.load_profile("ddpp")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    """Programs that one process of the tests has compiled are kept for the others."""
    os.environ["DDPP_TEST_CACHE"] = str(config.rootpath / ".pytest_cache" / "xla")


@pytest.fixture
def float64():
    """Double precision for one test, as the golden numbers were made."""
    with jax.enable_x64(True):
        yield
