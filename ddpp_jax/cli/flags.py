"""Flags that vary a named setting, and commands that take them."""

import dataclasses
import json
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, Protocol, TypeVar

from rich.console import Console

from ddpp_jax.cli.environment import require_device
from ddpp_jax.cli.parsing import parse_flags
from ddpp_jax.cli.running import run_command
from ddpp_jax.configs import SETTINGS, DistillJob, setting
from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report, Tracker

Alone = TypeVar("Alone")
Parsed = TypeVar("Parsed", bound="SettingCommand")


class SettingCommand(Protocol):
    """A command whose flags vary a named setting."""

    @property
    def config(self) -> Any:
        """The settings of the job."""
        ...

    @property
    def shown(self) -> "Shown":
        """What is shown."""
        ...


@dataclass(frozen=True, kw_only=True)
class Shown:
    """What is shown."""

    quiet: bool = False
    """Show nothing but warnings and errors."""

    profile: Path | None = None
    """Folder for a trace of some turns of each stage, for XProf or TensorBoard; none for none."""

    track: Tracker = "none"
    """Also tell a tracker: tensorboard, trackio or wandb, which must be installed."""

    dry_run: bool = False
    """Show what would be done, its settings and how large it is, and start nothing."""

    print_settings: bool = False
    """Show all settings as JSON, flags included, and do nothing else; needs no data."""

    list_settings: bool = False
    """Show every named setting, a line each, and do nothing else."""


def _report(shown: Shown, program: str, given: Sequence[str]) -> Report:
    traces = shown.profile
    if traces is not None and shown.dry_run:
        if traces.exists() and not traces.is_dir():
            raise InputError(f"--profile {traces} is a file; name a folder")
        traces = None
    return Report(
        None if shown.quiet else Console(),
        traces=traces,
        command=shlex.join([*program.split(), *given]),
        track=shown.track,
    )


def run_with_setting(
    name: str,
    about: str,
    arguments: Sequence[str] | None,
    default: Callable[[DistillJob], Parsed],
    work: Callable[[Parsed, Report], None],
    better: Callable[[Parsed], Parsed | None] = lambda _: None,
    kind_fn: Callable[[Parsed], Any] = type,
) -> NoReturn:
    """Parse the flags that vary a named setting, and work.

    Args:
        name: of the command.
        about: what it does, for its help.
        arguments: as they were given; None takes those of the process.
        default: the command, with its defaults, that belongs to a named setting.
        work: does what the command asks for.
        better: a default that suits the parsed command better; None where there is none.
        kind_fn: the class of the command, with whatever its default decides about its fields.
    """

    def body(program: str, given: list[str]) -> None:
        if "--list-settings" in given:
            _list_settings()
            return
        setting_name, flags = _setting_name(name, given)
        usage = program if name == "evaluate" else f"{program} [SETTING]"
        names = "--setting names" if name == "evaluate" else "SETTING is"
        more = (
            f"{about} {names} one of {', '.join(SETTINGS)}; the other flags vary it, and "
            "--list-settings shows them all."
        )
        method = _named("--method", given) if name == "distill" else None
        job = setting(setting_name, method or "ddpp")
        first = default(job)
        command = parse_flags(first, usage, more, flags, kind=kind_fn(first))
        other = better(command)
        if other is not None:
            command = parse_flags(other, usage, more, flags, kind=kind_fn(other))
        if command.shown.print_settings:
            print(json.dumps(dataclasses.asdict(command.config), indent=2))
        else:
            require_device()
            work(command, _report(command.shown, program, given))

    run_command(name, arguments, body)


def _setting_name(command: str, arguments: list[str]) -> tuple[str, list[str]]:
    """The setting that is asked for, and the arguments that are left."""
    if command == "evaluate":
        name = _named("--setting", arguments)
        return ("digits" if name in (None, "none") else name), arguments
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return "digits", arguments


def _named(flag: str, arguments: Sequence[str]) -> str | None:
    """The value of a flag that decides on the defaults of the others, where it is given."""
    found = None
    for place, argument in enumerate(arguments):
        if argument.startswith(f"{flag}="):
            found = argument.partition("=")[2]
        elif argument == flag and place + 1 < len(arguments):
            found = arguments[place + 1]
    return found


def _list_settings() -> None:
    from ddpp_jax.results.tables import settings_table

    console = Console()
    console.width = max(console.width, 120)
    console.print(settings_table(SETTINGS))


def run_alone(
    name: str,
    about: str,
    arguments: Sequence[str] | None,
    default: Alone,
    work: Callable[[Alone], None],
) -> NoReturn:
    """Parse the flags of a command that has no named settings, and work.

    Args:
        name: of the command.
        about: what it does, for its help.
        arguments: as they were given; None takes those of the process.
        default: the command with its defaults.
        work: does what the command asks for.
    """

    def body(program: str, given: list[str]) -> None:
        work(parse_flags(default, program, about, given))

    run_command(name, arguments, body)
