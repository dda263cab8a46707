"""What methods that train pixels alone have in common: labels and the learning rate stay."""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax.numpy as jnp
import optax

from ddpp_jax._types import Images, OptState, PRNGKey, Scalar, ScalarLike, Targets
from ddpp_jax.methods.method import on_device
from ddpp_jax.sets import DistilledSet


class PixelState(NamedTuple):
    """What the next step needs; the labels and the learning rate stay as they are."""

    images: Images
    labels: Targets
    alpha: Scalar
    opt_state: OptState


class PixelHParams(NamedTuple):
    """What may differ between distillations in one program: the learning rate of the pixels."""

    pixel_rate: ScalarLike


def begin(
    optimizer: optax.GradientTransformation,
) -> Callable[[PRNGKey, DistilledSet], PixelState]:
    """`init` of a method whose optimiser trains the pixels."""

    def init(key: PRNGKey, start: DistilledSet) -> PixelState:
        del key  # The images to start from are drawn already.
        images = jnp.asarray(start.images)
        alpha = jnp.asarray(start.alpha, images.dtype)
        return PixelState(images, jnp.asarray(start.labels), alpha, optimizer.init(images))

    return init


def descend(
    state: PixelState,
    gradient: Images,
    rate: ScalarLike,
    optimizer: optax.GradientTransformation,
) -> PixelState:
    """The state after a step of the optimiser.

    Args:
        state: before the step.
        gradient: of the loss in the pixels.
        rate: the learning rate.
        optimizer: without its rate.
    """
    velocity, opt_state = optimizer.update(gradient, state.opt_state)
    images = state.images - rate * cast(Images, velocity)
    return state._replace(images=images, opt_state=opt_state)


def distilled(state: PixelState) -> DistilledSet:
    """The set of a state."""
    return on_device(state.images, state.labels, state.alpha)
