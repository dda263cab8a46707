"""The student's optimisation, unrolled so that gradients flow back through it."""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ddpp_jax._types import Losses, LossFn, Params, Scalar, ScalarLike


def unroll(
    loss_fn: LossFn, params: Params, xs: PyTree, *, lr: ScalarLike, remat: bool = True
) -> tuple[Params, Losses]:
    """The parameters after one step of plain SGD for each entry of `xs`, and the losses on the way.

    Lines 6 to 9 of Algorithm 1 of Li et al. (2024): params <- params - lr * grad loss_fn(params,
    x), by `lax.scan` over the leading axis of `xs`. The result is differentiable in `params`, in
    `lr` and in everything that `loss_fn` closes over, the distilled images among them.

    With `remat` each step is recomputed in the backward pass, so what is kept for it is the
    parameters at every step; activations are held for one step at a time, whatever the number of
    steps.

    Args:
        loss_fn: `loss_fn(params, x) -> scalar`, called with one entry of `xs`. Let `xs` hold
            indices and keys, and gather the images inside.
        params: the parameters to start from, any pytree.
        xs: a pytree whose leaves share a leading axis of length J, the number of steps.
        lr: the rate of the SGD steps (the paper's alpha), a scalar.
        remat: recompute activations instead of storing them.

    Returns:
        The parameters after J steps, in the structure and dtypes of `params`, and the loss before
        each step, shape (J,).
    """

    def step(carry: Params, x: PyTree) -> tuple[Params, Scalar]:
        loss, gradient = jax.value_and_grad(loss_fn)(carry, x)
        stepped = jax.tree.map(lambda p, g: p - jnp.asarray(lr, p.dtype) * g, carry, gradient)
        return stepped, loss

    body = jax.checkpoint(step, prevent_cse=False) if remat else step
    return lax.scan(body, jax.tree.map(jnp.asarray, params), xs)
