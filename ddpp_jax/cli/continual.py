"""`python -m ddpp_jax.continual`: class-incremental learning with a small memory."""

import dataclasses
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NoReturn

from ddpp_jax.cli.arguments import flag_names, named, without
from ddpp_jax.cli.condensing import Compared
from ddpp_jax.cli.environment import require_device
from ddpp_jax.cli.flags import Hooks, base, parse_varied, run_with_setting
from ddpp_jax.cli.incremental import run_continual
from ddpp_jax.cli.running import run_command
from ddpp_jax.cli.select import select_job
from ddpp_jax.cli.several import parse_each
from ddpp_jax.cli.shown import Shown, report_of
from ddpp_jax.configs import METHODS, SELECTIONS, ContinualConfig, DistillJob, Places, SelectJob
from ddpp_jax.configs.checks import flag
from ddpp_jax.configs.jobs import Config
from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report

_USUAL = "random,herding,dm,ddpp"
_IDLE = ("baselines", "random_draws", "eval_every")
"""Settings of a whole distillation that nothing follows from here."""


@dataclass(frozen=True, kw_only=True)
class _Continual(Generic[Config]):
    config: DistillJob[Config]
    arrival: ContinualConfig = field(default_factory=ContinualConfig)
    places: Places = field(default_factory=Places)
    shown: Shown = field(default_factory=Shown)

    methods: str | None = None
    """Methods of distill and of select; none takes random,herding,dm,ddpp, or nothing by --sets."""

    sets: tuple[Path, ...] = ()
    """Small sets of all classes, of which at each step the images of its classes are taken."""

    out: Path | None = None
    """The run's folder, never one of another run; by default runs/DATASET-continual-SETTINGS."""


_ABOUT = (
    "Let the classes of a dataset arrive in steps, keep a few images of each by several methods, "
    "and after each step train fresh networks on all that is kept and test them on the classes "
    "seen."
)
_HOOKS = Hooks(
    kind_fn=lambda command: _Continual[type(command.config.distillation)],
    base_fn=lambda name, flags: base(name, named("--method", flags)),
)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Class-incremental learning: `python -m ddpp_jax.continual [SETTING]`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if {"-h", "--help", "--list-settings", "--print-settings"} & set(given):
        default = lambda job: _Continual(config=job)  # noqa: E731
        run_with_setting("continual", _ABOUT, given, default, lambda *_: None, _HOOKS)
    run_command("continual", given, _work)


def _work(program: str, given: list[str]) -> None:
    """Parse the flags for each method, and do what they ask for."""
    if any(argument.partition("=")[0] == "--method" for argument in given):
        raise InputError("--method is of distill and select; give --methods, which may be one")
    names, flags = _methods_in(given), without("--methods", given)

    def parse(arguments: list[str]) -> _Continual[Any]:
        default = lambda job: _Continual(config=job)  # noqa: E731
        return parse_varied("continual", _ABOUT, program, arguments, default, _HOOKS)[0]

    own = [name for name in names if name in METHODS]
    commands = {name: parse_each([name], flags_for(name, own, flags), parse)[0] for name in own}
    first = next(iter(commands.values()), None) or parse(flags)
    job = first.config
    _require_settings(job)
    require_device()
    report = report_of(first.shown, program, given)
    _warn_of_idle(job, flags, report, distils=bool(own))
    compared = []
    for name in names:
        mine: DistillJob | SelectJob = (
            commands[name].config if name in commands else select_job(job, name)
        )
        title = SELECTIONS[name] if name in SELECTIONS else commands[name].config.distillation.title
        compared.append(Compared(name=name, title=title, job=mine))
    run_continual(
        job,
        compared,
        first.arrival,
        first.places,
        first.out,
        report,
        sets=first.sets,
        dry=first.shown.dry_run,
    )


def flags_for(method: str, methods: Sequence[str], flags: Sequence[str]) -> list[str]:
    """The flags without those of settings that other methods have and this one has not.

    So that methods can be compared that differ in what can be varied of them.

    Args:
        method: whose flags are wanted.
        methods: all that are compared.
        flags: as they were given.
    """
    own = {one.name for one in dataclasses.fields(METHODS[method])}
    others = {one.name: one for name in methods for one in dataclasses.fields(METHODS[name])}
    left, value = list[str](), False
    for argument in flags:
        if value:
            value = False
            continue
        name = argument.partition("=")[0].removeprefix("--").replace("-", "_")
        there = next((n for n in (name, name.removeprefix("no_")) if n in others), None)
        if not argument.startswith("--") or there is None or there in own:
            left.append(argument)
        else:
            value = "=" not in argument and others[there].type not in (bool, "bool")
    return left


def _methods_in(given: Sequence[str]) -> list[str]:
    """The methods that are asked for.

    Raises:
        InputError: one is none, or is named twice.
    """
    asked = any(argument.partition("=")[0] == "--methods" for argument in given)
    with_sets = any(argument.partition("=")[0] == "--sets" for argument in given)
    text = named("--methods", given) if asked else "none" if with_sets else _USUAL
    if text == "none":
        return []
    names = [name.strip() for name in (text or "").split(",")]
    known = (*SELECTIONS, *METHODS)
    for name in names:
        if name not in known:
            raise InputError(f"--methods names {name!r}; wanted some of {', '.join(known)}")
    if len(set(names)) < len(names):
        raise InputError(f"--methods {text} names one twice; name each once")
    return names


def _require_settings(job: DistillJob) -> None:
    """Refuse settings that make no sense where classes arrive in steps.

    Raises:
        InputError: there are such.
    """
    if job.evaluation.which != "last":
        raise InputError(
            f"--which is {job.evaluation.which}, and small sets of steps are not evaluated on the "
            "way; wanted last"
        )
    if job.teaching.imported is not None:
        raise InputError(
            f"--imported {job.teaching.imported} are teachers of all classes, and those of a step "
            "see its own alone; leave it out"
        )


def _warn_of_idle(job: DistillJob, flags: Sequence[str], report: Report, *, distils: bool) -> None:
    """Say which flags nothing follows from."""
    settings = {one.name for one in dataclasses.fields(job.distillation)} - {"ipc"}
    idle = set(_IDLE) | (set() if distils else settings)
    found = sorted(flag_names(flags) & idle)
    if found:
        report.warn(f"Nothing follows from {', '.join(map(flag, found))} here")
