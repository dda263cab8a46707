"""The random choices of a distillation step."""

import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Int

from ddpp_jax._types import PRNGKey
from ddpp_jax.configs import DistillConfig
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


def draw_start(key: PRNGKey, *, num_teachers: int, config: DistillConfig) -> Start:
    """The teacher and the start epoch of a distillation step, each with equal chances.

    Args:
        key: this step's own.
        num_teachers: how many there are to choose from.
        config: the number of epochs to choose from (I+).
    """
    whole = jnp.int32  # Whatever JAX's default is: draws of another width are other draws.
    return Start(
        teacher=jax.random.randint(named_key(key, "teacher"), (), 0, num_teachers, whole),
        epoch=jax.random.randint(named_key(key, "epoch"), (), 0, config.max_start_epoch, whole),
    )


def draw(key: PRNGKey, *, num_images: int, config: DistillConfig) -> Draws:
    """The minibatches and the augmentation of a student's training.

    Minibatches come from random permutations of the distilled set, each used up before the next;
    where one minibatch holds the whole set it is taken in order.

    Args:
        key: this step's own.
        num_images: the size of the distilled set.
        config: the number of student steps, and the size of a minibatch.
    """
    steps, size = config.student_steps, config.student_batch or num_images
    passes = math.ceil(steps * size / num_images)
    keys = jax.random.split(named_key(key, "batches"), passes)
    if size == num_images:
        orders = jnp.tile(jnp.arange(num_images), (passes, 1))
    else:
        orders = jax.vmap(lambda k: jax.random.permutation(k, num_images))(keys)
    return Draws(
        batches=orders.reshape(-1, size)[:steps],
        augment_keys=jax.random.split(named_key(key, "augment"), steps),
    )
