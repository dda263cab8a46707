"""The command line: flags to settings, and every error to one line."""

from ddpp_jax.cli.outcomes import export, report
from ddpp_jax.cli.stages import distill, evaluate, select, teachers

__all__ = ["distill", "evaluate", "export", "report", "select", "teachers"]
