"""The random choices of a step of trajectory matching."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ddpp_jax._types import PRNGKey
from ddpp_jax.core import named_key


class Start(NamedTuple):
    """Where a student starts from.

    Attributes:
        teacher: which teacher.
        epoch: which of its epochs.
    """

    teacher: Int[Array, ""]
    epoch: Int[Array, ""]


class Draws(NamedTuple):
    """The random choices of a student's training.

    Attributes:
        batches: indices into the distilled set, a row for each student step.
        augment_keys: a key for each student step.
    """

    batches: Int[Array, "steps batch"]
    augment_keys: Array


def draw_start(
    key: PRNGKey, *, teachers: int, epochs: int | Int[Array, ""], first: int = 0
) -> Start:
    """The teacher and the start epoch of a distillation step, each with equal chances.

    Args:
        key: this step's own.
        teachers: how many there are to choose from.
        epochs: epochs below this one are chosen from (I+).
        first: and from this one on.
    """
    whole = jnp.int32  # Whatever JAX's default is: draws of another width are other draws.
    return Start(
        teacher=jax.random.randint(named_key(key, "teacher"), (), 0, teachers, whole),
        epoch=jax.random.randint(named_key(key, "epoch"), (), first, epochs, whole),
    )


def draw(key: PRNGKey, *, images: int, steps: int, batch: int | None = None) -> Draws:
    """The minibatches and the augmentation of a student's training.

    Minibatches come from random permutations of the distilled set, each used up before the next;
    where one minibatch holds the whole set it is taken in order.

    Args:
        key: this step's own.
        images: the size of the distilled set.
        steps: of the student (J).
        batch: images in a minibatch; None takes all of them.
    """
    size = batch or images
    passes = math.ceil(steps * size / images)
    keys = jax.random.split(named_key(key, "batches"), passes)
    if size == images:
        orders = jnp.tile(jnp.arange(images), (passes, 1))
    else:
        orders = jax.vmap(lambda k: jax.random.permutation(k, images))(keys)
    return Draws(
        batches=orders.reshape(-1, size)[:steps],
        augment_keys=jax.random.split(named_key(key, "augment"), steps),
    )
