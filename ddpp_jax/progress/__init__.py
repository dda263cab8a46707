"""What a person sees while work goes on, and who else is told of it."""

from ddpp_jax.progress.console import Report, Tick
from ddpp_jax.progress.records import read_metrics, read_progress
from ddpp_jax.progress.tracking import PROGRESS, RunLog, Tracker, Watcher, versions

__all__ = [
    "PROGRESS",
    "Report",
    "RunLog",
    "Tick",
    "Tracker",
    "Watcher",
    "read_metrics",
    "read_progress",
    "versions",
]
