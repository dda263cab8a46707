"""Training on any set of images: an epoch, the accuracy, several networks side by side."""

from ddpp_jax.training.devices import everywhere, mean_over
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

__all__ = [
    "PIECES",
    "PartsFn",
    "Sharpness",
    "Training",
    "accuracies",
    "cross_entropy",
    "everywhere",
    "flat_direction",
    "length",
    "mean_over",
    "over_members",
    "predictions",
    "side_by_side",
    "train_epoch",
    "workers",
]
