"""Real images drawn at random, the start of a distillation and its plainest rival."""

import jax
import numpy as np
from jaxtyping import Int, Int32, Shaped

from ddpp_jax._types import PRNGKey
from ddpp_jax.data.dataset import Dataset
from ddpp_jax.data.raw import RawDataset
from ddpp_jax.errors import InputError


def random_per_class(
    key: PRNGKey, dataset: Dataset | RawDataset, ipc: int
) -> tuple[Shaped[np.ndarray, "images height width channels"], Int32[np.ndarray, " images"]]:
    """Training images, `ipc` of each class in the order of the classes, and their labels.

    Args:
        key: decides which.
        dataset: where they are taken from, without replacement.
        ipc: images per class.

    Raises:
        InputError: a class has fewer images than that.
    """
    require_per_class(dataset, ipc)
    indices = random_indices(key, dataset.y_train, ipc, classes=dataset.classes)
    return dataset.x_train[indices], dataset.y_train[indices]


def random_indices(
    key: PRNGKey, labels: Int32[np.ndarray, " images"], ipc: int, *, classes: int
) -> Int[np.ndarray, " chosen"]:
    """Indices of `ipc` images of each class, in the order of the classes, without replacement.

    Args:
        key: decides which.
        labels: of all images.
        ipc: images per class; no more than the smallest class has.
        classes: how many there are.
    """
    chosen = []
    for label in range(classes):
        members = np.flatnonzero(labels == label)
        order = jax.random.permutation(jax.random.fold_in(key, label), len(members))
        chosen.append(members[np.asarray(order[:ipc])])
    return np.concatenate(chosen)


def require_per_class(dataset: Dataset | RawDataset, ipc: int) -> None:
    """Refuse more training images per class than there are.

    Raises:
        InputError: a class has fewer images than `ipc`.
    """
    counts = np.bincount(dataset.y_train, minlength=dataset.classes)
    for name, count in zip(dataset.class_names, counts.tolist(), strict=True):
        if count < ipc:
            raise InputError(
                f"class {name} has {count} training images, fewer than --ipc {ipc}; lower it"
            )
