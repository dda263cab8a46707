"""The student's optimisation, unrolled so that gradients flow back through it."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree

from ddpp_jax._types import (
    BatchFn,
    Losses,
    LossFn,
    Optimizer,
    OptimizerFn,
    Params,
    Scalar,
    ScalarLike,
)
from ddpp_jax.core.closures import hoisted
from ddpp_jax.core.minibatches import Cut, as_cut, first_part, mean_over_cut


class _Student(NamedTuple):
    """What every step does. Pure functions take first what they would otherwise close over."""

    batch_fn: Callable[..., PyTree]
    loss_fn: Callable[..., Scalar]
    cut: Cut


class _Held(NamedTuple):
    """What the functions of a student close over, as arrays."""

    by_batch: list[Any]
    by_loss: list[Any]


def unroll(
    loss_fn: LossFn,
    params: Params,
    xs: PyTree,
    *,
    lr: ScalarLike,
    batch_fn: BatchFn | None = None,
    optimizer_fn: OptimizerFn | None = None,
    parts: int | Cut = 1,
    remat: bool = True,
) -> tuple[Params, Losses]:
    """The parameters after one step of SGD for each entry of `xs`, and the losses on the way.

    Lines 6 to 9 of Algorithm 1 of Li et al. (2024): params <- params - lr * grad loss_fn(params,
    x), by `lax.scan` over the leading axis of `xs`. The result is differentiable in `params`, in
    `lr`, in `xs` and in everything that `loss_fn` and `batch_fn` close over, the distilled images
    among them.

    With `remat` the parameters before every step are kept for the backward pass, whose derivative
    is written out. Let v be the cotangent of the parameters after a step, and s = v . grad loss_fn
    the slope of the loss along v. The cotangents of what went into the step are then v - lr *
    d/dparams s for the parameters, - lr * d/dx s for the data and - s for the rate: one
    Jacobian-vector product and its gradient. This is exact, takes 11 passes over the network per
    step where reverse over reverse mode takes 12, and holds the activations of one part of one step
    at a time. Reverse mode may be applied to it repeatedly. `loss_fn` must admit forward mode;
    forward mode over the whole needs `remat=False`.

    Args:
        loss_fn: `loss_fn(params, batch) -> scalar`, called with one entry of `xs`, or with what
            `batch_fn` makes of it.
        params: the parameters to start from, any pytree.
        xs: a pytree whose leaves share a leading axis of length J, the number of steps. Let them
            be indices and keys, and gather the images in `batch_fn`.
        lr: the rate of the SGD steps (the paper's alpha), a scalar.
        batch_fn: `batch_fn(x) -> batch`, the minibatch of a step, such as images that are gathered
            and augmented; None takes `x` itself.
        optimizer_fn: `optimizer_fn(lr)`, another optimiser in place of plain SGD, such as
            `lambda lr: optax.sgd(lr, momentum=0.9)`. It must be differentiable where gradients flow
            through its update. With `remat` each step is then checkpointed: the parameters and the
            optimiser's state before it are kept, and it takes 12 passes.
        parts: the number of equal microbatches that each minibatch is cut into along the first axis
            of all its leaves, where the loss is a mean over that axis. They are computed one after
            another, so that only one of them holds activations. Results differ by rounding. A `Cut`
            has shares of a minibatch too, which are computed side by side, such as by several
            devices.
        remat: False for plain autodiff, which stores the activations of all steps.

    Returns:
        The parameters after J steps, in the structure and dtypes of `params`, and the loss before
        each step, shape (J,).

    Raises:
        ValueError: a minibatch cannot be cut into that many equal parts.
        TypeError: from JAX, "can't apply forward-mode" to a `custom_vjp` function: forward mode was
            applied to the whole, or `remat` applied it to a `loss_fn` with such a function in it.
            Use `remat=False`.
    """
    start = jax.tree.map(jnp.asarray, params)
    rate = jnp.asarray(lr)
    rate = rate if _is_float(rate) else rate.astype(float)
    student = _Student(batch_fn or (lambda x: x), loss_fn, as_cut(parts))
    if optimizer_fn is not None:
        optimizer = optimizer_fn(rate.astype(_rate_dtype(start)))
        return _by_optimizer(student, optimizer, start, xs, remat=remat)
    if remat:
        return _by_hand(student, start, rate, xs)
    return lax.scan(partial(_sgd_step, student, rate), start, xs)


def value_and_gradient(
    loss_fn: LossFn, params: Params, batch: PyTree, *, parts: int | Cut = 1
) -> tuple[Scalar, Params]:
    """The loss of a minibatch and its gradient in the parameters, one part after another.

    Args:
        loss_fn: `loss_fn(params, batch) -> scalar`, a mean over the first axis of the batch.
        params: any pytree.
        batch: a pytree whose leaves share their first axis where `parts` is more than 1.
        parts: the number of equal parts that the batch is cut into, or how it is cut.

    Raises:
        ValueError: the batch cannot be cut into that many equal parts.
    """
    return mean_over_cut(_gradient_fn(loss_fn, params), batch, as_cut(parts))[0]


def _gradient_fn(loss_fn: LossFn, params: Params) -> Callable[[PyTree], Any]:
    return lambda batch: (jax.value_and_grad(loss_fn)(params, batch), None)


@jax.named_scope("student_step")
def _sgd_step(student: _Student, rate: Scalar, params: Params, x: PyTree) -> tuple[Params, Scalar]:
    """The parameters after a step, and the loss before it."""
    loss, gradient = value_and_gradient(
        student.loss_fn, params, student.batch_fn(x), parts=student.cut
    )
    return jax.tree.map(lambda p, g: p - rate.astype(p.dtype) * g, params, gradient), loss


def _by_optimizer(
    student: _Student, optimizer: Optimizer, start: Params, xs: PyTree, *, remat: bool
) -> tuple[Params, Losses]:
    """Steps of any optimiser, with plain autodiff, checkpointed with `remat`."""
    checkpoint = jax.checkpoint if remat else lambda fn, **_: fn

    @jax.named_scope("student_step")
    def step(carry: tuple[Params, Any], x: PyTree) -> tuple[tuple[Params, Any], Scalar]:
        params, state = carry
        gradient_fn = _gradient_fn(student.loss_fn, params)
        if student.cut.parts > 1:  # The backward pass, too, holds one part at a time.
            gradient_fn = checkpoint(gradient_fn)
        batch = student.batch_fn(x)
        (loss, gradient), _ = mean_over_cut(gradient_fn, batch, student.cut)
        updates, state = optimizer.update(gradient, state, params)
        stepped = jax.tree.map(lambda p, u: p + u.astype(p.dtype), params, updates)
        return (stepped, state), loss

    carry = (start, optimizer.init(start))
    (ended, _), losses = lax.scan(checkpoint(step, prevent_cse=False), carry, xs)
    return ended, losses


def _by_hand(student: _Student, start: Params, rate: Scalar, xs: PyTree) -> tuple[Params, Losses]:
    """Steps of plain SGD, with the derivative of `_backward`."""
    pure, held = _pure(student, start, xs)

    def forward(start: Params, rate: Scalar, held: _Held, xs: PyTree) -> tuple[Any, Any]:
        batch_fn = partial(pure.batch_fn, held.by_batch)
        loss_fn = partial(pure.loss_fn, held.by_loss)

        def step(params: Params, x: PyTree) -> tuple[Params, tuple[Scalar, Params]]:
            stepped, loss = _sgd_step(_Student(batch_fn, loss_fn, pure.cut), rate, params, x)
            return stepped, (loss, params)

        ended, (losses, before) = lax.scan(step, start, xs)
        return (ended, losses), (before, rate, held, xs)

    @jax.custom_vjp
    def run(start: Params, rate: Scalar, held: _Held, xs: PyTree) -> tuple[Params, Losses]:
        return forward(start, rate, held, xs)[0]

    run.defvjp(forward, partial(_backward, pure))
    return run(start, rate, held, xs)


def _backward(
    student: _Student, saved: Any, cotangents: tuple[Params, Losses]
) -> tuple[Params, Scalar, _Held, PyTree]:
    """Cotangents of start, rate, what the functions hold, and xs, from the last step to the first.

    Each has None in place of a leaf that is not floating-point.
    """
    params_before, rate, held, xs = saved
    ended_bar, losses_bar = cotangents

    @jax.named_scope("student_step_back")
    def back(carry: Any, step: Any) -> tuple[Any, PyTree]:
        along, rate_bar, held_bar = carry
        params, x, loss_bar = step

        def batch_of(floats: PyTree) -> tuple[PyTree, PyTree]:
            batch = student.batch_fn(*_joined(floats, (held.by_batch, x)))
            return _floats(batch), batch

        def slope_of(
            by_loss: PyTree, params: Params, floats: PyTree, part: PyTree
        ) -> tuple[Scalar, Scalar]:
            loss_fn = partial(student.loss_fn, _joined(by_loss, held.by_loss))
            part = _joined(floats, part)
            loss, slope = jax.jvp(lambda params: loss_fn(params, part), (params,), (along,))
            return loss_bar * loss - rate.astype(slope.dtype) * slope, slope

        def of_part(part: PyTree) -> tuple[Any, PyTree]:
            bars_fn = jax.value_and_grad(slope_of, (0, 1, 2), has_aux=True)
            (_, slope), bars = bars_fn(_floats(held.by_loss), params, _floats(part), part)
            return (slope, *bars[:2]), bars[2]

        _, pull, batch = jax.vjp(batch_of, _floats((held.by_batch, x)), has_aux=True)
        (slope, by_loss, params_bar), batch_bar = mean_over_cut(of_part, batch, student.cut)
        by_batch, x_bar = pull(batch_bar)[0]
        held_bar = jax.tree.map(jnp.add, held_bar, _Held(by_batch, by_loss))
        before = jax.tree.map(jnp.add, along, params_bar)
        return (before, rate_bar - slope.astype(rate.dtype), held_bar), x_bar

    carry = (ended_bar, *jax.tree.map(jnp.zeros_like, (rate, _floats(held))))
    each = (params_before, xs, losses_bar)
    (start_bar, rate_bar, held_bar), xs_bar = lax.scan(back, carry, each, reverse=True)
    return start_bar, rate_bar, held_bar, xs_bar


def _pure(student: _Student, params: Params, xs: PyTree) -> tuple[_Student, _Held]:
    """The student with pure functions, and what they take first."""
    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], leaf.dtype), xs)
    batch_fn, by_batch = hoisted(student.batch_fn, x)
    part = jax.eval_shape(lambda x: first_part(batch_fn(by_batch, x), student.cut), x)
    loss_fn, by_loss = hoisted(student.loss_fn, params, part)
    return _Student(batch_fn, loss_fn, student.cut), _Held(by_batch, by_loss)


def _rate_dtype(params: Params) -> Any:
    """The dtype of a rate that multiplies gradients of such parameters, float32 or wider."""
    bits = max(jnp.finfo(leaf.dtype).bits for leaf in jax.tree.leaves(params))
    return jnp.float64 if bits > 32 else jnp.float32


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _floats(tree: PyTree) -> PyTree:
    """The tree with None in place of leaves that are not floating-point."""
    return jax.tree.map(lambda leaf: leaf if _is_float(leaf) else None, tree)


def _joined(floats: PyTree, tree: PyTree) -> PyTree:
    """The tree with other floating-point leaves."""
    return jax.tree.map(
        lambda new, leaf: leaf if new is None else new, floats, tree, is_leaf=lambda x: x is None
    )
