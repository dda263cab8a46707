"""`python -m ddpp_jax.distill`: the whole job, or several of them."""

import dataclasses
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, NoReturn

from ddpp_jax import cluster
from ddpp_jax.cli.arguments import alone, flag_names, named
from ddpp_jax.cli.environment import require_device
from ddpp_jax.cli.flags import (
    DIGITS_INSTEAD,
    Hooks,
    base,
    parse_varied,
    run_with_setting,
    say_idle,
)
from ddpp_jax.cli.job import check_distill, run_distill
from ddpp_jax.cli.running import run_command
from ddpp_jax.cli.search import (
    Search,
    Sized,
    found_in,
    given_names,
    published_name,
    say_search,
    search_from,
    settings_found,
    size_up,
    wants_search,
)
from ddpp_jax.cli.several import asks_for_several, methods_in, parse_each, run_each
from ddpp_jax.cli.shown import Joined, Shown, dry_run, report_of
from ddpp_jax.cli.tune import find_settings, require_new, require_search
from ddpp_jax.configs import (
    SETTINGS,
    DistillJob,
    Places,
    TrajectoryConfig,
    check_method,
    members_of,
    named_settings,
    provenance,
    setting,
)
from ddpp_jax.configs.checks import flag
from ddpp_jax.configs.jobs import Config
from ddpp_jax.data import Dataset
from ddpp_jax.errors import InputError
from ddpp_jax.planning.sources import require_in_memory
from ddpp_jax.progress import Report
from ddpp_jax.tuning import TUNING, seconds_of


@dataclass(frozen=True, kw_only=True)
class _Distill(Generic[Config]):
    config: DistillJob[Config]
    places: Places = field(default_factory=Places)
    shown: Shown = field(default_factory=Shown)
    joined: Joined = field(default_factory=Joined)

    out: Path | None = None
    """The run's folder, never one of another run; by default runs/DATASET-ipcIPC-SETTINGS."""

    methods: str | None = None
    """Several methods, such as dm,dsa,ddpp, each with its own settings and all in one table."""

    sweep: str | None = None
    """Several distillations side by side, such as threshold=none,0.05,0.1; none for one."""

    auto: bool = False
    """Find settings by trying, as for data without named ones; the flags given stay as they are."""

    budget: str = "4m"
    """How long the search for settings may take, such as 90s or 1h; a run takes 3 times it."""


_ABOUT = (
    "Distil a dataset into a few images per class, and evaluate them: finds settings where the "
    "data have no named ones, trains missing teachers, distils with and without pruning, trains "
    "fresh networks on the results, draws them."
)


def _begun(search: Search, places: Places, out: Path | None) -> tuple[Sized, Dataset | None]:
    """The sizes of a search, and its data, or None where it is over.

    Raises:
        InputError: it cannot be made, or its run has no folder.
    """
    if cluster.count() > 1:
        raise InputError(
            "settings are found by one process alone; find them first by the same command with "
            "--processes 1 and --print-settings"
        )
    require_in_memory(places, "a search for settings")
    sized = size_up(search)
    if sized.is_over:
        return sized, None
    raw = require_search(search, sized, places)
    if out is not None:
        require_new(out)
    return sized, raw


