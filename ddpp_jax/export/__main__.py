"""`python -m ddpp_jax.export`."""

from ddpp_jax.cli.export import main

main()
