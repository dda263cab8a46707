"""`python -m ddpp_jax.select`."""

from ddpp_jax.cli.select import main

main()
