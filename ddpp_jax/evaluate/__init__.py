"""Stage 3: fresh networks trained on a small set, and their accuracy on the real test set."""

from ddpp_jax.evaluate.networks import run
from ddpp_jax.evaluate.schedule import Info, State, init, make_optimizer, start_from, step
from ddpp_jax.evaluate.score import score
from ddpp_jax.evaluate.verdict import Verdict, verdict

__all__ = [
    "Info",
    "State",
    "Verdict",
    "init",
    "make_optimizer",
    "run",
    "score",
    "start_from",
    "step",
    "verdict",
]
