"""The student's optimisation, unrolled so that gradients flow back through it."""

from collections.abc import Callable
from typing import Any, Protocol, TypeAlias, runtime_checkable

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jaxtyping import PyTree

from ddpp_jax._types import Losses, LossFn, Params, Scalar, ScalarLike

BatchFn: TypeAlias = Callable[[PyTree], PyTree]
_Leaves: TypeAlias = list[Any]


@runtime_checkable
class Optimizer(Protocol):
    """What an inner optimiser is: a pair of pure functions, as those of optax are."""

    @property
    def init(self) -> Callable[..., Any]:
        """`init(params) -> state`."""
        ...

    @property
    def update(self) -> Callable[..., Any]:
        """`update(gradient, state, params) -> (what is added to the parameters, state)`."""
        ...


def unroll(
    loss_fn: LossFn,
    params: Params,
    xs: PyTree,
    *,
    lr: ScalarLike,
    batch_fn: BatchFn | None = None,
    optimizer_fn: Callable[[Scalar], Optimizer] | None = None,
    parts: int = 1,
    remat: bool = True,
) -> tuple[Params, Losses]:
    """The parameters after one step of SGD for each entry of `xs`, and the losses on the way.

    Lines 6 to 9 of Algorithm 1 of Li et al. (2024): params <- params - lr * grad loss_fn(params,
    x), by `lax.scan` over the leading axis of `xs`. The result is differentiable in `params`, in
    `lr`, in `xs` and in everything that `loss_fn` and `batch_fn` close over, the distilled images
    among them.

    With `remat` what is kept for the backward pass is the parameters before every step, and its
    derivative is written out. Given the cotangent v of the parameters after a step, those of what
    went into it are v - lr * d/dparams s, - lr * d/dx s and - s for the rate, where s = v . grad
    loss_fn is the slope of the loss along v: one Jacobian-vector product and its gradient. This is
    exact, takes 11 passes over the network a step where reverse over reverse mode takes 12, and
    holds activations for one part of one step at a time. Reverse mode may be applied to it
    repeatedly; `loss_fn` must admit forward mode, and forward mode over the whole needs
    `remat=False`.

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
            through its update. With `remat` each step is then checkpointed: what is kept is the
            parameters and the optimiser's state before every step, at 12 passes a step.
        parts: into how many equal parts each minibatch is cut along the first axis of all its
            leaves, where the loss is a mean over that axis. They are gone through in turn, so that
            activations are held for one part alone; results differ by rounding.
        remat: as above; otherwise plain autodiff, which stores the activations of all steps.

    Returns:
        The parameters after J steps, in the structure and dtypes of `params`, and the loss before
        each step, shape (J,).

    Raises:
        ValueError: a minibatch cannot be cut into that many equal parts.
        TypeError: from JAX, "can't apply forward-mode" to a `custom_vjp` function: forward mode was
            asked for, of the whole or, by `remat`, of a `loss_fn` with such a function in it; use
            `remat=False`.
    """
    start = jax.tree.map(jnp.asarray, params)
    rate = jnp.asarray(lr)
    rate = rate if _is_float(rate) else rate.astype(float)
    make = (lambda x: x) if batch_fn is None else batch_fn
    if optimizer_fn is not None:
        optimizer = optimizer_fn(rate.astype(_rate_dtype(start)))
        return _by_optimizer(loss_fn, make, start, optimizer, xs, parts, remat=remat)
    if not remat:
        return _forward(loss_fn, make, start, rate, xs, parts, keep=False)[:2]

    x = jax.tree.map(lambda leaf: jax.ShapeDtypeStruct(jnp.shape(leaf)[1:], leaf.dtype), xs)
    make, made_of = _hoisted(make, x)
    part = jax.eval_shape(lambda x: _first_part(make(made_of, x), parts), x)
    loss, lost_of = _hoisted(loss_fn, start, part)
    held = (made_of, lost_of)

    @jax.custom_vjp
    def run(start: Params, rate: Scalar, held: Any, xs: PyTree) -> tuple[Params, Losses]:
        return forward(start, rate, held, xs)[0]

    def forward(start: Params, rate: Scalar, held: Any, xs: PyTree) -> tuple[Any, Any]:
        made_of, lost_of = held
        ended, losses, kept = _forward(
            lambda params, batch: loss(lost_of, params, batch),
            lambda x: make(made_of, x),
            start,
            rate,
            xs,
            parts,
            keep=True,
        )
        return (ended, losses), (kept, rate, held, xs)

    def backward(found: Any, cotangents: Any) -> Any:
        kept, rate, held, xs = found
        return _backward(loss, make, kept, rate, held, xs, *cotangents, parts=parts)

    run.defvjp(forward, backward)
    return run(start, rate, held, xs)


