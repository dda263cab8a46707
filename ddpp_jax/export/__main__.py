"""`python -m ddpp_jax.export`."""

from ddpp_jax import cli

cli.export()
