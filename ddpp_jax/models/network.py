"""A model seen as the stages see it: pure functions of its parameters."""

from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddpp_jax._types import Images, Logits, Params, PRNGKey, Vector
from ddpp_jax.vector import flatten_params


class Network(NamedTuple):
    """Pure functions of parameters, made from a Linen model.

    Training runs on the parameter tree, which spares every step the slicing of a vector;
    trajectories are kept, and compared, as vectors.

    Attributes:
        init_fn: `init_fn(key) -> params`, freshly initialised.
        apply_fn: `apply_fn(params, images) -> logits`.
        features_fn: `features_fn(params, images)`, a row for each image: what the linear layer
            before the logits takes.
        unflatten: `unflatten(vector) -> params`, from a flat vector.
        num_params: that vector's length.
        names: each tensor's path in the tree, such as `Conv3x3_0/kernel`, in the vector's order.
    """

    init_fn: Callable[[PRNGKey], Params]
    apply_fn: Callable[[Params, Images], Logits]
    features_fn: Callable[[Params, Images], Float[Array, "images _features"]]
    unflatten: Callable[[Vector], Params]
    num_params: int
    names: tuple[str, ...]


def make_network(model: nn.Module, image_shape: Sequence[int]) -> Network:
    """The network of a Linen model that has parameters only and takes images of one shape.

    Args:
        model: a Linen module from images (images, height, width, channels) to logits, or with
            `head=False` to features.
        image_shape: (height, width, channels).

    Raises:
        InputError: the model cannot take such images.
    """
    example = jnp.zeros((1, *image_shape), jnp.float32)
    params = jax.eval_shape(model.init, jax.random.key(0), example)["params"]
    unflattens = []

    def flatten(tree: Params) -> Vector:
        vector, unflatten = flatten_params(tree)
        unflattens.append(unflatten)
        return vector

    # By shapes alone: a network too large for memory can still be described.
    vector = jax.eval_shape(flatten, params)

    def init_fn(key: PRNGKey) -> Params:
        return model.init(key, example)["params"]

    def apply_fn(params: Params, images: Images) -> Logits:
        logits = model.apply({"params": params}, images)
        return cast(Logits, logits)

    def features_fn(params: Params, images: Images) -> Float[Array, "images _features"]:
        features = model.apply({"params": params}, images, head=False)
        return cast(Array, features)

    names = tuple(
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    )
    return Network(init_fn, apply_fn, features_fn, unflattens[0], vector.size, names)
