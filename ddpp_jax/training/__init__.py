"""Training on any set of images: an epoch, the accuracy, several networks side by side."""

from ddpp_jax.training.devices import everywhere, mean_over, own_members
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

__all__ = [
    "PIECES",
    "Batched",
    "Order",
    "PartsFn",
    "Sharpness",
    "Training",
    "accuracies",
    "cross_entropy",
    "epoch_order",
    "everywhere",
    "flat_direction",
    "length",
    "mean_over",
    "over_members",
    "own_members",
    "predictions",
    "sgd_step",
    "side_by_side",
    "train_epoch",
    "workers",
]
