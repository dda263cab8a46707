"""Flags that vary a named setting, and commands that take them."""

import dataclasses
import json
import shlex
from collections.abc import Callable, Sequence, Set
from typing import Any, NamedTuple, NoReturn, Protocol, TypeVar, runtime_checkable

from rich.console import Console

from ddpp_jax import cluster
from ddpp_jax.cli.arguments import alone, named, without
from ddpp_jax.cli.environment import require_device
from ddpp_jax.cli.parsing import parse_flags
from ddpp_jax.cli.running import run_command
from ddpp_jax.cli.shown import Joined, Shown, report_of
from ddpp_jax.configs import DistillJob, job_of, named_settings, setting
from ddpp_jax.configs.checks import flag
from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report
from ddpp_jax.storage import expanded, read_json

_OF_THE_DIGITS = ("teachers", "select", "search", "continual", "audit --attack")
"""Commands that vary the settings of the digits where none are named."""

DIGITS_INSTEAD = "Settings: those of the digits, where no flag says otherwise; name others"
"""What is said where other data are given and no settings."""

_OF_SETS = ("evaluate", "audit")
"""Commands that take sets by position, and a named setting by a flag."""

Alone = TypeVar("Alone")
Parsed = TypeVar("Parsed", bound="SettingCommand")


@runtime_checkable
class SettingCommand(Protocol):
    """A command whose flags vary a named setting."""

    @property
    def config(self) -> Any:
        """The settings of the job."""
        ...

    @property
    def shown(self) -> Shown:
        """What is shown."""
        ...


_ALONE = Joined(processes=1)
"""No other process works on a command."""


class Hooks(NamedTuple):
    """What a command does otherwise than most.

    Attributes:
        better: a default that suits the parsed command better; None where there is none.
        kind_fn: the class of the command, with whatever its default decides about its fields.
        base_fn: `base_fn(name, flags)`, the settings that the flags vary, by their name, if any.
        settings_fn: the settings that `--print-settings` shows of a command.
        joined_fn: the processes that work on a command with this one; most work alone.
    """

    better: Callable[[Any], Any] = lambda _: None
    kind_fn: Callable[[Any], Any] = type
    base_fn: Callable[[str | None, Sequence[str]], DistillJob] = lambda name, _: base(name)
    settings_fn: Callable[[Any], Any] = lambda command: command.config
    joined_fn: Callable[[Any], Joined] = lambda _: _ALONE


AS_MOST = Hooks()
"""A command like most."""


def run_with_setting(
    name: str,
    about: str,
    arguments: Sequence[str] | None,
    default: Callable[[DistillJob], Parsed],
    work: Callable[[Parsed, Report], object],
    hooks: Hooks = AS_MOST,
) -> NoReturn:
    """Parse the flags that vary a named setting, and work.

    Args:
        name: of the command.
        about: what it does, for its help.
        arguments: as they were given; None takes those of the process.
        default: the command, with its defaults, that belongs to a named setting.
        work: does what the command asks for.
        hooks: what it does otherwise than most commands.
    """

    def body(program: str, given: list[str]) -> None:
        if "--list-settings" in given:
            _list_settings()
            return
        command, first = parse_varied(name, about, program, given, default, hooks)
        if command.shown.print_settings:
            print(json.dumps(dataclasses.asdict(hooks.settings_fn(command)), indent=2))
            return
        joined = hooks.joined_fn(command)
        joined.check(dry=command.shown.dry_run)
        joined.join()
        require_device()
        cluster.require_same(shlex.join(alone(given)))
        report = report_of(command.shown, program, given)
        others = command.config.data != first.config.data
        named_one = _setting_name(name, given)[0]
        if named_one is None and name in _OF_THE_DIGITS and others:
            report.say(DIGITS_INSTEAD)
        work(command, report)

    run_command(name, arguments, body)


def say_idle(names: Set[str], report: Report) -> None:
    """Warn of settings that were given and that nothing follows from."""
    if names:
        flags = ", ".join(map(flag, sorted(names)))
        report.warn(f"Nothing follows from {flags} with the other settings")


def parse_varied(
    name: str,
    about: str,
    program: str,
    given: list[str],
    default: Callable[[DistillJob], Parsed],
    hooks: Hooks,
) -> tuple[Parsed, Parsed]:
    """The command that some arguments ask for, and the one that they vary.

    Args:
        name: of the command.
        about: what it does, for its help.
        program: how it is called.
        given: the arguments, which may name a setting.
        default: the command, with its defaults, that belongs to a named setting.
        hooks: what it does otherwise than most commands.

    Raises:
        InputError: they cannot be taken.
    """
    setting_name, flags = _setting_name(name, given)
    usage = program if name in _OF_SETS else f"{program} [SETTING]"
    names = "--setting names" if name in _OF_SETS else "SETTING is"
    more = (
        f"{about} {names} one of {', '.join(named_settings())}; the other flags vary it, and "
        "--list-settings shows them all."
    )
    first = default(hooks.base_fn(setting_name, flags))
    command = parse_flags(first, usage, more, flags, kind=hooks.kind_fn(first))
    other = hooks.better(command)
    if other is not None:
        command = parse_flags(other, usage, more, flags, kind=hooks.kind_fn(other))
    return command, first


def base(name: str | None, method: str | None = None) -> DistillJob:
    """The settings of a name, or those in a JSON file; the digits' where there is none.

    Args:
        name: of the setting, or of the file.
        method: of distillation, where one is asked for.

    Raises:
        InputError: there are none of that name, the file is not one of settings, or its settings
            are of another method.
    """
    if name is None or not name.endswith(".json"):
        return setting(name or "digits", method)
    job = job_of(read_json(expanded(name), remedy="write it again by --print-settings"))
    if method not in (None, job.method):
        raise InputError(f"{name} holds settings of {job.method}; leave --method {method} out")
    return job


def _setting_name(command: str, arguments: list[str]) -> tuple[str | None, list[str]]:
    """The setting that is asked for, if one is, and the arguments that are left."""
    if command in _OF_SETS:
        name = named("--setting", arguments)
        return (None if name == "none" else name), arguments
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    name = named("--settings", arguments)
    asked = any(argument.partition("=")[0] == "--settings" for argument in arguments)
    if asked and (not name or name.startswith("-")):
        raise InputError("--settings names nothing; wanted a named setting or a .json file")
    return name, without("--settings", arguments)


def _list_settings() -> None:
    from ddpp_jax.results.tables import settings_table

    Report(Console()).show(settings_table({name: setting(name) for name in named_settings()}))


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
