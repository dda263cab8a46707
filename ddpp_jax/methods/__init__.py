"""Methods of distillation: what one is, and one file for each family."""

from ddpp_jax.methods.alignment import AlignmentLoops, align_features
from ddpp_jax.methods.distribution import match_distributions
from ddpp_jax.methods.gradient import GradientLoops, match_gradients
from ddpp_jax.methods.hosted import OnHost
from ddpp_jax.methods.kernel import centred_labels, fit, induce_points, predict
from ddpp_jax.methods.labels import teacher_labels
from ddpp_jax.methods.masks import make_mask
from ddpp_jax.methods.matching import LEAST_SHARE, Parts
from ddpp_jax.methods.method import Feed, Info, Method, Metric, steps_key
from ddpp_jax.methods.pairs import OnDevice, Pair, Plan, Streamed, device_room, read_all
from ddpp_jax.methods.pixels import PixelHParams
from ddpp_jax.methods.real import (
    Pool,
    RealImages,
    RealSource,
    Room,
    Work,
    made_up_pool,
    pool_like,
)
from ddpp_jax.methods.schedules import Schedule
from ddpp_jax.methods.trajectory import Extensions, match_trajectories
from ddpp_jax.methods.truncated import UnrolledHParams, unroll_truncated
from ddpp_jax.methods.updates import HParams
from ddpp_jax.methods.windows import Inner

__all__ = [
    "LEAST_SHARE",
    "AlignmentLoops",
    "Extensions",
    "Feed",
    "GradientLoops",
    "HParams",
    "Info",
    "Inner",
    "Method",
    "Metric",
    "OnDevice",
    "OnHost",
    "Pair",
    "Parts",
    "PixelHParams",
    "Plan",
    "Pool",
    "RealImages",
    "RealSource",
    "Room",
    "Schedule",
    "Streamed",
    "UnrolledHParams",
    "Work",
    "align_features",
    "centred_labels",
    "device_room",
    "fit",
    "induce_points",
    "made_up_pool",
    "make_mask",
    "match_distributions",
    "match_gradients",
    "match_trajectories",
    "pool_like",
    "predict",
    "read_all",
    "steps_key",
    "teacher_labels",
    "unroll_truncated",
]
