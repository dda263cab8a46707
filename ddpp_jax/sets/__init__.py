"""Small sets, distilled or selected: the one type, its file, and where a set comes from."""

from ddpp_jax.sets.belonging import require_own
from ddpp_jax.sets.files import (
    WHICH,
    DistilledSet,
    is_distilled,
    origin_digest,
    own_transform,
    read_distilled,
    set_path,
    shown_range,
    write_distilled,
)
from ddpp_jax.sets.loading import load_distilled, refuse_without_set
from ddpp_jax.sets.origin import check_identity, check_origin

__all__ = [
    "WHICH",
    "DistilledSet",
    "check_identity",
    "check_origin",
    "is_distilled",
    "load_distilled",
    "origin_digest",
    "own_transform",
    "read_distilled",
    "refuse_without_set",
    "require_own",
    "set_path",
    "shown_range",
    "write_distilled",
]
