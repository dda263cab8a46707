"""Steps towards flat minima: SAM, and GSAM, by which FTD and DATM train their teachers."""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ddpp_jax._types import Params, Scalar

_OFF_ZERO = 1e-12


class Sharpness(NamedTuple):
    """How far a step looks for a sharper point, and what it makes of the gradient there.

    Attributes:
        rho: how far.
        alpha: GSAM: how much of the first gradient's part across the second is taken away; 0 is
            SAM (Foret et al., ICLR 2021).
        adaptive: measured in units of each parameter (ASAM, Kwon et al., ICML 2021).
    """

    rho: float
    alpha: float = 0.0
    adaptive: bool = True


def flat_direction(
    gradient_fn: Callable[[Params], tuple[Scalar, Params]], params: Params, sharpness: Sharpness
) -> tuple[Scalar, Params]:
    """The loss of a minibatch, and the direction that GSAM descends in place of its gradient.

    Zhuang et al., ICLR 2022: with g the gradient at w, e = rho w^2 g / |w g| (adaptive) or rho g /
    |g|, and g' the gradient at w + e on the same minibatch, the direction is g' less alpha times
    the part of g that is orthogonal to g'. It takes two gradients.

    Args:
        gradient_fn: `gradient_fn(params) -> (loss, gradient)`, of one minibatch.
        params: at which the step is made.
        sharpness: how far, and how much.
    """
    loss, gradient = gradient_fn(params)
    if sharpness.adaptive:
        uphill = jax.tree.map(lambda w, g: w * w * g, params, gradient)
        size = length(jax.tree.map(lambda w, g: w * g, params, gradient))
    else:
        uphill, size = gradient, length(gradient)
    scale = sharpness.rho / (size + _OFF_ZERO)
    _, above = gradient_fn(jax.tree.map(lambda w, u: w + scale * u, params, uphill))
    if sharpness.alpha == 0:
        return loss, above
    own, theirs = length(gradient), length(above)
    cosine = _inner(gradient, above) / (own * theirs + _OFF_ZERO)
    along = cosine * own / (theirs + _OFF_ZERO)
    return loss, jax.tree.map(
        lambda g, other: other - sharpness.alpha * (g - along * other), gradient, above
    )


def _inner(first: Params, second: Params) -> Scalar:
    products = jax.tree.map(lambda a, b: (a * b).sum(), first, second)
    return jnp.stack(jax.tree.leaves(products)).sum()


def length(tree: Params) -> Scalar:
    """The Euclidean length of all entries of a tree together."""
    return jnp.sqrt(_inner(tree, tree))
