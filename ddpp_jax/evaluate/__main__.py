"""`python -m ddpp_jax.evaluate`."""

from ddpp_jax import cli

cli.evaluate()
