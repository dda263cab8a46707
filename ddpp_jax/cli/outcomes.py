"""The commands that take what a run has left."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn, TypeVar

import tyro
from rich.console import Console

from ddpp_jax.cli.parsing import parse_flags
from ddpp_jax.cli.running import run_command
from ddpp_jax.errors import InputError
from ddpp_jax.report import Report

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, kw_only=True)
class _Export:
    run: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """A run folder, or a .safetensors of this program; or a store of teachers."""

    formats: str = "png,npz,safetensors,card"
    """With commas: png, npz, safetensors, card; mtt, dd-ranking (need PyTorch); or mtt-buffers."""

    out: Path | None = None
    """The folder, never one of something else; by default export, beside the set."""

    iterate: Literal["last", "held-out", "max-test"] = "last"
    """Which of a run's sets."""

    channels_first: bool = False
    """Arrays of npz and safetensors as (images, channels, height, width)."""

    quiet: bool = False
    """Show nothing but warnings and errors."""


@dataclass(frozen=True, kw_only=True)
class _Pages:
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders, finished or not."""

    out: Path | None = None
    """File for the comparison of several; by default comparison.html beside the first run."""

    follow: Path | None = None
    """A run folder in which another process works: show its progress until it ends."""

    quiet: bool = False
    """Show nothing but warnings and errors."""


def report(arguments: Sequence[str] | None = None) -> NoReturn:
    """Pages of runs: `python -m ddpp_jax.report RUN ...`."""

    def work(command: _Pages) -> None:
        if bool(command.runs) == (command.follow is not None):
            raise InputError("name one or more run folders, or one after --follow")
        from ddpp_jax.commands import follow, run_report

        shown = Report(None if command.quiet else Console())
        if command.follow is not None:
            follow(command.follow, shown)
        else:
            run_report(command.runs, command.out, shown)

    about = "Write report.html of runs from their files, compare several, or follow one."
    _run("report", about, arguments, _Pages(), work)


def export(arguments: Sequence[str] | None = None) -> NoReturn:
    """Take a set elsewhere: `python -m ddpp_jax.export RUN`."""

    def work(command: _Export) -> None:
        if len(command.run) != 1:
            raise InputError(
                f"got {len(command.run)} runs; name one run folder, or one .safetensors"
            )
        from ddpp_jax.commands import run_export

        run_export(
            command.run[0],
            tuple(name.strip() for name in command.formats.split(",") if name.strip()),
            command.out,
            Report(None if command.quiet else Console()),
            iterate=command.iterate,
            channels_first=command.channels_first,
        )

    about = "Write a distilled set in the formats that other tools read."
    _run("export", about, arguments, _Export(), work)


def _run(
    name: str,
    about: str,
    arguments: Sequence[str] | None,
    default: Parsed,
    work: Callable[[Parsed], None],
) -> NoReturn:
    def body(program: str, given: list[str]) -> None:
        work(parse_flags(default, program, about, given))

    run_command(name, arguments, body)
