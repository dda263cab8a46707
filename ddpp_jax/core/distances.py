"""The normalised matching loss between a student and a teacher's trajectory."""

import functools
import operator

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from ddpp_jax._types import BoolArray, FloatArray, Mask, Params, Scalar, Weights


def trajectory_loss(
    student: Params, target: Params, start: Params, *, mask: Mask | Weights | None = None
) -> Scalar:
    """The squared distance from student to target over that from start to target, on kept entries.

    Equation 8 of Li et al. (2024): |student - target|^2 / |start - target|^2 over the entries where
    the mask is True. Without a mask it is the loss of plain trajectory matching (MTT, Cazenavette
    et al., CVPR 2022). It is dimensionless: 1 for a student still at the start, 0 at the target.

    Where start equals target on everything that is kept (differences below the smallest normal
    number count as none), or nothing is kept, there is no distance to normalise by. The loss is
    then the constant 1 with zero gradient: the value of a student that made no progress, so that
    such a step can never pass for a good match in an average. `kept_fraction(mask)` tells whether
    anything was kept. A student that is infinite or NaN on a kept entry gives an infinite or NaN
    loss.

    Differences are divided by the largest one between start and target before they are squared,
    which changes nothing but keeps the squares from overflowing or vanishing.

    Args:
        student: parameters after the student's steps.
        target: the teacher's parameters some epochs after `start`.
        start: the parameters from which student and teacher set out.
        mask: True where an entry counts, in the structure of the parameters; or a weight for each,
            from 0 to 1, by which its differences are multiplied. None counts all.

    Returns:
        The loss, in the parameters' dtype. Differentiable in `student`, `target`, `start` and the
        weights.

    Raises:
        ValueError: the structures or shapes differ, or there are no parameters.
    """
    with jax.named_scope("loss"):
        return _normalised(_differences(student, target, mask), _differences(start, target, mask))


def _normalised(
    to_target: list[Float[Array, "..."]], from_start: list[Float[Array, "..."]]
) -> Scalar:
    scale = functools.reduce(jnp.maximum, [jnp.max(jnp.abs(d), initial=0) for d in from_start])
    scale = lax.stop_gradient(scale)
    flat = scale < jnp.finfo(scale.dtype).tiny
    unit = jnp.where(flat, 1, scale)
    numerator, denominator = (
        functools.reduce(operator.add, [jnp.sum(jnp.square(d / unit)) for d in differences])
        for differences in (to_target, from_start)
    )
    degenerate = flat & jnp.isfinite(numerator)
    return jnp.where(degenerate, 1, numerator / jnp.where(flat, 1, denominator))


def _differences(a: Params, b: Params, mask: Mask | Weights | None) -> list[Float[Array, "..."]]:
    trees = (a, b) if mask is None else (a, b, mask)
    differences = jax.tree.leaves(jax.tree.map(_difference, *trees))
    if not differences:
        raise ValueError("there are no parameters to compare; pass at least one array")
    with jax.numpy_dtype_promotion("standard"):  # Leaves may differ in their dtype.
        dtype = jnp.result_type(*differences)
    return [difference.astype(dtype) for difference in differences]


def _difference(
    a: FloatArray, b: FloatArray, kept: BoolArray | FloatArray | None = None
) -> Float[Array, "..."]:
    shapes = {jnp.shape(a), jnp.shape(b)} | (set() if kept is None else {jnp.shape(kept)})
    if len(shapes) > 1:
        raise ValueError(f"parameters and mask differ in shape: {sorted(shapes)}")
    difference = jnp.subtract(a, b)
    if kept is None:
        return difference
    if kept.dtype == bool:
        return jnp.where(kept, difference, 0)
    # What counts for nothing may be infinite, as under a mask of booleans.
    return jnp.where(kept == 0, 0, jnp.where(kept == 0, 0, difference) * kept)
