"""Several methods side by side: one table and one page for the runs of all of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from ddpp_jax.cli.flags import named, without
from ddpp_jax.configs import check_method
from ddpp_jax.errors import InputError
from ddpp_jax.planning.problem import finished, show
from ddpp_jax.progress import Report
from ddpp_jax.report import write_comparison

PAGE = "comparison.html"
"""The page that lays the runs beside one another, in the folder above them."""


Command = TypeVar("Command")


class RunFn(Protocol):
    """Makes the run of a method."""

    def __call__(self, name: str, out: Path | None, *, first: bool) -> Path | None:
        """The folder of the run; None where nothing was to be done.

        Args:
            name: of the method.
            out: the run's folder; None chooses one.
            first: whether random real images are evaluated too.
        """
        ...


def asks_for_several(arguments: Sequence[str]) -> bool:
    """Whether `--methods` is among some arguments."""
    return any(argument.partition("=")[0] == "--methods" for argument in arguments)


def methods_in(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The methods that `--methods` names, and the arguments without it.

    MTT goes beside DDPP, in the same run, where both are named.

    Raises:
        InputError: one is none, or is named twice, or a flag goes with one method alone.
    """
    text, flags = named("--methods", arguments) or "", without("--methods", arguments)
    names = [name.strip() for name in text.split(",")]
    if named("--method", flags) is not None:
        raise InputError("--method and --methods are both given; give one of them")
    for flag in ("--sweep", "--print-settings"):
        if any(argument.partition("=")[0] == flag for argument in flags):
            raise InputError(f"{flag} is of one method; give --method in place of --methods")
    for name in names:
        try:
            check_method(name)
        except InputError as error:
            raise InputError(str(error).replace("--method is", "--methods names")) from None
    if len(set(names)) < len(names):
        raise InputError(f"--methods {text} names one twice; name each once")
    if {"mtt", "ddpp"} <= set(names):
        names.remove("mtt")
    return names, flags


def parse_each(
    names: Sequence[str], flags: Sequence[str], parse_fn: Callable[[list[str]], Command]
) -> list[Command]:
    """The command of each method.

    Args:
        names: of the methods.
        flags: what all of them are given.
        parse_fn: `parse_fn(arguments)`, the command that some arguments ask for.

    Raises:
        InputError: one of them cannot take a flag.
    """
    found = []
    for name in names:
        try:
            found.append(parse_fn([*flags, "--method", name]))
        except InputError as error:
            raise InputError(f"for {name}: {error}") from error
    return found


def run_each(
    names: Sequence[str], above: Path | None, run_fn: RunFn, report: Report, *, dry: bool
) -> None:
    """Run each method, then show all of them in one table and on one page.

    Args:
        names: of the methods.
        above: the folder for the runs; None lets each choose one of its own.
        run_fn: makes the run of a method.
        report: told as it goes on.
        dry: whether the runs only say what they would do.
    """
    made = [
        run_fn(name, None if above is None else above / name, first=number == 0)
        for number, name in enumerate(names)
    ]
    folders = [folder for folder in made if folder is not None]
    if dry or not folders:
        return
    results = [finished(folder) for folder in folders]
    rows = [row for result in results for row in result["rows"]]
    every: dict[str, Any] = results[0] | {"rows": rows}
    every["doubts"] = [line for result in results for line in result.get("doubts", [])]
    show(every, report)
    page = (above or folders[0].parent) / PAGE
    report.say(f"All of them side by side: {write_comparison(page, folders)}")
