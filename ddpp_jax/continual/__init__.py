"""Class-incremental learning: classes arrive in steps, and a small memory is all that is kept."""

from ddpp_jax.continual.arrival import Task, arrivals, class_order, draw_seed, split_evenly
from ddpp_jax.continual.memory import joined, labelled_as_whole, taken
from ddpp_jax.continual.protocol import (
    CondenseFn,
    Learned,
    evaluation_key,
    learn,
    run,
    seen_tests,
)
from ddpp_jax.continual.summary import summarise, summary_table

__all__ = [
    "CondenseFn",
    "Learned",
    "Task",
    "arrivals",
    "class_order",
    "draw_seed",
    "evaluation_key",
    "joined",
    "labelled_as_whole",
    "learn",
    "run",
    "seen_tests",
    "split_evenly",
    "summarise",
    "summary_table",
    "taken",
]
