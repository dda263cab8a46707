"""Small sets, distilled or selected: the one type, its file, and where a set comes from."""

from ddpp_jax.sets.belonging import require_own
from ddpp_jax.sets.files import (
    ITERATES,
    DistilledFile,
    is_distilled,
    iterate_path,
    origin_digest,
    read_distilled,
    shown_range,
    write_distilled,
)
from ddpp_jax.sets.origin import check_identity, check_origin

__all__ = [
    "ITERATES",
    "DistilledFile",
    "check_identity",
    "check_origin",
    "is_distilled",
    "iterate_path",
    "origin_digest",
    "read_distilled",
    "require_own",
    "shown_range",
    "write_distilled",
]
