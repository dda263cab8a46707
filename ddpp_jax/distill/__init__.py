"""Stage 2: distillation, Algorithm 1 of Li et al. (2024)."""

from ddpp_jax.distill.best import CHOSEN_BY
from ddpp_jax.distill.metrics import LEAST_KEPT
from ddpp_jax.distill.objective import Distilled, Match, objective
from ddpp_jax.distill.run import (
    CHECKPOINT_EVERY,
    Outcome,
    check,
    compiled,
    memory,
    plan,
    read_finished,
    run,
    steps_a_call,
)
from ddpp_jax.distill.steps import Info, State, advance, init, make_optimizer, step, update
from ddpp_jax.distill.sweep import Member, kept_fractions, run_sweep

__all__ = [
    "CHECKPOINT_EVERY",
    "CHOSEN_BY",
    "LEAST_KEPT",
    "Distilled",
    "Info",
    "Match",
    "Member",
    "Outcome",
    "State",
    "advance",
    "check",
    "compiled",
    "init",
    "kept_fractions",
    "make_optimizer",
    "memory",
    "objective",
    "plan",
    "read_finished",
    "run",
    "run_sweep",
    "step",
    "steps_a_call",
    "update",
]
