"""Dataset distillation using parameter pruning, as pure functions for JAX.

Li, Togo, Ogawa, Haseyama: Dataset Distillation Using Parameter Pruning, IEICE Trans. Fundamentals
E107-A(6), 2024. The functions here need JAX alone; `python -m ddpp_jax` lists the commands.
"""

from typing import TYPE_CHECKING, Any

from ddpp_jax import _process as _process  # First of all, before JAX is imported.
from ddpp_jax._types import OPERATIONS
from ddpp_jax.core import (
    augment,
    brightness,
    contrast,
    crop,
    cutout,
    difference_mask,
    flatten_params,
    flip,
    kept_fraction,
    prune_mask,
    random_mask,
    rotate,
    saturation,
    scale,
    trajectory_loss,
    unroll,
)

if TYPE_CHECKING:
    from ddpp_jax.sets import load_distilled

__version__ = "0.1.0"

__all__ = [
    "OPERATIONS",
    "augment",
    "brightness",
    "contrast",
    "crop",
    "cutout",
    "difference_mask",
    "flatten_params",
    "flip",
    "kept_fraction",
    "load_distilled",
    "prune_mask",
    "random_mask",
    "rotate",
    "saturation",
    "scale",
    "trajectory_loss",
    "unroll",
]


def __getattr__(name: str) -> Any:
    """`load_distilled`, which reads files and needs more than jax, once it is asked for."""
    if name == "load_distilled":
        from ddpp_jax.sets import load_distilled

        return load_distilled
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
