"""Settings that every test runs under."""

import os

os.environ["JAX_PLATFORMS"] = "cpu"

import jax
import pytest

jax.config.update("jax_numpy_rank_promotion", "raise")


@pytest.fixture
def float64():
    """Double precision for one test, as the golden numbers were made."""
    with jax.enable_x64(True):
        yield
