"""`python -m ddpp_jax.teachers`."""

from ddpp_jax.cli.teachers import main

main()
