"""What each file of a run must look like, checked whenever one is read."""

from ddpp_jax.records.belonging import require_own
from ddpp_jax.records.origin import check_identity, check_origin
from ddpp_jax.records.result import check_evaluation, read_result
from ddpp_jax.records.rows import read_metrics, read_progress
from ddpp_jax.records.schema import require_kind

__all__ = [
    "check_evaluation",
    "check_identity",
    "check_origin",
    "read_metrics",
    "read_progress",
    "read_result",
    "require_kind",
    "require_own",
]
