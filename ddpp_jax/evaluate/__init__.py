"""Stage 3: fresh networks trained on a small set, and their accuracy on the real test set."""

from ddpp_jax.evaluate.evaluation import Evaluation, evaluation_of
from ddpp_jax.evaluate.kept import Evaluations
from ddpp_jax.evaluate.networks import Procedure, Tests, run, train
from ddpp_jax.evaluate.regression import evaluate_by_kernel
from ddpp_jax.evaluate.schedule import Info, State, init, make_optimizer, start_from, step
from ddpp_jax.evaluate.scoring import score

__all__ = [
    "Evaluation",
    "Evaluations",
    "Info",
    "Procedure",
    "State",
    "Tests",
    "evaluate_by_kernel",
    "evaluation_of",
    "init",
    "make_optimizer",
    "run",
    "score",
    "start_from",
    "step",
    "train",
]
