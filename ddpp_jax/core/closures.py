"""Functions that are given what they would otherwise close over."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.extend.core import ClosedJaxpr, jaxpr_as_fun
from jaxtyping import PyTree


def hoisted(
    fn: Callable[..., PyTree], *arguments: PyTree
) -> tuple[Callable[..., PyTree], list[Any]]:
    """A function that takes first, as a list, what `fn` closes over; and that list.

    Unlike `jax.closure_convert` it hoists whole numbers too, so that they may be mapped over, and
    it keeps nothing alive.

    Args:
        fn: of arrays.
        arguments: of it, or their shapes and dtypes as `jax.ShapeDtypeStruct`.
    """
    closed, shape = jax.make_jaxpr(fn, return_shape=True)(*arguments)
    structure = jax.tree.structure(shape)

    def converted(held: list[Any], *arguments: PyTree) -> PyTree:
        leaves = jaxpr_as_fun(ClosedJaxpr(closed.jaxpr, held))(*jax.tree.leaves(arguments))
        return jax.tree.unflatten(structure, leaves)

    return converted, [jnp.asarray(const) for const in closed.consts]
