"""`python -m ddpp_jax.evaluate`."""

from ddpp_jax.cli.evaluate import main

main()
