"""`python -m ddpp_jax`."""

from ddpp_jax.cli.program import main

main()
