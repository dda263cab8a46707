"""Several methods side by side: one table and one page for the runs of all of them."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from ddpp_jax import cluster
from ddpp_jax.cli.arguments import named, without
from ddpp_jax.configs import check_method, digest
from ddpp_jax.errors import InputError
from ddpp_jax.planning.problem import finished, show
from ddpp_jax.progress import Report
from ddpp_jax.report import is_comparison, write_comparison

PAGE = "comparison.html"
"""The page that lays the runs beside one another, where they have a folder of their own."""

Command = TypeVar("Command")

RunFn: TypeAlias = Callable[[str, Path | None, Path | None], Path | None]
"""`run_fn(name, out, beside)`: makes the run of a method, in the folder `out` or one that it
chooses, beside a run that was made before; gives the folder, or None where nothing was to be made.
"""


def asks_for_several(arguments: Sequence[str]) -> bool:
    """Whether `--methods` is among some arguments."""
    return any(argument.partition("=")[0] == "--methods" for argument in arguments)


def methods_in(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """The methods that `--methods` names, and the arguments without it.

    MTT goes beside DDPP, in the same run, where both are named and baselines are wanted.

    Args:
        arguments: of the command.

    Raises:
        InputError: one is none, or is named twice, or a flag takes a single method.
    """
    text, flags = named("--methods", arguments) or "", without("--methods", arguments)
    names = [name.strip() for name in text.split(",")]
    if named("--method", flags) is not None:
        raise InputError("--method and --methods are both given; give one of them")
    for flag in ("--sweep", "--print-settings"):
        if any(argument.partition("=")[0] == flag for argument in flags):
            raise InputError(f"{flag} takes a single method; give --method in place of --methods")
    for name in names:
        try:
            check_method(name)
        except InputError as error:
            raise InputError(str(error).replace("--method is", "--methods names")) from None
    if len(set(names)) < len(names):
        raise InputError(f"--methods {text} names one twice; name each once")
    if {"mtt", "ddpp"} <= set(names) and "--no-baselines" not in flags:
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

    A method that cannot go on is told of, and the others go on.

    Args:
        names: of the methods.
        above: the folder for the runs; None lets each choose one of its own.
        run_fn: makes the run of a method.
        report: told as it goes on.
        dry: whether the runs only say what they would do.

    Raises:
        InputError: a method could not be run, or the place of the page is taken.
    """
    own = None if above is None else above / PAGE
    if own is not None and own.exists() and not is_comparison(own):
        raise InputError(f"{own} is there and is no comparison of runs; choose another --out")
    folders, failed = list[Path](), dict[str, str]()
    for name in names:
        try:
            beside = folders[0] if folders and not dry else None
            folder = run_fn(name, None if above is None else above / name, beside)
        except InputError as error:
            if cluster.count() > 1:  # The others may have come elsewhere.
                raise
            failed[name] = str(error)
            report.warn(f"{name} is left out, the others go on: {error}")
        else:
            folders += [] if folder is None else [folder]
    if folders and not dry:
        cluster.agreed(lambda: _show(folders, own, report))
    if failed:
        raise InputError(
            f"{', '.join(failed)} could not be run, as said above; the same command goes on with "
            "what is left"
        )


def _show(folders: Sequence[Path], own: Path | None, report: Report) -> None:
    results = [finished(folder) for folder in folders]
    # The row of random real images stands in every run.
    rows = {
        (row["method"], *row["accuracies"]): row for result in results for row in result["rows"]
    }
    epochs = {result["config"]["evaluation"]["eval_epochs"] for result in results}
    if len(epochs) > 1:
        shown = " and ".join(f"{count:,}" for count in sorted(epochs))
        report.warn(
            f"Networks were trained for {shown} epochs, so these methods are not evaluated alike; "
            f"--eval-epochs {min(epochs)}, in a new folder, evaluates all by as many (and searches "
            "settings again that were found)"
        )
    every: dict[str, Any] = results[0] | {"rows": list(rows.values())}
    every["doubts"] = [line for result in results for line in result.get("doubts", [])]
    show(every, report)
    name = f"{every['dataset']}-ipc{every['ipc']}-{digest({'runs': list(map(str, folders))})}.html"
    page = own or folders[0].parent / name
    report.say(f"All of them side by side: {write_comparison(page, folders)}")
