"""How a minibatch is cut: into shares that are computed side by side, and those into parts."""

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import PyTree


class ShareFn(Protocol):
    """Computes the equal shares of a minibatch side by side, such as one on each device."""

    def __call__(self, fn: Callable[[PyTree], tuple[PyTree, PyTree]], batch: PyTree) -> Any:
        """What a function gives for a whole minibatch, from what it gives for each share.

        Args:
            fn: `fn(share) -> (mean, each)`. It may close over what is differentiated.
            batch: a pytree whose leaves share their first axis, along which it is cut.

        Returns:
            The mean of `mean` over the shares; and `each`, divided by the number of shares and
            joined along the first axis.
        """
        ...


class Cut(NamedTuple):
    """How a minibatch is cut, where the loss is a mean over its first axis.

    Attributes:
        parts: equal microbatches that are computed one after another, so that only one of them
            holds activations.
        shares: equal shares that are computed side by side, each of them in as many parts.
        share_fn: computes these; None where there is one.
    """

    parts: int = 1
    shares: int = 1
    share_fn: ShareFn | None = None


def as_cut(parts: int | Cut) -> Cut:
    """A number of parts as a cut."""
    return parts if isinstance(parts, Cut) else Cut(parts)


def mean_over_cut(
    fn: Callable[[PyTree], tuple[PyTree, PyTree]], batch: PyTree, cut: Cut
) -> tuple[PyTree, PyTree]:
    """What `fn` gives for the batch: a mean over its parts, and a share of it for each entry.

    Args:
        fn: of a batch, or of a part of it.
        batch: a pytree whose leaves share their first axis.
        cut: how it is cut.

    Raises:
        ValueError: the batch cannot be cut so.
    """
    if cut.share_fn is None:
        return _in_turn(fn, batch, cut.parts)
    return cut.share_fn(lambda share: _in_turn(fn, share, cut.parts), batch)


def first_part(batch: PyTree, cut: Cut) -> PyTree:
    """The first of the parts that are computed at once.

    Raises:
        ValueError: the batch cannot be cut so.
    """
    count = cut.parts * cut.shares
    return batch if count == 1 else jax.tree.map(lambda leaf: leaf[0], _cut(batch, count))


def _in_turn(
    fn: Callable[[PyTree], tuple[PyTree, PyTree]], batch: PyTree, parts: int
) -> tuple[PyTree, PyTree]:
    """One part after another."""
    if parts == 1:
        return fn(batch)

    def add(total: PyTree, part: PyTree) -> tuple[PyTree, PyTree]:
        mean, shares = fn(part)
        return jax.tree.map(jnp.add, total, mean), shares

    shape, _ = jax.eval_shape(lambda: fn(first_part(batch, Cut(parts))))
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shape)
    total, shares = lax.scan(add, zeros, _cut(batch, parts))
    mean = jax.tree.map(lambda leaf: leaf / parts, total)
    return mean, jax.tree.map(lambda s: s.reshape(-1, *s.shape[2:]) / parts, shares)


def _cut(batch: PyTree, parts: int) -> PyTree:
    """The batch with a leading axis of equal parts, cut from the first axis of all leaves."""
    sizes = {leaf.shape[0] if leaf.ndim else 0 for leaf in jax.tree.leaves(batch)}
    if parts < 1 or len(sizes) != 1 or sizes == {0} or sizes.pop() % parts:
        shapes = [leaf.shape for leaf in jax.tree.leaves(batch)]
        raise ValueError(f"a minibatch of leaves {shapes} cannot be cut into {parts} equal parts")
    return jax.tree.map(
        lambda leaf: leaf.reshape(parts, leaf.shape[0] // parts, *leaf.shape[1:]), batch
    )
