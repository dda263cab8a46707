"""Several segments of the teachers' trajectories in one step, whose gradients are averaged."""

import jax
import jax.numpy as jnp

from ddpp_jax._types import PRNGKey, PRNGKeys
from ddpp_jax.core import named_key
from ddpp_jax.methods.method import Batch, Feed


def segment_keys(key: PRNGKey, count: int) -> PRNGKeys:
    """A key for each segment of a step; that of the first is the step's own.

    Args:
        key: of the step.
        count: how many segments there are.
    """
    others = named_key(key, "segments")
    return jnp.stack([key, *(jax.random.fold_in(others, n) for n in range(1, count))])


class Segmented:
    """A feed that gives each step several rows of another one, along an axis of their own."""

    def __init__(self, feed: Feed, segments: int) -> None:
        """Take from a feed whose rows are the segments of the steps, in turn.

        Args:
            feed: that is closed with this one.
            segments: of each step.
        """
        self._feed, self._segments, self.waited = feed, segments, feed.waited

    def take(self, count: int, *, rows: int) -> Batch:
        """What the next `count` steps read, along a leading axis that is padded to `rows`."""
        each = self._segments
        batch = self._feed.take(count * each, rows=rows * each)
        self.waited = self._feed.waited
        return jax.tree.map(lambda leaf: leaf.reshape(rows, each, *leaf.shape[1:]), batch)

    def check(self) -> None:
        """Raise what the feed itself would."""
        self._feed.check()

    def close(self) -> None:
        """Close the other feed."""
        self._feed.close()
