"""A model seen as the stages see it: pure functions of its parameters."""

import contextlib
import sys
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float, PyTree

from ddpp_jax._types import Images, Logits, Params, Precision, PRNGKey, Vector
from ddpp_jax.core import flatten_params
from ddpp_jax.networks.convnet import BLOCKS
from ddpp_jax.networks.norms import STATISTICS, Statistics

_CACHE_BYTES = 2**20
"""What the second cache of a core holds nowadays, about."""


class Network(NamedTuple):
    """Pure functions of parameters, made from a Linen model.

    Training runs on the parameter tree, which spares every step the slicing of a vector;
    trajectories are kept, and compared, as vectors.

    Attributes:
        init_fn: `init_fn(key) -> params`, freshly initialised.
        apply_fn: `apply_fn(params, images) -> logits`.
        features_fn: `features_fn(params, images)`, a row for each image: what the linear layer
            before the logits takes.
        blocks_fn: `blocks_fn(params, images)`, for a ConvNet: what the ReLU of each block gives, in
            order, and last the features of `features_fn`.
        unflatten: `unflatten(vector) -> params`, from a flat vector, in its dtype.
        num_params: that vector's length.
        names: each tensor's path in the tree, such as `Conv3x3_0/kernel`, in the vector's order.
        forward: the places of the tensors in `names`, from the input to the output.
        at_once: how many images to work on at once where memory is what takes time; a network that
            normalises over the batch takes all of a minibatch at once.
        statistics_fn: `statistics_fn(params, images)`: what the batch norms find in a batch, one by
            one from the input on; empty where there are none.
        settled_fn: `settled_fn((params, statistics), images) -> logits`, with these statistics in
            place of the batch's own; as `apply_fn` where there is no batch norm.
    """

    init_fn: Callable[[PRNGKey], Params]
    apply_fn: Callable[[Params, Images], Logits]
    features_fn: Callable[[Params, Images], Float[Array, "images _features"]]
    blocks_fn: Callable[[Params, Images], tuple[Array, ...]]
    unflatten: Callable[[Vector], Params]
    num_params: int
    names: tuple[str, ...]
    forward: tuple[int, ...]
    at_once: int
    statistics_fn: Callable[[Params, Images], Statistics]
    settled_fn: Callable[[tuple[Params, Statistics], Images], Logits]

    @property
    def tensors(self) -> list[tuple[str, tuple[int, ...]]]:
        """The name and the shape of every tensor, in the vector's order."""
        vector = jax.ShapeDtypeStruct((self.num_params,), jnp.float32)
        leaves = jax.tree.leaves(jax.eval_shape(self.unflatten, vector))
        return [(name, leaf.shape) for name, leaf in zip(self.names, leaves, strict=True)]

    @property
    def is_over_batch(self) -> bool:
        """Whether it normalises over the batch, so that a minibatch must not be cut."""
        return self.at_once == sys.maxsize

    def parts(self, batch_size: int) -> int:
        """Into how many equal parts a minibatch is cut for the default backend.

        On the CPU a part has as nearly `at_once` images as equal parts allow, so that its
        activations stay in the caches; elsewhere a minibatch is one part.
        """
        if jax.default_backend() != "cpu" or batch_size <= self.at_once:
            return 1
        sizes = [size for size in range(1, batch_size + 1) if batch_size % size == 0]
        nearest = min(sizes, key=lambda size: max(size / self.at_once, self.at_once / size))
        return batch_size // nearest


