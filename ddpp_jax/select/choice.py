"""Real images chosen per class: the baselines that a distilled set is measured against.

Each function gives indices into the training images, `ipc` of each class, class by class and in the
order of choice. Random ones are drawn by `ddpp_jax.data.random_indices`.
"""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float, Int

from ddpp_jax._types import FloatArray, Params, PRNGKey
from ddpp_jax.data import Dataset, Stored, as_shown, transform_arrays
from ddpp_jax.networks import Network
from ddpp_jax.sets import DistilledSet

Features = Float[np.ndarray, "images features"]
Labels = Int[np.ndarray, " images"]
Chosen = Int[np.ndarray, " chosen"]

_BATCH = 500


def herding(features: Features, labels: Labels, ipc: int) -> Chosen:
    """The images whose mean feature follows that of their class, chosen greedily.

    Features are scaled to unit length. Then the rule of Welling (ICML 2009), the largest inner
    product with a weight that gains the class mean and loses what is chosen, and that of Chen,
    Welling and Smola (UAI 2010), the smallest distance between the two means, choose the same
    images. No image is chosen twice.

    Args:
        features: of each training image, from a trained network.
        labels: one for each.
        ipc: images per class; no more than the smallest class has.
    """

    def one(members: Features) -> list[int]:
        lengths = np.linalg.norm(members, axis=1, keepdims=True)
        units = members / np.maximum(lengths, np.finfo(np.float64).tiny)
        mean = units.mean(axis=0)
        weight, chosen = mean.copy(), []
        for _ in range(ipc):
            scores = units @ weight
            scores[chosen] = -np.inf
            chosen.append(int(np.argmax(scores)))
            weight += mean - units[chosen[-1]]
        return chosen

    return _by_class(one, features, labels)


def k_centre(features: Features, labels: Labels, ipc: int) -> Chosen:
    """The images that cover their class: each farthest from those before it.

    The first is the nearest to the mean of its class. Farthest-first traversal (Gonzalez, 1985)
    covers at most twice as badly as the best choice; Sener and Savarese (ICLR 2018) use it on
    features.

    Args:
        features: of each training image, from a trained network.
        labels: one for each.
        ipc: images per class; no more than the smallest class has.
    """

    def one(members: Features) -> list[int]:
        chosen = [int(np.argmin(_distances(members, members.mean(axis=0))))]
        nearest = _distances(members, members[chosen[0]])
        while len(chosen) < ipc:
            nearest[chosen] = -np.inf
            chosen.append(int(np.argmax(nearest)))
            nearest = np.minimum(nearest, _distances(members, members[chosen[-1]]))
        return chosen

    return _by_class(one, features, labels)


def forgetting(
    key: PRNGKey, events: Int[np.ndarray, " images"], labels: Labels, ipc: int, *, most: bool = True
) -> Chosen:
    """The images that training forgot most often, or least often.

    Toneva et al. (ICLR 2019) find that images which are never forgotten can be left out. Published
    comparisons of distillation with "forgetting" (Zhao et al., ICLR 2021, whose figures the tables
    of the field repeat) therefore keep the most forgotten.

    Args:
        key: decides between images that are forgotten equally often.
        events: how often each image was forgotten, by `forgetting_events`.
        labels: one for each.
        ipc: images per class; no more than the smallest class has.
        most: the most forgotten; otherwise the least.
    """
    ties = np.asarray(jax.random.permutation(key, len(events)))
    order = np.lexsort((ties, -events if most else events))
    chosen = [order[labels[order] == label][:ipc] for label in np.unique(labels)]
    return np.concatenate(chosen)


def forgetting_events(correct: Bool[np.ndarray, "epochs images"]) -> Int[np.ndarray, " images"]:
    """How often each image went from learnt to forgotten from one epoch to the next.

    One that was never learnt counts as forgotten more often than any other (Toneva et al., ICLR
    2019): once for every epoch.

    Args:
        correct: whether each image was put into its class, after each epoch of a training.
    """
    events = (correct[:-1] & ~correct[1:]).sum(axis=0)
    return np.where(correct.any(axis=0), events, len(correct))


def features_of(params: Params, images: FloatArray | Stored, *, network: Network) -> Features:
    """What a network's linear layer takes, for each image."""
    batch = jax.jit(network.features_fn)
    found = [
        np.asarray(batch(params, jnp.asarray(images[low : low + _BATCH])), np.float64)
        for low in range(0, len(images), _BATCH)
    ]
    return np.concatenate(found)


def _by_class(one: Callable[[Features], list[int]], features: Features, labels: Labels) -> Chosen:
    members = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    features = features.astype(np.float64)
    return np.concatenate([indices[one(features[indices])] for indices in members])


def _distances(
    features: Features, centre: Float[np.ndarray, " features"]
) -> Float[np.ndarray, " images"]:
    return np.linalg.norm(features - centre, axis=1)


def real_set(
    indices: Int[np.ndarray, " chosen"],
    raw: Dataset,
    dataset: Dataset,
    *,
    alpha: float,
    origin: Mapping[str, Any] = MappingProxyType({}),
) -> DistilledSet:
    """Some of the training images as a set like a distilled one.

    Args:
        indices: of the images.
        raw: the data as they came.
        dataset: the data as networks see them.
        alpha: the learning rate of networks that are trained on the set.
        origin: what the set's file says of where it comes from; the indices are added.
    """
    return DistilledSet(
        images=dataset.x_train[indices],
        pixels=as_shown(dataset.transform, raw.x_train[indices]),
        labels=dataset.y_train[indices],
        alpha=alpha,
        class_names=dataset.class_names,
        transform=transform_arrays(dataset.transform),
        origin=dict(origin) | {"indices": indices.tolist()},
    )
