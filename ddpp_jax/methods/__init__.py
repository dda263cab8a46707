"""Methods of distillation: what one is, and one file for each family."""

from ddpp_jax.methods.distribution import DistributionHParams, RealImages, match_distributions
from ddpp_jax.methods.matching import Parts
from ddpp_jax.methods.method import Feed, Info, Method, Metric, steps_key
from ddpp_jax.methods.pairs import OnDevice, Pair, Plan, Streamed, device_room, read_all
from ddpp_jax.methods.trajectory import HParams, Schedule, match_trajectories

__all__ = [
    "DistributionHParams",
    "Feed",
    "HParams",
    "Info",
    "Method",
    "Metric",
    "OnDevice",
    "Pair",
    "Parts",
    "Plan",
    "RealImages",
    "Schedule",
    "Streamed",
    "device_room",
    "match_distributions",
    "match_trajectories",
    "read_all",
    "steps_key",
]
