"""What distilled images start from: real images drawn by the seed, or noise."""

from typing import Literal

import jax
import numpy as np
from jaxtyping import Bool, Int

from ddpp_jax._types import PRNGKey
from ddpp_jax.core import named_key
from ddpp_jax.data import (
    Dataset,
    deviation,
    random_indices,
    require_per_class,
    transform_arrays,
)
from ddpp_jax.sets import DistilledSet

Noise = Literal["data", "unit"]
"""How large the pixels of noise are."""


def start_from(
    dataset: Dataset,
    *,
    ipc: int,
    alpha: float,
    seed: int,
    noise: Noise | None = None,
    among: Bool[np.ndarray, " images"] | None = None,
) -> DistilledSet:
    """Real images to start from, drawn by the seed, or noise.

    Args:
        dataset: the real data, normalised.
        ipc: images per class.
        alpha: the learning rate to go with them.
        seed: of the distillation.
        noise: independent normal pixels in place of real images: `data`, with the deviation of the
            data; `unit`, scaled so that each image as a vector has the length 1.
        among: whether each training image may be drawn; None allows all.

    Raises:
        InputError: a class has fewer images.
    """
    chosen = start_indices(dataset, ipc=ipc, seed=seed, among=among)
    images, labels = dataset.x_train[chosen], dataset.y_train[chosen]
    if noise is not None:
        key = named_key(_start_key(seed), "noise")
        draws = np.asarray(jax.random.normal(key, images.shape, np.float32))
        lengths = np.sqrt(np.square(draws).sum(axis=(1, 2, 3), keepdims=True))
        images = draws / lengths
        if noise == "data":
            images = draws * deviation(dataset.x_train)
    return DistilledSet(
        images,
        labels,
        alpha,
        class_names=dataset.class_names,
        transform=transform_arrays(dataset.transform),
    )


def start_indices(
    dataset: Dataset, *, ipc: int, seed: int, among: Bool[np.ndarray, " all"] | None = None
) -> Int[np.ndarray, " images"]:
    """Which training images `start_from` takes, class by class.

    Args:
        dataset: the real data, normalised or not.
        ipc: images per class.
        seed: of the distillation.
        among: whether each may be drawn, with enough of each class; None allows all.

    Raises:
        InputError: a class has fewer images.
    """
    require_per_class(dataset, ipc)
    places = np.arange(len(dataset.y_train)) if among is None else np.flatnonzero(among)
    labels = dataset.y_train[places]
    return places[random_indices(_start_key(seed), labels, ipc, classes=dataset.classes)]


def _start_key(seed: int) -> PRNGKey:
    return named_key(jax.random.key(seed), "start images")
