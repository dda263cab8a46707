"""The commands as they are called, and every error to one line."""

import dataclasses
import json
import shlex
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import tyro
from rich.console import Console

from ddpp_jax.cli.environment import require_device
from ddpp_jax.cli.parsing import parse_flags
from ddpp_jax.cli.running import run_command
from ddpp_jax.configs import (
    SETTINGS,
    DistillJob,
    EvaluateJob,
    Places,
    SelectConfig,
    SelectJob,
    TeachersJob,
    evaluate_job,
    setting,
)
from ddpp_jax.errors import InputError
from ddpp_jax.report import Report, Tracker

Parsed = TypeVar("Parsed")


@dataclass(frozen=True, kw_only=True)
class _Shown:
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


@dataclass(frozen=True, kw_only=True)
class _Teachers:
    config: TeachersJob
    places: Places = field(default_factory=Places)
    shown: _Shown = field(default_factory=_Shown)

    buffers: Annotated[tuple[Path, ...], tyro.conf.arg(name="import")] = ()
    """Train none, but import MTT's: replay_buffer_*.pt, or their folder (needs PyTorch)."""


@dataclass(frozen=True, kw_only=True)
class _Distill:
    config: DistillJob
    places: Places = field(default_factory=Places)
    shown: _Shown = field(default_factory=_Shown)

    out: Path | None = None
    """The run's folder, never one of another run; by default runs/DATASET-ipcIPC-SETTINGS."""

    sweep: str | None = None
    """Several distillations side by side, such as threshold=none,0.05,0.1; none for one."""


@dataclass(frozen=True, kw_only=True)
class _Evaluate:
    config: EvaluateJob

    files: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders, exports, .safetensors, .npz or .pt files, MTT's folders, or folders CLASS/*."""

    setting: str | None = None
    """Named setting that the other flags vary; none takes what the first set was made with."""

    cache_dir: Path = Path("runs/cache")
    """Folder for a ZCA whitening of plain images."""

    out: Path | None = None
    """Folder for the results, never one of other results; by default runs/evaluation-DIGEST."""

    quiet: bool = False
    """Show nothing but warnings and errors."""

    profile: Path | None = None
    """Folder for a trace of some turns of each stage, for XProf or TensorBoard; none for none."""

    track: Tracker = "none"
    """Also tell a tracker: tensorboard, trackio or wandb, which must be installed."""

    dry_run: bool = False
    """Show what would be done and with which settings, and start nothing."""


@dataclass(frozen=True, kw_only=True)
class _Select:
    config: SelectJob

    teachers_dir: Path = Path("runs/teachers")
    """Folder of all teachers; each setting has a subfolder of its own."""

    cache_dir: Path = Path("runs/cache")
    """Folder for what was fitted to the data and can be fitted again (ZCA)."""

    out: Path | None = None
    """The folder of the result, never one of another; by default runs/DATASET-METHOD-SETTINGS."""

    quiet: bool = False
    """Show nothing but warnings and errors."""

    profile: Path | None = None
    """Folder for a trace of some turns of each stage, for XProf or TensorBoard; none for none."""

    track: Tracker = "none"
    """Also tell a tracker: tensorboard, trackio or wandb, which must be installed."""

    dry_run: bool = False
    """Show what would be done and with which settings, and start nothing."""


def teachers(arguments: Sequence[str] | None = None) -> NoReturn:
    """Train teachers: `python -m ddpp_jax.teachers [SETTING]`."""

    def work(command: _Teachers, report: Report) -> None:
        from ddpp_jax.commands import run_import, run_teachers

        dry = command.shown.dry_run
        if command.buffers:
            run_import(command.config, command.buffers, command.places, report, dry=dry)
        else:
            run_teachers(command.config, command.places, report, dry=dry)

    def default(job: DistillJob) -> _Teachers:
        return _Teachers(
            config=TeachersJob(data=job.data, model=job.model, teaching=job.teaching, seed=job.seed)
        )

    about = "Train teachers and keep their trajectories."
    _run("teachers", about, arguments, default, work)


def distill(arguments: Sequence[str] | None = None) -> NoReturn:
    """The main job: `python -m ddpp_jax.distill [SETTING]`."""

    def work(command: _Distill, report: Report) -> None:
        from ddpp_jax.commands import run_distill, run_sweep

        where = {"places": command.places, "out": command.out, "report": report}
        dry = command.shown.dry_run
        if command.sweep is None:
            run_distill(command.config, **where, dry=dry)
        else:
            run_sweep(command.config, command.sweep, **where, dry=dry)

    about = (
        "Distil a dataset into a few images per class, and judge them: trains missing teachers, "
        "distils with and without pruning, trains fresh networks on the results, draws them."
    )
    _run("distill", about, arguments, lambda job: _Distill(config=job), work)


