"""What training a network on any set of images takes: an epoch, the accuracy, several networks."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import (
    ApplyFn,
    AugmentFn,
    FloatArray,
    Images,
    IntArray,
    Logits,
    OptState,
    Params,
    PRNGKey,
    Scalar,
    Targets,
)
from ddpp_jax.core import value_and_gradient
from ddpp_jax.training.members import over_members
from ddpp_jax.training.sharpness import Sharpness, flat_direction

PartsFn: TypeAlias = Callable[[int], int]


def cross_entropy(logits: Logits, labels: Targets) -> Float[Array, " images"]:
    """The cross-entropy of each image, in nats; labels are classes or their probabilities."""
    if labels.ndim == 2:
        return optax.softmax_cross_entropy(logits, labels.astype(logits.dtype))
    return optax.softmax_cross_entropy_with_integer_labels(logits, labels)


class Training(NamedTuple):
    """How a network is trained on a set of images.

    Attributes:
        apply_fn: the network.
        optimizer: an optax transformation that includes the learning rate.
        batch_size: images in a minibatch.
        augment_fn: applied to each minibatch with a key of its own.
        parts_fn: `parts_fn(size)`, into how many parts a minibatch of that size is cut, one after
            another; None cuts none. Results differ by rounding.
        sharpness: of steps towards flat minima; None descends the gradient.
    """

    apply_fn: ApplyFn
    optimizer: optax.GradientTransformation
    batch_size: int
    augment_fn: AugmentFn
    parts_fn: PartsFn | None = None
    sharpness: Sharpness | None = None


def train_epoch(
    key: PRNGKey,
    params: Params,
    opt_state: OptState,
    images: Images,
    labels: Targets,
    training: Training,
) -> tuple[Params, OptState, Scalar]:
    """The parameters and optimiser state after one pass over all images, and the mean loss.

    The images are shuffled and cut into minibatches; a last, smaller one counts only the images it
    holds, and is filled up with the first of the order for those networks that normalise over the
    batch. Where one batch holds them all, it is taken in order.

    Args:
        key: decides the order and the augmentation.
        params: the parameters.
        opt_state: the state of the optimiser.
        images: the whole set.
        labels: a class for each image, or a row with the probability of each class.
        training: the network, its optimiser, the minibatches and the augmentation.
    """
    apply_fn, optimizer, batch_size, augment_fn, parts_fn, sharpness = training
    count = images.shape[0]
    size = min(batch_size, count)
    steps = math.ceil(count / size)
    parts = 1 if parts_fn is None else parts_fn(size)
    order_key, augment_key = jax.random.split(key)
    order = jax.random.permutation(order_key, count) if steps > 1 else jnp.arange(count)
    order = jnp.pad(order, (0, steps * size - count), mode="wrap").reshape(steps, size)
    real = (jnp.arange(steps * size) < count).reshape(steps, size).astype(images.dtype)

    def loss_fn(params: Params, batch: tuple[Images, Targets, Array]) -> Scalar:
        inputs, targets, weights = batch
        return jnp.mean(cross_entropy(apply_fn(params, inputs), targets) * weights)

    def step(carry: tuple[Params, Any], xs: tuple[Array, Array, Array]) -> tuple[Any, Scalar]:
        params, opt_state = carry
        index, batch, weights = xs
        inputs = augment_fn(jax.random.fold_in(augment_key, index), images[batch])
        shares = weights * (size / weights.sum())
        minibatch = (inputs, labels[batch], shares)
        gradient_fn = partial(value_and_gradient, loss_fn, batch=minibatch, parts=parts)
        if sharpness is None:
            loss, gradient = gradient_fn(params)
        else:
            loss, gradient = flat_direction(gradient_fn, params, sharpness)
        updates, opt_state = optimizer.update(gradient, opt_state, params)
        return (optax.apply_updates(params, updates), opt_state), loss * weights.sum()

    (params, opt_state), losses = lax.scan(
        step, (params, opt_state), (jnp.arange(steps), order, real)
    )
    return params, opt_state, losses.sum() / count


def predictions(
    params: Params,
    images: Images,
    *,
    apply_fn: ApplyFn,
    batch_size: int = 500,
    parts_fn: PartsFn | None = None,
) -> Int[Array, "networks images"]:
    """The class with the largest logit, for each of several networks and each image.

    Args:
        params: the networks' parameters, stacked along a leading axis.
        images: the whole set; it is taken in batches, so that memory stays bounded.
        apply_fn: the architecture.
        batch_size: images at once.
        parts_fn: `parts_fn(size)`, into how many parts such a batch is cut; None cuts none.
    """
    count = images.shape[0]
    size = min(batch_size, count)
    size //= 1 if parts_fn is None else parts_fn(size)
    steps = math.ceil(count / size)
    order = jnp.pad(jnp.arange(count), (0, steps * size - count)).reshape(steps, size)
    return _predict(params, [(images, order)], apply_fn=apply_fn).reshape(-1, steps * size)[
        :, :count
    ]


@partial(over_members, static=("apply_fn",), donate=False)
def _predict(
    params: Params, piece: tuple[Images, Int[Array, "steps size"]], *, apply_fn: ApplyFn
) -> Int[Array, "steps size"]:
    images, order = piece
    return lax.map(lambda batch: jnp.argmax(apply_fn(params, images[batch]), axis=1), order)


def accuracies(
    params: Params,
    images: FloatArray,
    labels: IntArray,
    *,
    apply_fn: ApplyFn,
    parts_fn: PartsFn | None = None,
) -> Float[np.ndarray, " networks"]:
    """The share of all images that each of several networks puts into their class, from 0 to 1."""
    found = np.asarray(
        predictions(params, jnp.asarray(images), apply_fn=apply_fn, parts_fn=parts_fn)
    )
    return (found == np.asarray(labels)[None, :]).mean(axis=1)
