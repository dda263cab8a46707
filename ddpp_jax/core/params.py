"""Parameters as one flat vector, and back."""

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree
from jaxtyping import PyTree

from ddpp_jax._types import Params, Vector


def flatten_params(params: PyTree) -> tuple[Vector, Callable[[Vector], Params]]:
    """All parameters as one vector, and the function that rebuilds the pytree from it.

    Equations 3 and 4 of Li et al. (2024). Leaves follow one another in the order of
    `jax.tree.leaves`, each in C order. The way back is exact in structure, shape and dtype. Leaves
    of different floating dtypes share the dtype that holds them all (bfloat16 beside float32 gives
    float32), which loses nothing in either direction.

    Args:
        params: a pytree of floating-point arrays of any shapes.

    Returns:
        The vector of all entries, and `unflatten(vector) -> params`, which is differentiable and
        may be traced. `unflatten` raises a TypeError for another length or dtype.

    Raises:
        TypeError: a leaf is not floating-point, so that a vector could not hold it exactly.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(params):
        if not jnp.issubdtype(jnp.result_type(leaf), jnp.floating):
            raise TypeError(
                f"params{jax.tree_util.keystr(path)} is {jnp.result_type(leaf)}; parameters must "
                "be floating-point arrays: leave counters and flags out of the tree"
            )
    with jax.numpy_dtype_promotion("standard"):  # Leaves may differ in their dtype.
        vector, unravel = ravel_pytree(params)
    shape, dtype = vector.shape, vector.dtype

    def unflatten(vector: Vector) -> Params:
        if vector.shape != shape or vector.dtype != dtype:
            raise TypeError(
                f"the vector is {vector.dtype}{vector.shape}, but these parameters make "
                f"{dtype}{shape}"
            )
        return unravel(vector)

    return vector, unflatten
