"""Real images drawn at random, the start of a distillation and its plainest rival."""

import jax
import numpy as np
from jaxtyping import Float, Int

from ddpp_jax._types import PRNGKey
from ddpp_jax.data.dataset import Dataset
from ddpp_jax.errors import InputError


def random_per_class(
    key: PRNGKey, dataset: Dataset, ipc: int
) -> tuple[Float[np.ndarray, "images height width channels"], Int[np.ndarray, " images"]]:
    """Training images, `ipc` of each class in the order of the classes, and their labels.

    Args:
        key: decides which.
        dataset: where they are taken from, without replacement.
        ipc: images per class.

    Raises:
        InputError: a class has fewer images than that.
    """
    chosen = []
    for label, name in enumerate(dataset.class_names):
        members = np.flatnonzero(dataset.y_train == label)
        if len(members) < ipc:
            raise InputError(
                f"class {name} has {len(members)} training images, fewer than --ipc {ipc}; lower it"
            )
        order = jax.random.permutation(jax.random.fold_in(key, label), len(members))
        chosen.append(members[np.asarray(order[:ipc])])
    indices = np.concatenate(chosen)
    return dataset.x_train[indices], dataset.y_train[indices]
