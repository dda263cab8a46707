"""What the commands do: stages joined by files, and a table at the end."""

from ddpp_jax.commands.distill import run_distill
from ddpp_jax.commands.evaluate import run_evaluate
from ddpp_jax.commands.select import run_select
from ddpp_jax.commands.sets import settings_of
from ddpp_jax.commands.sweep import run_sweep
from ddpp_jax.commands.teachers import run_teachers

__all__ = ["run_distill", "run_evaluate", "run_select", "run_sweep", "run_teachers", "settings_of"]
