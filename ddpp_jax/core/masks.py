"""Masks: which parameters are matched and which are pruned."""

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Bool, Float

from ddpp_jax._types import FloatArray, Mask, Params, PRNGKey, Scalar, ScalarLike, Weights


def prune_mask(
    student: Params, target: Params, *, threshold: ScalarLike, signed: bool = True
) -> Mask:
    """True where a parameter is kept, False where it is difficult to match and pruned.

    Equations 5 to 7 of Li et al. (2024): a parameter is pruned when student/target or
    target/student is below the threshold. A threshold of 0 prunes nothing, whatever the signs. Any
    other has these consequences:

    - parameters of opposite signs are pruned, since their ratio is negative, unless the ratio is
      to be taken without its sign;
    - a zero against a non-zero is pruned, two zeros are kept (their ratio counts as 1);
    - subnormal numbers count as zero.

    A parameter that is infinite or NaN on either side is kept, so that a diverged student shows in
    the loss instead of hiding behind the mask. The smaller magnitude is divided by the larger one,
    so nothing overflows and no NaN arises at any finite input.

    The mask is a constant to differentiation. Works leaf by leaf on arrays, vectors and pytrees,
    under `jit`, `vmap` and `grad`.

    Args:
        student: parameters after the student's steps.
        target: the teacher's parameters, in the same structure and shapes.
        threshold: the smallest ratio that is kept (the paper's epsilon, 0.1), dimensionless, from
            0 (prunes nothing) to 1. It may be traced, and is then not checked.
        signed: the ratio has a sign, as in the paper; False compares magnitudes alone.

    Returns:
        Booleans in the structure and shapes of `student`.

    Raises:
        ValueError: the structures or shapes differ, or a threshold whose value is known while
            tracing is outside [0, 1].
    """
    if not isinstance(threshold, Tracer) and not 0 <= float(threshold) <= 1:
        raise ValueError(
            f"threshold is {float(threshold):g}, wanted a ratio from 0 (prunes nothing) to 1"
        )
    with jax.named_scope("mask"):
        return jax.tree.map(lambda s, t: _keep(s, t, threshold, signed=signed), student, target)


def ratio_order(student: Params, target: Params, *, signed: bool = True) -> Params:
    """Numbers in the order of the smaller of student/target and target/student, from -2 to 1.

    What `prune_mask` compares with its threshold, as a number to rank parameters by: the ratio
    itself where both have one sign, and below all of these where they have not. A zero against
    another number counts as 0, two zeros as 1, and so does what is infinite or NaN on either side.

    Args:
        student: parameters after the student's steps.
        target: the teacher's parameters, in the same structure and shapes.
        signed: False ranks by the ratio of the magnitudes alone.

    Raises:
        ValueError: the structures or shapes differ.
    """

    def order(s: FloatArray, t: FloatArray) -> FloatArray:
        ratio, opposite, same = _ratio(s, t)
        # A zero against another number has the ratio 0, whichever sign it is written with.
        below = jnp.where(opposite & (ratio > 0), ratio - 2, ratio) if signed else ratio
        return jnp.where(same, 1, below)

    return jax.tree.map(order, student, target)


def ranked_mask(order: Params, *, kept: ScalarLike) -> Mask:
    """True for the share of entries whose numbers are largest, False for the rest.

    The ranking is over the whole tree; of equal numbers the earlier entries are kept. It is a
    constant to differentiation.

    Args:
        order: a number for each parameter.
        kept: the share that is kept, from 0 to 1; that of another mask by `kept_fraction`.
    """
    with jax.numpy_dtype_promotion("standard"):  # Leaves may differ in their dtype.
        flat, _ = ravel_pytree(lax.stop_gradient(jax.tree.map(jnp.negative, order)))
    _, unflatten = ravel_pytree(jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, bool), order))
    ranks = jnp.argsort(jnp.argsort(flat))
    return unflatten(ranks < jnp.round(kept * flat.size).astype(ranks.dtype))


