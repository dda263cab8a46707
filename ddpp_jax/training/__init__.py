"""Training on any set of images: an epoch, the accuracy, several networks side by side."""

from ddpp_jax.training.devices import everywhere, has_here
from ddpp_jax.training.epochs import (
    Batched,
    Order,
    PartsFn,
    Training,
    accuracies,
    cross_entropy,
    epoch_order,
    predictions,
    sgd_step,
    train_epoch,
)
from ddpp_jax.training.members import PIECES, over_members, side_by_side, workers
from ddpp_jax.training.sharpness import Sharpness, flat_direction, length
from ddpp_jax.training.spread import cut_for_devices, map_over, mean_over, on_all

__all__ = [
    "PIECES",
    "Batched",
    "Order",
    "PartsFn",
    "Sharpness",
    "Training",
    "accuracies",
    "cross_entropy",
    "cut_for_devices",
    "epoch_order",
    "everywhere",
    "flat_direction",
    "has_here",
    "length",
    "map_over",
    "mean_over",
    "on_all",
    "over_members",
    "predictions",
    "sgd_step",
    "side_by_side",
    "train_epoch",
    "workers",
]
