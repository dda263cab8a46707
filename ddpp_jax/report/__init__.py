"""What a person sees while work goes on, and who else is told of it."""

from ddpp_jax.report.console import Report, Tick
from ddpp_jax.report.tracking import PROGRESS, RunLog, Tracker, Watcher

__all__ = ["PROGRESS", "Report", "RunLog", "Tick", "Tracker", "Watcher"]
