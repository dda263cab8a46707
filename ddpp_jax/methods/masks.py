"""Which parameters trajectory matching leaves out: the paper's rule, and those compared with it.

Each is a `mask_fn(key, student, target, threshold)`. With a threshold, `ratio` and
`ratio-magnitude` prune by their own rule, and the others that rank parameters prune as many as
`ratio` would. With a share in place of the threshold, all that rank prune that share. `random`
prunes as many of each tensor as `ratio` would, either way. 0 prunes nothing, whatever the mask.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

from ddpp_jax._types import MaskFn, MaskName, PRNGKey, ScalarLike, Vector
from ddpp_jax.core import kept_fraction, prune_mask, random_mask, ranked_mask, ratio_order
from ddpp_jax.networks import Network

Kept: TypeAlias = Bool[Array, " parameters"]


def make_mask(name: MaskName, network: Network, *, by_share: bool = False) -> MaskFn:
    """The mask of a name.

    Args:
        name: of the mask.
        network: whose parameters they are.
        by_share: the number that the mask is given is the share that it prunes, from 0 to 1, not
            the threshold of a ratio. `signs` and `learned` know neither.
    """
    if name == "signs":
        return _by_signs
    if name in ("learned", "none"):
        return _all_kept
    if name == "random":
        return partial(_at_random, network=network, by_share=by_share)
    if name in ("ratio", "ratio-magnitude") and not by_share:
        return partial(_by_ratio, signed=name == "ratio")
    orders = {
        "ratio": ratio_order,
        "ratio-magnitude": partial(ratio_order, signed=False),
        "difference-largest": lambda s, t: -jnp.abs(s - t),
        "difference-smallest": lambda s, t: jnp.abs(s - t),
        "depth": lambda s, t: places(network).astype(s.dtype),
    }
    return partial(_by_rank, order_fn=orders[name], by_share=by_share)


def choose_mask(masks: Sequence[MaskFn], chosen: ScalarLike) -> MaskFn:
    """One of some masks, by a number that may differ between distillations in one program."""
    if len(masks) == 1:
        return masks[0]

    def mask_fn(key: PRNGKey, student: Vector, target: Vector, threshold: ScalarLike) -> Kept:
        index = jnp.asarray(chosen).astype(jnp.int32)
        return jax.lax.switch(index, masks, key, student, target, jnp.asarray(threshold))

    return mask_fn


def places(network: Network) -> Int[np.ndarray, " parameters"]:
    """The place of each parameter on the way from the input to the output, from 0 on.

    Tensors go in the order of the forward pass, the entries of one in the vector's own.
    """
    sizes = [int(np.prod(shape)) for _, shape in network.tensors]
    firsts = np.cumsum([0, *(sizes[tensor] for tensor in network.forward)])
    begins = dict(zip(network.forward, firsts[:-1].tolist(), strict=True))
    return np.concatenate(
        [np.arange(size, dtype=np.int32) + begins[n] for n, size in enumerate(sizes)]
    )


def _by_ratio(
    key: PRNGKey, student: Vector, target: Vector, threshold: ScalarLike, *, signed: bool
) -> Kept:
    del key
    return prune_mask(student, target, threshold=threshold, signed=signed)


def _by_signs(key: PRNGKey, student: Vector, target: Vector, threshold: ScalarLike) -> Kept:
    del key
    same = jnp.sign(student) * jnp.sign(target) >= 0
    # A student that is not a number shows in the loss, not behind the mask.
    return same | ~jnp.isfinite(student) | (jnp.asarray(threshold) == 0)


def _all_kept(key: PRNGKey, student: Vector, target: Vector, threshold: ScalarLike) -> Kept:
    del key, target, threshold
    return jnp.ones(student.shape, bool)


def _by_rank(
    key: PRNGKey,
    student: Vector,
    target: Vector,
    threshold: ScalarLike,
    *,
    order_fn: Callable[[Vector, Vector], Vector],
    by_share: bool,
) -> Kept:
    del key
    kept = _kept_share(student, target, threshold, by_share=by_share)
    # Whatever is not finite stays, as under the paper's rule.
    order = order_fn(student, target)
    return ranked_mask(jnp.where(jnp.isfinite(student), order, jnp.inf), kept=kept)


def _at_random(
    key: PRNGKey,
    student: Vector,
    target: Vector,
    threshold: ScalarLike,
    *,
    network: Network,
    by_share: bool,
) -> Kept:
    """As many of each tensor as `ratio` prunes, by the same number."""
    rule = make_mask("ratio", network, by_share=by_share)
    ends = np.cumsum([int(np.prod(shape)) for _, shape in network.tensors])[:-1].tolist()
    tensors = jnp.split(rule(key, student, target, threshold), ends)
    keys = jax.random.split(key, len(tensors))
    drawn = [random_mask(own, tensor) for own, tensor in zip(keys, tensors, strict=True)]
    return jnp.concatenate(drawn)


def _kept_share(
    student: Vector, target: Vector, threshold: ScalarLike, *, by_share: bool
) -> Float[Array, ""]:
    if by_share:
        return 1 - jnp.asarray(threshold, jnp.float32)
    return kept_fraction(prune_mask(student, target, threshold=threshold))