def evaluate(arguments: Sequence[str] | None = None) -> NoReturn:
    """Judge small sets: `python -m ddpp_jax.evaluate FILE ...`."""

    def work(command: _Evaluate, report: Report) -> None:
        if not command.files:
            raise InputError("no files given; name a run folder, a file, or a folder of images")
        from ddpp_jax.commands import run_evaluate

        run_evaluate(
            command.config,
            command.files,
            command.out,
            command.cache_dir,
            report,
            dry=command.dry_run,
            explicit=_explicit(command, sys.argv[1:] if arguments is None else arguments),
        )

    def default(job: DistillJob) -> _Evaluate:
        return _Evaluate(
            config=EvaluateJob(data=job.data, model=job.model, evaluation=job.evaluation)
        )

    def own(command: _Evaluate) -> _Evaluate | None:
        """What the settings kept in the first file ask for, where none are named."""
        if command.setting is not None or not command.files:
            return None
        from ddpp_jax.commands import settings_of

        settings = settings_of(command.files[0])
        return None if settings is None else _Evaluate(config=evaluate_job(settings))

    about = "Train fresh networks on small sets and show their accuracy on the real test set."
    _run("evaluate", about, arguments, default, work, own)


def select(arguments: Sequence[str] | None = None) -> NoReturn:
    """Choose real images: `python -m ddpp_jax.select [SETTING]`."""

    def work(command: _Select, report: Report) -> None:
        from ddpp_jax.commands import run_select

        places = Places(teachers_dir=command.teachers_dir, cache_dir=command.cache_dir)
        run_select(command.config, places, command.out, report, dry=command.dry_run)

    def default(job: DistillJob) -> _Select:
        config = SelectJob(
            data=job.data,
            model=job.model,
            teaching=job.teaching,
            selection=SelectConfig(ipc=job.distillation.ipc),
            evaluation=job.evaluation,
            real_rate=job.real_rate,
            seed=job.seed,
        )
        return _Select(config=config)

    about = "Choose real images of each class, as a rival to distilled ones."
    _run("select", about, arguments, default, work)


def _explicit(command: _Evaluate, given: Sequence[str]) -> frozenset[str]:
    """Which of `zca` and `normalised` stand among the flags: those that no default changes."""
    config = command.config
    data = dataclasses.replace(config.data, zca=not config.data.zca)
    other = dataclasses.replace(config, data=data, normalised=not config.normalised)
    found = parse_flags(dataclasses.replace(command, config=other), "", "", given).config
    same = {
        "zca": found.data.zca == config.data.zca,
        "normalised": found.normalised == config.normalised,
    }
    return frozenset(name for name, holds in same.items() if holds)


def _report(shown: Any, program: str, given: Sequence[str]) -> Report:
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


def _run(
    name: str,
    about: str,
    arguments: Sequence[str] | None,
    default: Callable[[DistillJob], Parsed],
    work: Callable[[Parsed, Report], None],
    better: Callable[[Parsed], Parsed | None] = lambda _: None,
) -> NoReturn:
    """Parse the flags that vary a named setting, and work."""

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
        command = parse_flags(default(setting(setting_name)), usage, more, flags)
        other = better(command)
        command = command if other is None else parse_flags(other, usage, more, flags)
        if isinstance(command, (_Teachers, _Distill)) and command.shown.print_settings:
            print(json.dumps(dataclasses.asdict(command.config), indent=2))
        else:
            shown = command.shown if isinstance(command, _Teachers | _Distill) else command
            require_device()
            work(command, _report(shown, program, given))

    run_command(name, arguments, body)


def _setting_name(command: str, arguments: list[str]) -> tuple[str, list[str]]:
    """The setting that is asked for, and the arguments that are left."""
    if command == "evaluate":
        for place, argument in enumerate(arguments):
            name = None
            if argument.startswith("--setting="):
                name = argument.partition("=")[2]
            elif argument == "--setting" and place + 1 < len(arguments):
                name = arguments[place + 1]
            if name not in (None, "none"):
                return name, arguments
        return "digits", arguments
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], arguments[1:]
    return "digits", arguments


def _list_settings() -> None:
    from ddpp_jax.tables import settings_table

    console = Console()
    console.width = max(console.width, 120)
    console.print(settings_table(SETTINGS))