def value_and_gradient(
    loss_fn: LossFn, params: Params, batch: PyTree, *, parts: int = 1
) -> tuple[Scalar, Params]:
    """The loss of a minibatch and its gradient in the parameters, one part after another.

    Args:
        loss_fn: `loss_fn(params, batch) -> scalar`, a mean over the first axis of the batch.
        params: any pytree.
        batch: a pytree whose leaves share their first axis where `parts` is more than 1.
        parts: into how many equal parts it is cut.

    Raises:
        ValueError: the batch cannot be cut into that many equal parts.
    """

    def one(batch: PyTree) -> tuple[tuple[Scalar, Params], None]:
        return jax.value_and_grad(loss_fn)(params, batch), None

    return _mean_over_parts(one, batch, parts)[0]


def _by_optimizer(
    loss_fn: LossFn,
    batch_fn: BatchFn,
    start: Params,
    optimizer: Optimizer,
    xs: PyTree,
    parts: int,
    *,
    remat: bool,
) -> tuple[Params, Losses]:
    checkpoint = jax.checkpoint if remat else lambda fn, **_: fn

    def step(carry: tuple[Params, Any], x: PyTree) -> tuple[tuple[Params, Any], Scalar]:
        with jax.named_scope("student_step"):
            params, state = carry

            def one(batch: PyTree) -> tuple[tuple[Scalar, Params], None]:
                return jax.value_and_grad(loss_fn)(params, batch), None

            # A part at a time in the backward pass, too.
            part_fn = checkpoint(one) if parts > 1 else one
            (loss, gradient), _ = _mean_over_parts(part_fn, batch_fn(x), parts)
            updates, state = optimizer.update(gradient, state, params)
            stepped = jax.tree.map(lambda p, u: p + u.astype(p.dtype), params, updates)
            return (stepped, state), loss

    (ended, _), losses = lax.scan(
        checkpoint(step, prevent_cse=False), (start, optimizer.init(start)), xs
    )
    return ended, losses


def _forward(
    loss_fn: LossFn,
    batch_fn: BatchFn,
    start: Params,
    rate: Scalar,
    xs: PyTree,
    parts: int,
    *,
    keep: bool,
) -> tuple[Params, Losses, PyTree]:
    """The last parameters, all losses, and where they are to be kept those before every step."""

    def step(carry: Params, x: PyTree) -> tuple[Params, tuple[Scalar, Params | None]]:
        with jax.named_scope("student_step"):
            loss, gradient = value_and_gradient(loss_fn, carry, batch_fn(x), parts=parts)
            stepped = jax.tree.map(lambda p, g: p - rate.astype(p.dtype) * g, carry, gradient)
            return stepped, (loss, carry if keep else None)

    ended, (losses, kept) = lax.scan(step, start, xs)
    return ended, losses, kept


