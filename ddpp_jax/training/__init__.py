"""Training on any set of images: an epoch, the accuracy, several networks side by side."""

from ddpp_jax.training.devices import everywhere, has_here
from ddpp_jax.training.epochs import (
    PartsFn,
    Training,
    accuracies,
    cross_entropy,
    predictions,
    train_epoch,
)
from ddpp_jax.training.members import PIECES, over_members, side_by_side, workers
from ddpp_jax.training.sharpness import Sharpness, flat_direction, length
from ddpp_jax.training.spread import cut_for_devices, map_over, mean_over, on_all

__all__ = [
    "PIECES",
    "PartsFn",
    "Sharpness",
    "Training",
    "accuracies",
    "cross_entropy",
    "cut_for_devices",
    "everywhere",
    "flat_direction",
    "has_here",
    "length",
    "map_over",
    "mean_over",
    "on_all",
    "over_members",
    "predictions",
    "side_by_side",
    "train_epoch",
    "workers",
]
