"""What commands show as they go on, and the processes that work on one of them."""

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import jax
from rich.console import Console

from ddpp_jax import cluster
from ddpp_jax.cli.arguments import alone
from ddpp_jax.configs.checks import at_least
from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report, Tracker


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
    """Show all settings as JSON, flags included, and do nothing else."""

    list_settings: bool = False
    """Show every named setting, a line each, and do nothing else."""


@dataclass(frozen=True, kw_only=True)
class Joined:
    """The other processes of this job, each of which runs the same command.

    Slurm, Open MPI and indexed Kubernetes jobs say them by themselves.
    """

    coordinator: str | None = None
    """HOST:PORT at which the process 0 listens."""

    processes: int | None = None
    """How many processes there are; 1 stays alone, whatever the environment says."""

    process_id: int | None = None
    """Which of them this one is, from 0. The first one alone says, draws and writes."""

    devices: int | None = None
    """With --dry-run: also say what it would take on so many devices like those at hand."""

    def check(self, *, dry: bool) -> None:
        """Refuse a number of devices that cannot be, or that nothing would follow from.

        Args:
            dry: whether nothing is to be started.

        Raises:
            InputError: it is refused.
        """
        if self.devices is None:
            return
        at_least(1, devices=self.devices)
        if not dry:
            raise InputError(
                f"--devices {self.devices} says what a job would take, and starts none; give "
                "--dry-run beside it, or leave it out: a run takes all devices that JAX has"
            )

    def join(self) -> None:
        """Join them; before JAX is asked for a device.

        Raises:
            InputError: they cannot be found.
        """
        cluster.join(self.coordinator, self.processes, self.process_id)


class DryRun(NamedTuple):
    """What a command is only to say.

    Attributes:
        devices: also what the job would take on so many; None leaves that out.
    """

    devices: int | None = None


def dry_run(shown: Shown, joined: Joined) -> DryRun | None:
    """What a command is only to say; None where it is to begin."""
    return DryRun(joined.devices) if shown.dry_run else None


def report_of(shown: Shown, program: str, given: Sequence[str]) -> Report:
    """What is told as a command goes on; nothing by processes that do not lead their job."""
    if not cluster.leads():
        return Report(None)
    traces = shown.profile
    if traces is not None and shown.dry_run:
        if traces.exists() and not traces.is_dir():
            raise InputError(f"--profile {traces} is a file; name a folder")
        traces = None
    report = Report(
        None if shown.quiet else Console(),
        traces=traces,
        command=shlex.join([*program.split(), *alone(given)]),
        track=shown.track,
    )
    if cluster.count() > 1:
        report.say(
            f"{cluster.count()} processes with {jax.device_count()} devices in all; this one leads"
        )
    return report
