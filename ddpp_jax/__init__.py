"""Dataset distillation using parameter pruning, as pure functions for JAX.

Li, Togo, Ogawa, Haseyama: Dataset Distillation Using Parameter Pruning, IEICE Trans. Fundamentals
E107-A(6), 2024. The functions here need jax alone; the commands live in `ddpp_jax.teachers`,
`ddpp_jax.distill` and `ddpp_jax.evaluate`.
"""

from ddpp_jax._types import OPERATIONS
from ddpp_jax.augment import (
    augment,
    brightness,
    contrast,
    crop,
    cutout,
    flip,
    rotate,
    saturation,
    scale,
)
from ddpp_jax.matching import trajectory_loss
from ddpp_jax.pruning import kept_fraction, prune_mask
from ddpp_jax.unroll import unroll
from ddpp_jax.vector import flatten_params

__version__ = "0.1.0"

__all__ = [
    "OPERATIONS",
    "augment",
    "brightness",
    "contrast",
    "crop",
    "cutout",
    "flatten_params",
    "flip",
    "kept_fraction",
    "prune_mask",
    "rotate",
    "saturation",
    "scale",
    "trajectory_loss",
    "unroll",
]
