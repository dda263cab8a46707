"""`python -m ddpp_jax.audit`: what small sets give away about the real images behind them."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Generic, NoReturn

import tyro

from ddpp_jax.cli.arguments import named
from ddpp_jax.cli.attacking import run_attack
from ddpp_jax.cli.copying import run_copies
from ddpp_jax.cli.flags import Hooks, base, run_with_setting
from ddpp_jax.cli.sets import settings_of
from ddpp_jax.cli.shown import Shown
from ddpp_jax.configs import (
    CHOSEN,
    AttackJob,
    ChosenConfig,
    CopiesJob,
    DataConfig,
    DistillJob,
    ModelConfig,
    Places,
    TeachConfig,
    check_audited,
)
from ddpp_jax.configs.audits import Released
from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report

ATTACK = "--attack"
"""The flag that asks for membership inference in place of a search for copies."""

_COPIES = (
    "Find what lies near the images of small sets, among the training images and among others. "
    f"With {ATTACK} and a named setting: make sets from halves of the training images and infer "
    f"whose images they are made from ({ATTACK} --help lists its flags)."
)
_ATTACKS = (
    f"{ATTACK}: make sets from halves of the training images, train networks on them, and infer "
    "by the loss and by likelihood ratios which images they are made from."
)


@dataclass(frozen=True, kw_only=True)
class _Copies:
    config: CopiesJob
    places: Places = field(default_factory=Places)
    shown: Shown = field(default_factory=Shown)

    sets: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders, or .safetensors of this program."""

    setting: str | None = None
    """Named setting that the other flags vary; none takes what the first set was made with."""

    attack: bool = False
    """Infer membership: takes a named SETTING, a --method and flags of its own."""

    out: Path | None = None
    """Folder for the results, never one of other results; by default runs/audit-DIGEST."""


@dataclass(frozen=True, kw_only=True)
class _Attack(Generic[Released]):
    config: AttackJob[Released]
    places: Places = field(default_factory=Places)
    shown: Shown = field(default_factory=Shown)

    out: Path | None = None
    """Folder for the results, never one of others; by default runs/attack-DATASET-METHOD-DIGEST."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Audit small sets: `python -m ddpp_jax.audit SET ...`, or `--attack [SETTING]`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if ATTACK in given:
        _infer([argument for argument in given if argument != ATTACK])
    _copy(given)


def _copy(given: Sequence[str]) -> NoReturn:
    def work(command: _Copies, report: Report) -> None:
        if not command.sets:
            raise InputError(
                f"no sets given; name run folders or files, or give {ATTACK} and a named setting"
            )
        run_copies(
            command.config,
            command.sets,
            command.places,
            command.out,
            report,
            dry=command.shown.dry_run,
        )

    def default(job: DistillJob) -> _Copies:
        config = CopiesJob(data=job.data, model=job.model, teaching=job.teaching, seed=job.seed)
        return _Copies(config=config)

    def own(command: _Copies) -> _Copies | None:
        """What the first set was made with, where no setting is named."""
        if command.setting is not None or not command.sets:
            return None
        settings = settings_of(command.sets[0])
        return None if settings is None else _Copies(config=_copies_job(settings))

    run_with_setting("audit", _COPIES, given, default, work, Hooks(better=own))


def _infer(given: Sequence[str]) -> NoReturn:
    def work(command: _Attack[Any], report: Report) -> None:
        run_attack(command.config, command.places, command.out, report, dry=command.shown.dry_run)

    asked = named("--method", given)

    def base_fn(name: str | None, flags: Sequence[str]) -> DistillJob:
        del flags
        job = base(name, None if asked is None or asked in CHOSEN else check_audited(asked))
        check_audited(job.method)
        return job

    def default(job: DistillJob) -> _Attack[Any]:
        chosen = asked in CHOSEN
        settings = ChosenConfig(ipc=job.distillation.ipc) if chosen else job.distillation
        config = AttackJob(
            data=job.data,
            model=job.model,
            teaching=job.teaching,
            seed=job.seed,
            method=asked if asked in CHOSEN else job.method,
            distillation=settings,
            evaluation=job.evaluation,
            real_rate=job.real_rate,
        )
        return _Attack(config=config)

    hooks = Hooks(
        kind_fn=lambda command: _Attack[type(command.config.distillation)], base_fn=base_fn
    )
    run_with_setting("audit --attack", _ATTACKS, given, default, work, hooks)


def _copies_job(settings: Mapping[str, Any]) -> CopiesJob:
    """The audit that belongs to the settings of a set, as plain values.

    Raises:
        InputError: they are not the settings of a job of this version.
    """
    try:
        return CopiesJob(
            data=DataConfig(**settings["data"]),
            model=ModelConfig(**settings["model"]),
            teaching=TeachConfig(**settings["teaching"]),
            seed=settings["seed"],
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the settings kept with the set are not of this version ({error}); give --setting"
        ) from error