def _backward(
    loss_fn: Callable[..., Scalar],
    batch_fn: Callable[..., PyTree],
    kept: Params,
    rate: Scalar,
    held: tuple[_Leaves, _Leaves],
    xs: PyTree,
    ended_bar: Params,
    losses_bar: Losses,
    *,
    parts: int,
) -> tuple[Params, Scalar, tuple[_Leaves, _Leaves], PyTree]:
    """Cotangents of start, rate, what the functions hold, and xs, from the last step to the first.

    Each with None in place of a leaf that is not floating-point.
    """

    def back(carry: Any, step: Any) -> tuple[Any, _Leaves]:
        with jax.named_scope("student_step_back"):
            after, rate_bar, (made_bar, lost_bar) = carry
            params, x, loss_bar = step
            made_of, lost_of = held

            def made(floats: tuple[_Leaves, _Leaves]) -> tuple[_Leaves, Any]:
                batch = batch_fn(_joined(floats[0], made_of), _joined(floats[1], x))
                return _floats(batch), batch

            _, pull, batch = jax.vjp(made, (_floats(made_of), _floats(x)), has_aux=True)

            def one(batch: PyTree) -> tuple[Any, _Leaves]:
                def tilted(params: Params, held: _Leaves, floats: _Leaves) -> tuple[Scalar, Scalar]:
                    def of_params(params: Params) -> Scalar:
                        return loss_fn(_joined(held, lost_of), params, _joined(floats, batch))

                    loss, slope = jax.jvp(of_params, (params,), (after,))
                    return loss_bar * loss - rate.astype(slope.dtype) * slope, slope

                (_, slope), bars = jax.value_and_grad(tilted, (0, 1, 2), has_aux=True)(
                    params, _floats(lost_of), _floats(batch)
                )
                return (slope, *bars[:2]), bars[2]

            (slope, params_bar, lost_step), batch_bar = _mean_over_parts(one, batch, parts)
            made_step, x_bar = pull(batch_bar)[0]
            before = jax.tree.map(jnp.add, after, params_bar)
            held_bar = jax.tree.map(jnp.add, (made_bar, lost_bar), (made_step, lost_step))
            return (before, rate_bar - slope.astype(rate.dtype), held_bar), x_bar

    zeros = jax.tree.map(jnp.zeros_like, tuple(_floats(part) for part in held))
    carry = (ended_bar, jnp.zeros_like(rate), zeros)
    (start_bar, rate_bar, held_bar), xs_bar = lax.scan(
        back, carry, (kept, xs, losses_bar), reverse=True
    )
    made_of, lost_of = (_joined(bar, part, None) for bar, part in zip(held_bar, held, strict=True))
    return start_bar, rate_bar, (made_of, lost_of), _joined(xs_bar, xs, None)


def _mean_over_parts(
    fn: Callable[[PyTree], tuple[PyTree, _Leaves | None]], batch: PyTree, parts: int
) -> tuple[PyTree, _Leaves | None]:
    """What `fn` gives for the batch: a mean over its parts, and a share of it for each entry."""
    if parts == 1:
        return fn(batch)

    def add(total: PyTree, part: PyTree) -> tuple[PyTree, _Leaves | None]:
        mean, shares = fn(part)
        return jax.tree.map(jnp.add, total, mean), shares

    shape, _ = jax.eval_shape(lambda: fn(_first_part(batch, parts)))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    total, shares = lax.scan(add, zeros, _cut(batch, parts))
    mean = jax.tree.map(lambda leaf: leaf / parts, total)
    return mean, jax.tree.map(lambda s: s.reshape(-1, *s.shape[2:]) / parts, shares)


def _first_part(batch: PyTree, parts: int) -> PyTree:
    return batch if parts == 1 else jax.tree.map(lambda leaf: leaf[0], _cut(batch, parts))


def _cut(batch: PyTree, parts: int) -> PyTree:
    """The batch with a leading axis of equal parts, cut from the first axis of all leaves."""
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(batch)}
    if parts < 1 or len(sizes) != 1 or sizes == {0} or sizes.pop() % parts:
        shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]
        raise ValueError(f"a minibatch of leaves {shapes} cannot be cut into {parts} equal parts")
    return jax.tree.map(
        lambda leaf: leaf.reshape(parts, leaf.shape[0] // parts, *leaf.shape[1:]), batch
    )


def _hoisted(
    fn: Callable[..., PyTree], *arguments: PyTree
) -> tuple[Callable[..., PyTree], _Leaves]:
    """A function that takes first, as a list, what `fn` closes over; and that list."""
    closed, shape = jax.make_jaxpr(fn, return_shape=True)(*arguments)
    structure = jax.tree.structure(shape)

    def hoisted(held: _Leaves, *arguments: PyTree) -> PyTree:
        leaves = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, held))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(structure, leaves)

    return hoisted, [jnp.asarray(const) for const in closed.consts]


def _rate_dtype(params: Params) -> Any:
    """The dtype of a rate that multiplies gradients of such parameters, float32 or wider."""
    bits = max(jnp.finfo(leaf.dtype).bits for leaf in jax.tree.leaves(params))
    return jnp.float64 if bits > 32 else jnp.float32


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)


def _floats(tree: PyTree) -> _Leaves:
    """The floating-point leaves."""
    return [leaf for leaf in jax.tree.leaves(tree) if _is_float(leaf)]


_SAME = object()


def _joined(floats: _Leaves, tree: PyTree, other: Any = _SAME) -> PyTree:
    """The tree with other floating-point leaves, and maybe something in place of the rest."""
    new = iter(floats)
    leaves, structure = jax.tree.flatten(tree)
    return jax.tree.unflatten(
        structure,
        [next(new) if _is_float(leaf) else leaf if other is _SAME else other for leaf in leaves],
    )
