"""Stage 2: distillation, by any method."""

from ddpp_jax.distill.best import CHOSEN_BY
from ddpp_jax.distill.loop import CHECKPOINT_EVERY, Pace, run
from ddpp_jax.distill.member import (
    EvaluateFn,
    Member,
    Outcome,
    Pictured,
    is_finished,
    pictured,
    read_finished,
)
from ddpp_jax.distill.program import (
    begin,
    compiled,
    memory,
    no_batches,
    stepper,
    steps_per_call,
)
from ddpp_jax.distill.starts import start_from, start_indices

__all__ = [
    "CHECKPOINT_EVERY",
    "CHOSEN_BY",
    "EvaluateFn",
    "Member",
    "Outcome",
    "Pace",
    "Pictured",
    "begin",
    "compiled",
    "is_finished",
    "memory",
    "no_batches",
    "pictured",
    "read_finished",
    "run",
    "start_from",
    "start_indices",
    "stepper",
    "steps_per_call",
]
