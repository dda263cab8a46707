"""Checks that several settings share; each error names the flag."""

import math

from ddpp_jax.errors import InputError


def flag(name: str) -> str:
    """A field's flag on the command line."""
    return "--" + name.replace("_", "-")


def at_least(least: int, **values: int) -> None:
    """Refuse a whole number below `least`."""
    for name, value in values.items():
        if value < least:
            raise InputError(f"{flag(name)} is {value}; wanted {least} or more")


def above_zero(**values: float) -> None:
    """Refuse a number that is not finite and above 0."""
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(f"{flag(name)} is {value:g}; wanted a finite number above 0")


def check_seed(**values: int) -> None:
    """Refuse a seed that 32 bits do not hold."""
    for name, value in values.items():
        if not 0 <= value < 2**32:
            raise InputError(
                f"{flag(name)} is {value}; wanted a whole number from 0 to {2**32 - 1}"
            )
