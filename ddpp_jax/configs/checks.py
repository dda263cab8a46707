"""Checks that several settings share; each error names the flag."""

import math
import re
from typing import Any, Literal, get_args, get_origin

from ddpp_jax.errors import InputError

SMALLEST = 1e-30
"""Numbers below this are refused: their products vanish in float32, whose least is 1.2e-38."""

LARGEST = 1e30
"""Numbers above this are refused: their products are infinite in float32, whose most is 3.4e38."""

MOST = {
    "channels": 3,
    "class_steps": 10**6,
    "depth": 30,  # Each block halves the image.
    "devices": 10**5,
    "epochs": 10**6,
    "early_start_epoch": 10**6,
    "eval_batch": 10**7,
    "eval_epochs": 10**7,
    "eval_every": 10**9,
    "full_epochs": 10**6,
    "growth_steps": 10**7,
    "horizon": 10**6,
    "image_size": 2**14,
    "ipc": 10**6,
    "keep_epochs": 10**6,
    "max_start_epoch": 10**6,
    "min_start_epoch": 10**6,
    "network_batch": 10**7,
    "network_epochs": 10**6,
    "networks": 10**5,
    "orders": 10**4,
    "per_class": 10**8,
    "proxy_epochs": 10**6,
    "random_draws": 10**4,
    "real_batch": 10**7,
    "segments": 10**5,
    "shadows": 10**4,
    "steps": 10**7,
    "student_batch": 10**7,
    "student_steps": 10**6,
    "target_epochs": 10**6,
    "teacher_batch": 10**7,
    "teachers": 10**5,
    "updates": 10**6,
    "width": 2**20,
    "window": 10**6,
    "worst": 10**5,
}
"""The most that each whole number may be: what no machine of today could work through or hold."""


ARCHITECTURES = ("convnet", "alexnet", "vgg11", "resnet18", "resnet18-ap")
"""Every architecture; `convnet` may carry its depth, as in `convnet5`."""

_CONVNET = re.compile(r"convnet[1-9]?")


_MOST_DIGITS = 20


def flag(name: str) -> str:
    """A field's flag on the command line."""
    return "--" + name.replace("_", "-")


def at_least(least: int, **values: int) -> None:
    """Refuse a whole number below `least`, or beyond what `MOST` has for its name."""
    for name, value in values.items():
        if value < least:
            raise InputError(f"{flag(name)} is {shown(value)}; wanted {least} or more")
        if value > MOST[name]:
            raise InputError(f"{flag(name)} is {shown(value)}; wanted {least} to {MOST[name]}")


def above_zero(**values: float) -> None:
    """Refuse a number that is not above 0, or that float32 cannot be relied on to hold."""
    for name, value in values.items():
        if not SMALLEST <= value <= LARGEST:
            raise InputError(
                f"{flag(name)} is {value:g}; wanted a number above 0, from {SMALLEST:g} to "
                f"{LARGEST:g}"
            )


def zero_or_more(**values: float) -> None:
    """Refuse a rate that is neither 0 nor a number that float32 can be relied on to hold."""
    for name, value in values.items():
        if value != 0 and not SMALLEST <= value <= LARGEST:
            raise InputError(
                f"{flag(name)} is {value:g}; wanted a finite rate: 0, or {SMALLEST:g} to "
                f"{LARGEST:g}"
            )


def share(what: str, *, none: bool = False, **values: float) -> None:
    """Refuse what is not a share between 0 and 1, both left out.

    Args:
        what: it is, for the message.
        none: whether there may be none.
        values: by name.
    """
    for name, value in values.items():
        if not SMALLEST <= value < 1:
            raise InputError(
                f"{flag(name)} is {value:g}; wanted {what} between 0 and 1"
                f"{', or none' if none else ''}"
            )


def check_seed(**values: int) -> None:
    """Refuse a seed that 32 bits do not hold."""
    for name, value in values.items():
        if not 0 <= value < 2**32:
            raise InputError(
                f"{flag(name)} is {shown(value)}; wanted a whole number from 0 to {2**32 - 1}"
            )


def shown(value: int | None) -> str:
    """The number, in short where it has more digits than anybody reads."""
    digits = 1 if not value else int(math.log10(abs(value))) + 1
    return str(value) if digits <= _MOST_DIGITS else f"of {digits} digits"


def check_architecture(name: str) -> None:
    """Refuse a name that no architecture has."""
    if name not in ARCHITECTURES and not _CONVNET.fullmatch(name):
        raise InputError(
            f"there is no architecture {name!r}; wanted {', '.join(ARCHITECTURES)}, "
            "or a ConvNet with its depth, such as convnet5"
        )


def has_type(value: Any, kind: Any) -> bool:
    """Whether a plain value is of a setting's type; whole numbers are numbers, and no truth values.

    >>> has_type(3, float), has_type(True, int), has_type(None, int | None)
    (True, False, True)
    """
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    if get_args(kind):
        return any(has_type(value, one) for one in get_args(kind))
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