def difference_mask(student: Params, target: Params, *, kept: ScalarLike) -> Mask:
    """True for the share of parameters that differ least, False for the rest.

    Pruning by difference in place of ratio, for comparison with `prune_mask`: it does not ask how
    large the parameters are themselves. The ranking is over the whole tree, earlier entries first
    where differences are equal. Mapped over the leaves, it prunes the same share of each.

    Args:
        student: parameters after the student's steps.
        target: the teacher's parameters, in the same structure and shapes.
        kept: the share that is kept, from 0 to 1; that of another mask by `kept_fraction`.

    Raises:
        ValueError: the structures or shapes differ.
    """
    differences = jax.tree.map(_difference, student, target)
    return ranked_mask(jax.tree.map(jnp.negative, differences), kept=kept)


def random_mask(key: PRNGKey, mask: Mask) -> Mask:
    """As many True entries as another mask has, at places drawn at random.

    The control of any claim that it matters which parameters are pruned. The draw is over the whole
    tree, so the shares of single tensors differ from those of the other mask.

    Args:
        key: decides the places.
        mask: booleans of any structure.
    """
    flat, unflatten = ravel_pytree(mask)
    return unflatten(jax.random.permutation(key, flat))


def kept_fraction(mask: Mask | Weights) -> Scalar:
    """The share of True entries in a mask, from 0 (all pruned) to 1 (nothing pruned), in float32.

    Of weights it is their mean.

    Where it is 0, `trajectory_loss` has nothing left to match and returns its documented constant.

    Args:
        mask: booleans of any structure, as `prune_mask` returns them, or weights from 0 to 1.

    Raises:
        ValueError: the mask has no entries.
    """
    leaves = jax.tree.leaves(mask)
    total = sum(np.size(leaf) for leaf in leaves)
    if total == 0:
        raise ValueError("the mask has no entries; pass what prune_mask gives for real parameters")
    kept = jnp.stack([jnp.sum(leaf, dtype=jnp.float32) for leaf in leaves])
    return jnp.sum(kept) / total


def _difference(student: FloatArray, target: FloatArray) -> Float[Array, "..."]:
    _require_one_shape(student, target)
    return jnp.abs(jnp.subtract(student, target))


def _require_one_shape(student: FloatArray, target: FloatArray) -> None:
    if np.shape(student) != np.shape(target):
        raise ValueError(
            f"student and target differ in shape: {np.shape(student)} against {np.shape(target)}"
        )


def _keep(
    student: FloatArray, target: FloatArray, threshold: ScalarLike, *, signed: bool
) -> Bool[Array, "..."]:
    ratio, opposite, same = _ratio(student, target)
    pruned = ratio < jnp.asarray(threshold, ratio.dtype)
    # A zero against another number has the ratio 0, which no threshold above 0 lets pass.
    pruned = pruned | opposite if signed else pruned
    return ~pruned | same | (jnp.asarray(threshold) == 0)


def _ratio(
    student: FloatArray, target: FloatArray
) -> tuple[Float[Array, "..."], Bool[Array, "..."], Bool[Array, "..."]]:
    """The smaller magnitude over the larger, whether the signs differ, and what counts as equal."""
    _require_one_shape(student, target)
    dtype = jnp.promote_types(jnp.result_type(student), jnp.result_type(target))
    s, t = (lax.stop_gradient(jnp.asarray(value, dtype)) for value in (student, target))
    smaller = jnp.minimum(jnp.abs(s), jnp.abs(t))
    larger = jnp.maximum(jnp.abs(s), jnp.abs(t))
    tiny = jnp.finfo(dtype).tiny
    ratio = jnp.where(smaller < tiny, 0, smaller) / jnp.where(larger < tiny, 1, larger)
    finite = jnp.isfinite(s) & jnp.isfinite(t)
    return ratio, jnp.signbit(s) != jnp.signbit(t), (larger < tiny) | ~finite
