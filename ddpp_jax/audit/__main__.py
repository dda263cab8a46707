"""`python -m ddpp_jax.audit`."""

from ddpp_jax.cli.audit import main

main()