class _Request:
    """What one command line asks for: settings to vary, and maybe a search for better ones."""

    def __init__(self) -> None:
        self._search: Search | None = None
        self._name: str | None = None
        self._flags: frozenset[str] = frozenset()
        self._of_digits = False
        self.hooks = Hooks(
            kind_fn=lambda command: _Distill[type(command.config.distillation)],
            base_fn=self._base,
            settings_fn=self._settings,
            joined_fn=lambda command: command.joined,
        )

    def parse(self, program: str, given: list[str]) -> _Distill[Any]:
        """The command that some arguments ask for."""
        default = lambda job: _Distill(config=job)  # noqa: E731
        return parse_varied("distill", _ABOUT, program, given, default, self.hooks)[0]

    def work(
        self,
        command: _Distill[Any],
        report: Report,
        *,
        out: Path | None = None,
        beside: Path | None = None,
    ) -> Path | None:
        """Do what the command asks for; the folder of the run, where one is known."""
        search, job, tuning = self._search_of(command), command.config, None
        whose = self._whose(job)
        if whose is not None:
            report.say(f"Settings of {job.distillation.title}: {whose}")
        if search is None and self._of_digits and job.data.dataset != "digits":
            report.say(DIGITS_INSTEAD)
        unused = sorted(self._flags & {field.name for field in dataclasses.fields(job.teaching)})
        if unused and job.distillation.last_epoch is None:
            flags = ", ".join(map(flag, unused))
            report.warn(f"{job.distillation.title} needs no teachers: nothing follows from {flags}")
        idle = self._flags & set(job.distillation.unused)
        if job.distillation.last_epoch is not None:
            idle |= self._flags & set(job.teaching.unused)
        say_idle(idle, report)
        settings = job.distillation
        if search is None and isinstance(settings, TrajectoryConfig) and settings.grows_too_slowly:
            report.warn(
                f"Start epochs never reach --max-start-epoch: they grow over --growth-steps "
                f"{settings.growth_steps}, and --steps is {settings.steps}"
            )
        if search is None and "budget" in self._flags:
            seconds_of(command.budget)
            report.warn("Nothing follows from --budget, since no settings are searched")
        if search is not None:
            sized, raw = _begun(search, command.places, out or command.out)
            tuning = sized.folder / TUNING
            say_search(search, sized, report)
            if raw is None:
                job = found_in(search, tuning)
            elif command.shown.dry_run:
                if command.joined.devices is not None:
                    raise InputError(
                        "--devices needs settings, and these are to be found yet; find them first "
                        "by the same command with --print-settings"
                    )
                return None
            else:
                job = find_settings(search, sized, raw, command.places, report)
        return run_distill(
            job,
            command.places,
            out or command.out,
            report,
            sweep=command.sweep,
            dry=dry_run(command.shown, command.joined),
            tuning=tuning,
            beside=beside,
        )

    def _base(self, name: str | None, flags: Sequence[str]) -> DistillJob:
        method, self._flags = named("--method", flags), flag_names(flags)
        check_method(method or "ddpp")
        name = name or published_name(flags)
        if wants_search(name, flags):
            # Other settings may be of another method than the one that is asked for.
            own = method if name in SETTINGS else None
            job, fixed = search_from(None if name is None else base(name, own), method)
            fixed |= given_names(job, flags)
            self._search = Search(asked=job, fixed=fixed, seconds=0.0)
            return job
        self._name, self._of_digits = name or "digits", name is None
        return base(name, method)

    def require(self, command: _Distill[Any], out: Path | None) -> None:
        """Refuse what the command would be refused for before its first step.

        Raises:
            InputError: it would be.
        """
        search = self._search_of(command)
        if search is None:
            check_distill(command.config, command.places, out)
            return
        sized, raw = _begun(search, command.places, out)
        if raw is None:
            check_distill(found_in(search, sized.folder / TUNING), command.places, out)

    def _whose(self, job: DistillJob) -> str | None:
        """Where the settings come from, where they are nobody's published ones."""
        if self._name not in named_settings():
            return None
        if job.distillation != setting(self._name, job.method).distillation:
            return None
        return provenance(job.method, self._name, job.data.dataset, job.distillation.ipc)

    def _search_of(self, command: _Distill[Any]) -> Search | None:
        if self._search is None:
            return None
        return dataclasses.replace(
            self._search,
            asked=command.config,
            seconds=seconds_of(command.budget),
            members=len(members_of(command.config, command.sweep)),
            sweep=command.sweep is not None,
        )

    def _settings(self, command: _Distill[Any]) -> DistillJob:
        search = self._search_of(command)
        return command.config if search is None else settings_found(search)


def _run_several(program: str, given: list[str]) -> None:
    """The runs of `--methods`."""
    names, flags = methods_in(given)
    requests = [_Request() for _ in names]
    left = iter(requests)
    found = parse_each(names, flags, lambda arguments: next(left).parse(program, arguments))
    commands = dict(zip(names, zip(requests, found, strict=True), strict=True))
    found[0].joined.check(dry=found[0].shown.dry_run)
    found[0].joined.join()
    require_device()
    cluster.require_same(shlex.join(alone(given)))
    report = report_of(found[0].shown, program, given)
    above = found[0].out
    for name, (request, command) in commands.items():  # Refused before any begins.
        request.require(command, None if above is None else above / name)

    def run(name: str, out: Path | None, beside: Path | None) -> Path | None:
        request, command = commands[name]
        return request.work(command, report, out=out, beside=beside)

    run_each(names, above, run, report, dry=found[0].shown.dry_run)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """The main job: `python -m ddpp_jax.distill [SETTING]`."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if asks_for_several(given) and not {"-h", "--help", "--list-settings"} & set(given):
        run_command("distill", given, _run_several)
    request = _Request()
    run_with_setting(
        "distill",
        _ABOUT,
        given,
        lambda job: _Distill(config=job),
        request.work,
        request.hooks,
    )
