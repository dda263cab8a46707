"""The mathematics, for anybody's research code: it needs JAX alone."""

from ddpp_jax._types import Optimizer
from ddpp_jax.core.augmentation import (
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
from ddpp_jax.core.closures import hoisted
from ddpp_jax.core.distances import trajectory_loss
from ddpp_jax.core.keys import named_key
from ddpp_jax.core.masks import (
    difference_mask,
    kept_fraction,
    prune_mask,
    random_mask,
    ranked_mask,
    ratio_order,
)
from ddpp_jax.core.minibatches import Cut, ShareFn
from ddpp_jax.core.params import flatten_params
from ddpp_jax.core.unrolling import unroll, value_and_gradient

__all__ = [
    "Cut",
    "Optimizer",
    "ShareFn",
    "augment",
    "brightness",
    "contrast",
    "crop",
    "cutout",
    "difference_mask",
    "flatten_params",
    "flip",
    "hoisted",
    "kept_fraction",
    "named_key",
    "prune_mask",
    "random_mask",
    "ranked_mask",
    "ratio_order",
    "rotate",
    "saturation",
    "scale",
    "trajectory_loss",
    "unroll",
    "value_and_gradient",
]
