"""Methods of distillation: what one is, and one file for each family."""

from ddpp_jax.methods.alignment import AlignmentLoops, align_features
from ddpp_jax.methods.distribution import match_distributions
from ddpp_jax.methods.gradient import Loops, match_gradients
from ddpp_jax.methods.kernel import centred_labels, induce_points, regress
from ddpp_jax.methods.matching import Parts
from ddpp_jax.methods.method import Feed, Info, Method, Metric, steps_key
from ddpp_jax.methods.pairs import OnDevice, Pair, Plan, Streamed, device_room, read_all
from ddpp_jax.methods.pixels import PixelHParams
from ddpp_jax.methods.real import Pool, RealImages, Work, pool_like
from ddpp_jax.methods.trajectory import HParams, Schedule, match_trajectories

__all__ = [
    "AlignmentLoops",
    "Feed",
    "HParams",
    "Info",
    "Loops",
    "Method",
    "Metric",
    "OnDevice",
    "Pair",
    "Parts",
    "PixelHParams",
    "Plan",
    "Pool",
    "RealImages",
    "Schedule",
    "Streamed",
    "Work",
    "align_features",
    "centred_labels",
    "device_room",
    "induce_points",
    "match_distributions",
    "match_gradients",
    "match_trajectories",
    "pool_like",
    "read_all",
    "regress",
    "steps_key",
]
