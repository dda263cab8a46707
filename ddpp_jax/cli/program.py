"""`ddpp`, or `python -m ddpp_jax`: every command by its name."""

import sys
from collections.abc import Sequence
from typing import NoReturn

from ddpp_jax.errors import InputError

COMMANDS = {
    "distill": "the whole job: teachers, distillation, evaluation, pictures and a report",
    "teachers": "train teachers and keep their trajectories",
    "evaluate": "train fresh networks on small sets, and test them on real images",
    "select": "choose real images per class, to compare distilled ones with",
    "continual": "let classes arrive in steps, and compare what methods keep of them",
    "search": "search among architectures by small sets in place of the data",
    "audit": "find what a small set gives away about the real images it was made from",
    "export": "write a set in the formats of other tools",
    "report": "write the page of a run, compare several, or follow one",
}
"""The commands, and what each does."""

_USAGE = "python -m ddpp_jax COMMAND [FLAGS]"


def run(name: str, arguments: Sequence[str] | None = None) -> NoReturn:
    """Do what one command does, and leave the process with an exit status.

    Args:
        name: one of `COMMANDS`.
        arguments: its flags; None takes those of the process.

    Raises:
        InputError: there is no such command.
    """
    # Each is imported alone, so that none waits for what another needs.
    match name:
        case "distill":
            from ddpp_jax.cli.distill import main
        case "teachers":
            from ddpp_jax.cli.teachers import main
        case "evaluate":
            from ddpp_jax.cli.evaluate import main
        case "select":
            from ddpp_jax.cli.select import main
        case "continual":
            from ddpp_jax.cli.continual import main
        case "search":
            from ddpp_jax.cli.search_architectures import main
        case "audit":
            from ddpp_jax.cli.audit import main
        case "export":
            from ddpp_jax.cli.export import main
        case "report":
            from ddpp_jax.cli.report import main
        case _:
            raise InputError(f"there is no command {name!r}; wanted {', '.join(COMMANDS)}")
    main(arguments)


def main() -> NoReturn:
    """List the commands, or run the one that is named first."""
    name, *flags = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        lines = [f"  {command:<10}{about}" for command, about in COMMANDS.items()]
        print(f"usage: {_USAGE}", *lines, "COMMAND --help lists its flags.", sep="\n")
        sys.exit(0)
    try:
        run(name, flags)
    except InputError as error:
        print(f"{_USAGE}: {error}", file=sys.stderr)
        sys.exit(2)
