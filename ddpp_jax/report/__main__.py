"""`python -m ddpp_jax.report`."""

from ddpp_jax import cli

cli.report()
