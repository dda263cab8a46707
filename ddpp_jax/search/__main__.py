"""`python -m ddpp_jax.search`."""

from ddpp_jax.cli.search_architectures import main

main()
