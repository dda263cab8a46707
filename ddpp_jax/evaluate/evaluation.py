"""How good networks are found to be."""

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int


class Evaluation(NamedTuple):
    """What networks that were trained on a small set make of a test set.

    Attributes:
        accuracies: of each network, from 0 to 1.
        confusion: how often, over all networks, an image of the row's class is taken for the
            column's.
        diverged: networks whose training loss was not finite at the end.
    """

    accuracies: Float[np.ndarray, " networks"]
    confusion: Int[np.ndarray, "classes classes"]
    diverged: int = 0

    @property
    def mean(self) -> float:
        """The mean accuracy over the networks, from 0 to 1."""
        return float(self.accuracies.mean(dtype=np.float64))

    @property
    def std(self) -> float:
        """Their population standard deviation, as published tables have it."""
        return float(self.accuracies.std(dtype=np.float64))

    @property
    def per_class(self) -> Float[np.ndarray, " classes"]:
        """The accuracy on each class, over all networks; NaN where no image is of it."""
        counts = self.confusion.sum(axis=1)
        hits = np.diag(self.confusion)
        return np.divide(hits, counts, out=np.full(len(hits), np.nan), where=counts > 0)


def evaluation_of(
    guesses: Int[np.ndarray, "networks images"],
    labels: Int[np.ndarray, " images"],
    classes: int,
    *,
    diverged: int = 0,
) -> Evaluation:
    """The evaluation that follows from what the networks took the images for.

    Args:
        guesses: a class for each image, by each network.
        labels: the true ones.
        classes: how many there are.
        diverged: how many of the networks had a training loss that was not finite.
    """
    confusion = np.zeros((classes, classes), np.int64)
    np.add.at(confusion, (np.broadcast_to(labels, guesses.shape), guesses), 1)
    return Evaluation((guesses == labels[None, :]).mean(axis=1), confusion, diverged)
