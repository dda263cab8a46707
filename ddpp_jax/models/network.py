"""A model seen as the stages see it: functions of one flat parameter vector."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from ddpp_jax._types import Images, Logits, Params, PRNGKey, Vector
from ddpp_jax.vector import flatten_params


class Network(NamedTuple):
    """Pure functions of a flat vector, made from a Linen model.

    Attributes:
        init_fn: `init_fn(key) -> vector`, freshly initialised parameters.
        apply_fn: `apply_fn(vector, images) -> logits`.
        unflatten: `unflatten(vector) -> params`, the Linen tree.
        num_params: the vector's length.
        names: each tensor's path in the tree, such as `Conv3x3_0/kernel`, in the vector's order.
    """

    init_fn: Callable[[PRNGKey], Vector]
    apply_fn: Callable[[Vector, Images], Logits]
    unflatten: Callable[[Vector], Params]
    num_params: int
    names: tuple[str, ...]


def make_network(model: nn.Module, image_shape: Sequence[int]) -> Network:
    """The network of a Linen model that has parameters only and takes images of one shape.

    Args:
        model: a Linen module from images (images, height, width, channels) to logits.
        image_shape: (height, width, channels).

    Raises:
        InputError: the model cannot take such images.
    """
    example = jnp.zeros((1, *image_shape))
    params = jax.tree.map(
        lambda leaf: jnp.zeros(leaf.shape, leaf.dtype),
        jax.eval_shape(model.init, jax.random.key(0), example)["params"],
    )
    vector, unflatten = flatten_params(params)

    def init_fn(key: PRNGKey) -> Vector:
        return flatten_params(model.init(key, example)["params"])[0]

    def apply_fn(vector: Vector, images: Images) -> Logits:
        logits = model.apply({"params": unflatten(vector)}, images)
        return cast(Logits, logits)

    names = tuple(
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    )
    return Network(init_fn, apply_fn, unflatten, vector.size, names)
