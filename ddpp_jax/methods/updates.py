"""What trajectory matching trains, and a step of its optimiser."""

from typing import NamedTuple, cast

import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from ddpp_jax._types import Images, OptState, ScalarLike, Targets
from ddpp_jax.methods.matching import Variables

LEAST_SHARE_OF_ALPHA = 0.5
"""What at least remains of alpha after a step, so that it stays above 0."""

LEAST_ALPHA = 1e-8
"""Where that ends."""


class State(NamedTuple):
    """What the next step needs.

    Attributes:
        variables: images, alpha, and the weights of a learned mask.
        labels: a class for each image, or its probabilities; they stay as they are.
        opt_state: of the variables' optimiser.
        logits: whose softmax are the labels, where they are learned; None where they are not.
        label_state: of the logits' optimiser.
        average: running mean of the images, which is the set then; None where there is none.
    """

    variables: Variables
    labels: Targets
    opt_state: OptState
    logits: Float[Array, "images classes"] | None = None
    label_state: OptState | None = None
    average: Images | None = None


class HParams(NamedTuple):
    """What may differ between distillations in one program.

    Attributes:
        threshold: the pruning ratio, or the share that is pruned; 0 prunes nothing.
        pixel_rate: learning rate of the pixels.
        alpha_rate: learning rate of alpha.
        mask: the place of the mask among those that distillations may choose from.
        weight_rate: learning rate of the parameters' weights; 0 leaves all at 1.
        label_rate: learning rate of the labels' logits.
        skip_above: a step whose loss is above this is passed over, and changes nothing.
        average: what a running mean of the images keeps of itself in a step.
    """

    threshold: ScalarLike
    pixel_rate: ScalarLike
    alpha_rate: ScalarLike
    mask: ScalarLike = 0.0
    weight_rate: ScalarLike = 0.0
    label_rate: ScalarLike = 0.0
    skip_above: ScalarLike = jnp.inf
    average: ScalarLike = 0.0


def update(
    state: State,
    gradient: Variables,
    hparams: HParams,
    *,
    optimizer: optax.GradientTransformation,
    relative_alpha: bool = False,
) -> tuple[State, Bool[Array, ""]]:
    """The state after a step of the optimiser on pixels and alpha, and whether alpha was held.

    Alpha keeps at least `LEAST_SHARE_OF_ALPHA` of itself, and never falls below `LEAST_ALPHA`. The
    weights, where there are any, stay within 0 and 1.

    Args:
        state: before the step.
        gradient: of the loss in the pixels and in alpha.
        hparams: the rates of both.
        optimizer: of both, without their rates.
        relative_alpha: whether it is the logarithm of alpha that is trained.
    """
    before = state.variables
    if relative_alpha:
        gradient = gradient._replace(alpha=gradient.alpha * before.alpha)
    if gradient.weights is not None:
        # The loss is a mean over the parameters, of which each has so small a part.
        gradient = gradient._replace(weights=gradient.weights * gradient.weights.size)
    velocity, opt_state = optimizer.update(cast(optax.Updates, gradient), state.opt_state)
    velocity = cast(Variables, velocity)
    images = before.images - hparams.pixel_rate * velocity.images
    if relative_alpha:
        alpha = before.alpha * jnp.exp(-hparams.alpha_rate * velocity.alpha)
    else:
        alpha = before.alpha - hparams.alpha_rate * velocity.alpha
    least = jnp.maximum(LEAST_SHARE_OF_ALPHA * before.alpha, LEAST_ALPHA)
    held, weights = alpha < least, before.weights
    if weights is not None and velocity.weights is not None:
        weights = jnp.clip(weights - hparams.weight_rate * velocity.weights, 0, 1)
    variables = Variables(images, jnp.where(held, least, alpha), weights)
    return state._replace(variables=variables, opt_state=opt_state), held