def make_network(
    model: nn.Module, image_shape: Sequence[int], *, precision: Precision = "default"
) -> Network:
    """The network of a Linen model that has parameters only and takes images of one shape.

    Args:
        model: a Linen module from images (images, height, width, channels) to logits, or with
            `head=False` to features.
        image_shape: (height, width, channels).
        precision: `default`, as the device multiplies float32 (TF32 on NVIDIA GPUs); `highest`,
            full float32; `bfloat16`, parameters and images rounded to it on their way into the
            network, which leaves parameters, gradients and logits in float32. On the CPU the first
            two are one.

    Raises:
        InputError: the model cannot take such images.
    """
    example = jnp.zeros((1, *image_shape), jnp.float32)
    unflattens, made = [], []

    def begin(key: PRNGKey) -> Params:
        params = model.init(key, example)["params"]
        # Linen has tensors in the order in which they are made, JAX in that of the alphabet.
        made.extend(flatten_dict(params, sep="/"))
        return params

    params = jax.eval_shape(begin, jax.random.key(0))

    def flatten(tree: Params) -> Vector:
        vector, unflatten = flatten_params(tree)
        unflattens.append(unflatten)
        return vector

    # By shapes alone: a network too large for memory can still be described.
    vector = jax.eval_shape(flatten, params)

    def init_fn(key: PRNGKey) -> Params:
        return model.init(key, example)["params"]

    def apply(params: Params, images: Images, statistics: Statistics = None, **how: Any) -> Any:
        dtype, settled = images.dtype, {STATISTICS: statistics} if statistics else {}
        if precision == "bfloat16":
            params, images = jax.tree.map(lambda x: x.astype(jnp.bfloat16), (params, images))
        full = jax.default_matmul_precision("highest")
        with full if precision == "highest" else contextlib.nullcontext():
            found = model.apply({"params": params} | settled, images, **how)
        return jax.tree.map(lambda x: x.astype(dtype), found)

    def apply_fn(params: Params, images: Images) -> Logits:
        return apply(params, images)

    def features_fn(params: Params, images: Images) -> Float[Array, "images _features"]:
        return apply(params, images, head=False)

    def blocks_fn(params: Params, images: Images) -> tuple[Array, ...]:
        features, kept = apply(params, images, head=False, mutable=[BLOCKS])
        return (*kept.get(BLOCKS, {}).get("relu", ()), features)

    def statistics_fn(params: Params, images: Images) -> Statistics:
        return apply(params, images, head=False, mutable=[STATISTICS])[1].get(STATISTICS, {})

    def settled_fn(settled: tuple[Params, Statistics], images: Images) -> Logits:
        params, statistics = settled
        return apply(params, images, statistics)

    over_batch = bool(jax.eval_shape(statistics_fn, params, example))
    names = tuple(
        jax.tree_util.keystr(path, simple=True, separator="/")
        for path, _ in jax.tree_util.tree_leaves_with_path(params)
    )
    return Network(
        init_fn,
        apply_fn,
        features_fn,
        blocks_fn,
        partial(_unflatten, params, unflattens[0]),
        vector.size,
        names,
        tuple(names.index(name) for name in made),
        sys.maxsize
        if over_batch
        else _at_once(partial(jax.make_jaxpr(apply_fn), params), image_shape, vector.size),
        statistics_fn,
        settled_fn,
    )


def _unflatten(shapes: PyTree, unflatten: Callable[[Vector], Params], vector: Vector) -> Params:
    """Parameters of the vector's own dtype, which need not be that of fresh ones."""
    if vector.dtype != jnp.float32:
        like = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, vector.dtype), shapes)
        unflatten = flatten_params(like)[1]
    return unflatten(vector)


def _at_once(trace: Callable[[Array], Any], image_shape: Sequence[int], num_params: int) -> int:
    """How many images fill the cache with the largest of their activations.

    At least as many as keep that larger than the parameters, whose gradients are summed over the
    parts of a minibatch.
    """
    one, two = (
        [
            out.aval.size
            for equation in trace(jnp.zeros((count, *image_shape), jnp.float32)).jaxpr.eqns
            for out in equation.outvars
        ]
        for count in (1, 2)
    )
    largest = max(b - a for a, b in zip(one, two, strict=True))
    return max(1, max(_CACHE_BYTES // 4, num_params) // largest)
