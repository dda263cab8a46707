"""`python -m ddpp_jax.distill`."""

from ddpp_jax.cli.distill import main

main()
