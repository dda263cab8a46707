"""`python -m ddpp_jax.report`."""

from ddpp_jax.cli.report import main

main()
