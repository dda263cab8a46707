"""What training a network on any set of images takes: an epoch, the accuracy, several networks."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

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
    count = images.shape[0]
    order, augment_key = epoch_order(key, count, training.batch_size)

    def step(carry: tuple[Params, Any], xs: tuple[Array, Array, Array]) -> tuple[Any, Scalar]:
        index, batch, real = xs
        inputs = training.augment_fn(jax.random.fold_in(augment_key, index), images[batch])
        *after, loss = sgd_step(*carry, (inputs, labels[batch], real), training)
        return tuple(after), loss

    xs = (jnp.arange(len(order.places)), order.places, order.real.astype(images.dtype))
    (params, opt_state), losses = lax.scan(step, (params, opt_state), xs)
    return params, opt_state, losses.sum() / count


class Order(NamedTuple):
    """Which images the minibatches of an epoch hold.

    Attributes:
        places: of the images of each minibatch.
        real: whether each counts; those that fill up the last minibatch do not.
    """

    places: Int[Array, "steps size"]
    real: Bool[Array, "steps size"]


def epoch_order(key: PRNGKey, count: int, batch_size: int) -> tuple[Order, PRNGKey]:
    """The minibatches of an epoch, and the key of its augmentation; see `train_epoch`.

    Args:
        key: of the epoch.
        count: images in the whole set.
        batch_size: of a minibatch.
    """
    size = min(batch_size, count)
    steps = math.ceil(count / size)
    order_key, augment_key = jax.random.split(key)
    order = jax.random.permutation(order_key, count) if steps > 1 else jnp.arange(count)
    order = jnp.pad(order, (0, steps * size - count), mode="wrap").reshape(steps, size)
    real = (jnp.arange(steps * size) < count).reshape(steps, size)
    return Order(order, real), augment_key


def sgd_step(
    params: Params,
    opt_state: OptState,
    minibatch: tuple[Images, Targets, Float[Array, " images"]],
    training: Training,
) -> tuple[Params, OptState, Scalar]:
    """The parameters and optimiser state after a minibatch, and the sum of its losses.

    Args:
        params: the parameters.
        opt_state: the state of the optimiser.
        minibatch: augmented images, their labels, and 1 for those that count, 0 for the others.
        training: the network and its optimiser.
    """
    apply_fn, optimizer, _, _, parts_fn, sharpness = training
    images, labels, weights = minibatch
    size = images.shape[0]
    parts = 1 if parts_fn is None else parts_fn(size)

    def loss_fn(params: Params, batch: tuple[Images, Targets, Array]) -> Scalar:
        inputs, targets, weights = batch
        return jnp.mean(cross_entropy(apply_fn(params, inputs), targets) * weights)

    shares = weights * (size / weights.sum())
    gradient_fn = partial(value_and_gradient, loss_fn, batch=(images, labels, shares), parts=parts)
    if sharpness is None:
        loss, gradient = gradient_fn(params)
    else:
        loss, gradient = flat_direction(gradient_fn, params, sharpness)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return optax.apply_updates(params, updates), opt_state, loss * weights.sum()


@runtime_checkable
class Batched(Protocol):
    """Images that come in batches, since they are not all in memory."""

    def __len__(self) -> int:
        """How many there are."""
        ...

    def batches(self, rows: int) -> Iterator[Images]:
        """All of them in order, in batches of so many on the device; the last is filled up."""
        ...


def predictions(
    params: Params,
    images: FloatArray | Batched,
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
    count = len(images)
    size = min(batch_size, count)
    size //= 1 if parts_fn is None else parts_fn(size)
    if isinstance(images, Batched):
        every = jnp.arange(size)[None]
        found = [
            _predict(params, [(batch, every)], apply_fn).reshape(-1, size)
            for batch in images.batches(size)
        ]
        return jnp.concatenate(found, axis=1)[:, :count]
    steps = math.ceil(count / size)
    order = jnp.pad(jnp.arange(count), (0, steps * size - count)).reshape(steps, size)
    given = jnp.asarray(images)
    return _predict(params, [(given, order)], apply_fn).reshape(-1, steps * size)[:, :count]


@partial(over_members, donate=False)
def _predict(
    params: Params, piece: tuple[Images, Int[Array, "steps size"]], apply_fn: ApplyFn
) -> Int[Array, "steps size"]:
    images, order = piece
    return lax.map(lambda batch: jnp.argmax(apply_fn(params, images[batch]), axis=1), order)


def accuracies(
    params: Params,
    images: FloatArray | Batched,
    labels: IntArray,
    *,
    apply_fn: ApplyFn,
    parts_fn: PartsFn | None = None,
) -> Float[np.ndarray, " networks"]:
    """The share of all images that each of several networks puts into their class, from 0 to 1."""
    found = np.asarray(predictions(params, images, apply_fn=apply_fn, parts_fn=parts_fn))
    return (found == np.asarray(labels)[None, :]).mean(axis=1)
