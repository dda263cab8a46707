"""Arguments of a command before they are parsed."""

from collections.abc import Sequence


def named(flag: str, arguments: Sequence[str]) -> str | None:
    """The value of a flag that decides on the defaults of the others, where it is given."""
    found = None
    for place, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            found = argument.partition("=")[2]
        elif argument == flag and place + 1 < len(arguments):
            found = arguments[place + 1]
    return found


def without(flag: str, arguments: Sequence[str]) -> list[str]:
    """The arguments without a flag and its value."""
    left, value = [], False
    for argument in arguments:
        if not value and argument != flag and not argument.startswith(f"{flag}="):
            left.append(argument)
        value = argument == flag
    return left


def flag_names(arguments: Sequence[str]) -> frozenset[str]:
    """The settings that some arguments name: `--no-zca` and `--zca=...` both name `zca`."""
    flags = (argument.partition("=")[0] for argument in arguments if argument.startswith("--"))
    names = {flag[2:].replace("-", "_") for flag in flags}
    return frozenset(names | {name.removeprefix("no_") for name in names})


def alone(given: Sequence[str]) -> list[str]:
    """The arguments without those that say which processes there are."""
    left = list(given)
    for name in ("--coordinator", "--processes", "--process-id"):
        left = without(name, left)
    return left
