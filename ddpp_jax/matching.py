"""The normalised matching loss between a student and a teacher's trajectory."""

import functools
import operator

import jax
import jax.numpy as jnp

from ddpp_jax._types import BoolArray, FloatArray, Mask, Params, Scalar


def trajectory_loss(
    student: Params, target: Params, start: Params, *, mask: Mask | None = None
) -> Scalar:
    """The squared distance from student to target over that from start to target, on kept entries.

    Equation 8 of Li et al. (2024): |student - target|^2 / |start - target|^2 over the entries where
    the mask is True. Without a mask it is the loss of plain trajectory matching (MTT, Cazenavette
    et al., CVPR 2022). It is dimensionless: 1 for a student still at the start, 0 at the target.

    Where the denominator is zero in floating point (nothing is kept, or start equals target on all
    that is kept) there is no distance left to normalise by. The loss is then the constant 1 with
    zero
    gradient: the value of a student that made no progress, so that such a step can never pass for a
    good match in an average. `kept_fraction(mask)` tells the first case from a real loss. A student
    that is infinite or NaN on a kept entry gives an infinite or NaN loss.

    Args:
        student: parameters after the student's steps.
        target: the teacher's parameters some epochs after `start`.
        start: the parameters from which student and teacher set out.
        mask: True where an entry counts, in the structure of the parameters; None counts all.

    Returns:
        The loss, in the parameters' dtype. Differentiable in `student`, `target` and `start`.

    Raises:
        ValueError: the structures or shapes differ, or there are no parameters.
    """
    if mask is None:
        numerator = _squared_distance(student, target)
        denominator = _squared_distance(start, target)
    else:
        numerator = _squared_distance(student, target, mask)
        denominator = _squared_distance(start, target, mask)
    degenerate = denominator == 0
    return jnp.where(degenerate, 1, numerator / jnp.where(degenerate, 1, denominator))


def _squared_distance(a: Params, b: Params, mask: Mask | None = None) -> Scalar:
    if mask is None:
        parts = jax.tree.leaves(jax.tree.map(_squared, a, b))
    else:
        parts = jax.tree.leaves(jax.tree.map(_squared, a, b, mask))
    if not parts:
        raise ValueError("there are no parameters to compare; pass at least one array")
    return functools.reduce(operator.add, parts)


def _squared(a: FloatArray, b: FloatArray, kept: BoolArray | None = None) -> Scalar:
    shapes = {jnp.shape(a), jnp.shape(b)} | (set() if kept is None else {jnp.shape(kept)})
    if len(shapes) > 1:
        raise ValueError(f"parameters and mask differ in shape: {sorted(shapes)}")
    difference = jnp.subtract(a, b)
    if kept is not None:
        difference = jnp.where(kept, difference, 0)
    return jnp.sum(jnp.square(difference))
