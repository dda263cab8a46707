"""The command line: flags to configs, and every error to one line."""

import contextlib
import io
import os
import re
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import tyro
from rich.console import Console

from ddpp_jax.configs import DIGITS, DistillJob, EvaluateJob, TeachersJob
from ddpp_jax.errors import InputError
from ddpp_jax.report import Report

Parsed = TypeVar("Parsed")

_REGISTRY = tyro.constructors.ConstructorRegistry()
_NONE = "none"
_DIGITS_TEACHERS = TeachersJob(data=DIGITS.data, model=DIGITS.model, teaching=DIGITS.teaching)
_DIGITS_EVALUATION = EvaluateJob(data=DIGITS.data, model=DIGITS.model)


@dataclass(frozen=True, kw_only=True)
class _Shown:
    """What is shown, and where the teachers are kept."""

    teachers_dir: Path = Path("runs/teachers")
    """Folder of all teachers; each setting has a subfolder of its own."""

    quiet: bool = False
    """Show nothing but errors."""

    dry_run: bool = False
    """Show what would be done and how large it is, and start nothing."""


@dataclass(frozen=True, kw_only=True)
class _Teachers:
    config: TeachersJob = _DIGITS_TEACHERS
    shown: _Shown = field(default_factory=_Shown)


@dataclass(frozen=True, kw_only=True)
class _Distill:
    config: DistillJob = DIGITS
    shown: _Shown = field(default_factory=_Shown)

    out: Path | None = None
    """The run's folder, never one of another run; by default runs/DATASET-ipcIPC-SETTINGS."""


@dataclass(frozen=True, kw_only=True)
class _Evaluate:
    files: Annotated[tuple[Path, ...], tyro.conf.Positional]
    """Distilled sets, as distillation writes them."""

    config: EvaluateJob = _DIGITS_EVALUATION

    out: Path | None = None
    """JSON file for the results; by default they are only shown."""

    quiet: bool = False
    """Show nothing but errors."""

    def __post_init__(self) -> None:
        """Check that there is something to judge."""
        if not self.files:
            raise InputError("no files given; name at least one distilled.safetensors")


def teachers(arguments: Sequence[str] | None = None) -> NoReturn:
    """Train teachers: `python -m ddpp_jax.teachers`."""

    def work(command: _Teachers) -> None:
        from ddpp_jax.commands import run_teachers

        shown = command.shown
        report = _report(quiet=shown.quiet)
        run_teachers(command.config, shown.teachers_dir, report, dry=shown.dry_run)

    _run(_Teachers, "teachers", "Train teachers and keep their trajectories.", arguments, work)


def distill(arguments: Sequence[str] | None = None) -> NoReturn:
    """The main job: `python -m ddpp_jax.distill`."""

    def work(command: _Distill) -> None:
        from ddpp_jax.commands import run_distill

        shown = command.shown
        report = _report(quiet=shown.quiet)
        run_distill(command.config, shown.teachers_dir, command.out, report, dry=shown.dry_run)

    about = (
        "Distil a dataset into a few images per class, and judge them: trains missing teachers, "
        "distils with and without pruning, trains fresh networks on the results, draws them."
    )
    _run(_Distill, "distill", about, arguments, work)


def evaluate(arguments: Sequence[str] | None = None) -> NoReturn:
    """Judge distilled sets: `python -m ddpp_jax.evaluate FILE ...`."""

    def work(command: _Evaluate) -> None:
        from ddpp_jax.commands import run_evaluate

        report = _report(quiet=command.quiet)
        run_evaluate(command.config, command.files, command.out, report)

    about = "Train fresh networks on distilled sets and show their accuracy on the real test set."
    _run(_Evaluate, "evaluate", about, arguments, work)


def _report(*, quiet: bool) -> Report:
    return Report(None if quiet else Console())


def _run(
    kind: type[Parsed],
    name: str,
    about: str,
    arguments: Sequence[str] | None,
    work: Callable[[Parsed], None],
) -> NoReturn:
    """Parse, work, and leave the process with an exit status; a failure is one line on stderr."""
    program = f"python -m ddpp_jax.{name}"
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    previous = signal.signal(signal.SIGINT, lambda *_: _interrupted(program))
    try:
        work(_parse(kind, program, about, arguments))
    except InputError as error:
        _leave(f"{program}: {error}", status=2)
    except OSError as error:
        _leave(f"{program}: {error}", status=1)
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            _leave(f"{program}: out of memory; lower --width, --teachers or --ipc", status=1)
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
    sys.exit(0)


def _interrupted(program: str) -> NoReturn:
    """Leave at once: all that is on disk is whole, and an exception could be lost in a callback."""
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h\n")
    os.write(2, f"{program}: interrupted; the same command goes on from what is saved\n".encode())
    os._exit(130)


def _parse(kind: type[Parsed], program: str, about: str, arguments: Sequence[str] | None) -> Parsed:
    captured = io.StringIO()
    try:
        with contextlib.redirect_stderr(captured):
            return tyro.cli(
                kind,
                prog=program,
                description=about,
                args=arguments,
                config=(tyro.conf.OmitArgPrefixes,),
                registry=_REGISTRY,
            )
    except SystemExit as leaving:
        if leaving.code:
            raise InputError(f"{_sentence(captured.getvalue())}; --help lists the flags") from None
        raise


def _sentence(box: str) -> str:
    """The first paragraph of tyro's framed error, as one line."""
    lines = [line.strip("│╭╮╰╯ ") for line in box.splitlines()[1:]]
    rule = next((i for i, line in enumerate(lines) if set(line) <= {"─"}), len(lines))
    text = " ".join(lines[:rule]).removesuffix(".") or box
    return re.sub(r"^Error parsing (?!-)[\w.]+: ", "", text)


def _leave(line: str, *, status: int) -> NoReturn:
    sys.stdout.flush()
    print(" ".join(line.split()), file=sys.stderr)
    sys.exit(status)


def _primitive(kind: type, wanted: str, metavar: str, *, or_none: bool = False) -> Any:
    def instance(strings: list[str]) -> Any:
        if or_none and strings[0].lower() == _NONE:
            return None
        try:
            return kind(strings[0])
        except ValueError:
            raise ValueError(f"got {strings[0]!r}, wanted {wanted}") from None

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar=f"{metavar}|{_NONE}" if or_none else metavar,
        instance_from_str=instance,
        is_instance=lambda value: isinstance(value, kind) or (or_none and value is None),
        str_from_instance=lambda value: [_NONE if value is None else f"{value}"],
    )


def _register(annotation: Any, spec: Any) -> None:
    @_REGISTRY.primitive_rule
    def rule(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
        return spec if info.type == annotation else None


_register(int, _primitive(int, "a whole number", "INT"))
_register(float, _primitive(float, "a number", "NUMBER"))
_register(float | None, _primitive(float, "a number or none", "NUMBER", or_none=True))
_register(int | None, _primitive(int, "a whole number or none", "INT", or_none=True))
_register(str | None, _primitive(str, "text", "TEXT", or_none=True))
_register(Path | None, _primitive(Path, "a path", "PATH", or_none=True))
