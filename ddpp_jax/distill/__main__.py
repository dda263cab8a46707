"""`python -m ddpp_jax.distill`."""

from ddpp_jax import cli

cli.distill()
