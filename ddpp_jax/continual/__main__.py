"""`python -m ddpp_jax.continual`."""

from ddpp_jax.cli.continual import main

main()
