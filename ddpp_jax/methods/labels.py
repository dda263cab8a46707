"""Labels that teachers give to the images that a distillation starts from (DATM, ICLR 2024)."""

from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float, Int

from ddpp_jax._types import Images, OptState, ScalarLike, Targets
from ddpp_jax.networks import Network

CERTAIN = 0.9
"""Probability of an image's own class, where labels are learned and no teacher says otherwise."""

LEAST_PROBABILITY = 1e-6
"""Probabilities below this begin at it, so that their logits are finite."""

TeacherLogits: TypeAlias = Float[Array, "teachers images classes"]


def right(logits: TeacherLogits, labels: Int[Array, " images"]) -> Bool[Array, "teachers images"]:
    """Which teachers find the class of which image.

    Args:
        logits: of every teacher, for every image.
        labels: the classes.
    """
    return logits.argmax(axis=2) == labels[None]


def teacher_labels(
    logits: TeacherLogits, labels: Int[Array, " images"], *, certain: float = CERTAIN
) -> Float[Array, "images classes"]:
    """Probabilities of classes: softmax of the mean logits of the teachers that find the class.

    Where none of them does, where the published code divides by 0, the class has the probability
    `certain` and the others share the rest.

    Args:
        logits: of every teacher, for every image.
        labels: the classes.
        certain: from 1 / classes to 1.
    """
    found = right(logits, labels)
    count = found.sum(axis=0)
    total = jnp.where(found[..., None], logits, 0).sum(axis=0)
    mean = total / jnp.where(count > 0, count, 1)[:, None]
    classes = logits.shape[2]
    alone = _certainly(labels, classes, logits.dtype, certain)
    return jnp.where((count > 0)[:, None], jax.nn.softmax(mean), alone)


def logits_of(labels: Targets, network: Network, images: Images) -> Float[Array, "images classes"]:
    """Logits whose softmax are the labels; of a class, so that it has `CERTAIN` probability.

    Args:
        labels: a class for each image, or its probabilities.
        network: that tells how many classes there are.
        images: of the set.
    """
    if labels.ndim == 1:
        vector = jax.ShapeDtypeStruct((network.num_params,), images.dtype)
        shape = jax.eval_shape(
            lambda vector: network.apply_fn(network.unflatten(vector), images), vector
        )
        labels = _certainly(labels, shape.shape[1], images.dtype, CERTAIN)
    return jnp.log(jnp.maximum(labels.astype(images.dtype), LEAST_PROBABILITY))


def descend_logits(
    logits: Float[Array, "images classes"],
    state: OptState,
    gradient: Float[Array, "images classes"],
    *,
    rate: ScalarLike,
    optimizer: optax.GradientTransformation,
) -> tuple[Float[Array, "images classes"], OptState]:
    """The labels' logits and their optimiser's state after a step of it.

    Args:
        logits: before it.
        state: of the optimiser.
        gradient: of the loss in the logits.
        rate: the learning rate.
        optimizer: without its rate.
    """
    velocity, state = optimizer.update(gradient, state)
    return logits - rate * cast(Array, velocity), state


def _certainly(
    labels: Int[Array, " images"], classes: int, dtype: Any, certain: float
) -> Float[Array, "images classes"]:
    """Probabilities: `certain` for an image's class, the same share of the rest for each other."""
    one_hot = jax.nn.one_hot(labels, classes, dtype=dtype)
    return certain * one_hot + (1 - certain) / (classes - 1) * (1 - one_hot)
