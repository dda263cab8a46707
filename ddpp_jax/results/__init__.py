"""What evaluations found: rows, spreads over seeds, comparisons, and tables for a person."""

from ddpp_jax.results.doubts import Evidence, doubt
from ddpp_jax.results.files import check_evaluation, read_result
from ddpp_jax.results.searches import FULL
from ddpp_jax.results.statistics import Difference, Spread, paired_difference, spread

__all__ = [
    "FULL",
    "Difference",
    "Evidence",
    "Spread",
    "check_evaluation",
    "doubt",
    "paired_difference",
    "read_result",
    "spread",
]
