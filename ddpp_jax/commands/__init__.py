"""What the commands do: stages joined by files, and a table at the end."""

from ddpp_jax.commands.distill import run_distill
from ddpp_jax.commands.evaluate import run_evaluate
from ddpp_jax.commands.export import run_export
from ddpp_jax.commands.imports import run_import
from ddpp_jax.commands.report import follow, run_report
from ddpp_jax.commands.select import run_select
from ddpp_jax.commands.sets import settings_of
from ddpp_jax.commands.sweep import run_sweep
from ddpp_jax.commands.teachers import run_teachers

__all__ = [
    "follow",
    "run_distill",
    "run_evaluate",
    "run_export",
    "run_import",
    "run_report",
    "run_select",
    "run_sweep",
    "run_teachers",
    "settings_of",
]
