"""Real images of each class, drawn by key from the training set."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import AugmentFn, FloatArray, Images, PRNGKey, Scalar
from ddpp_jax.core import named_key
from ddpp_jax.data import Numbers, Stored
from ddpp_jax.methods.hosted import OnHost
from ddpp_jax.methods.method import Feed, Method
from ddpp_jax.training import everywhere, map_over

Real: TypeAlias = Float[Array, "real height width channels"]
"""Real images of a class."""

ClassLossFn: TypeAlias = Callable[[Int[Array, ""], PRNGKey, Real, Images], Scalar]
"""`loss_fn(label, key, real, distilled)`: the loss of a class, by its images of both kinds."""


class Pool(NamedTuple):
    """The training set, sorted by class.

    Attributes:
        images: all of them, on the device or on the host.
        places: where the images of each class are in it, padded.
        counts: how many each class has.
    """

    images: Float[Array, "images height width channels"] | OnHost
    places: Int[Array, "classes most"]
    counts: Int[Array, " classes"]


class Room(NamedTuple):
    """How large a pool is made, so that pools of several datasets go through one program.

    Attributes:
        images: in all, no fewer than the training set has.
        most: images of a class, no fewer than the largest has.
    """

    images: int
    most: int


class Work(NamedTuple):
    """What the work of a step is estimated from.

    Attributes:
        image: operations of a forward pass of one image, floating-point.
        ipc: distilled images of each class.
    """

    image: float
    ipc: int


NO_WORK = Work(0.0, 0)
"""For methods whose work is not to be estimated."""


class RealSource(NamedTuple):
    """What a method that reads real images reads.

    Attributes:
        feed_fn: `feed_fn(seed, done)`, the training set.
        pool: its shapes.
        batch: real images of each class in a step, or in each of its updates; no more than the
            smallest has.
        work: what the work of the steps is estimated from.
    """

    feed_fn: Callable[[int, int], Feed]
    pool: Pool
    batch: int
    work: Work = NO_WORK

    @property
    def classes(self) -> int:
        """Classes of the training set."""
        return self.pool.counts.shape[0]


class RealImages:
    """A feed that gives every step the whole training set."""

    def __init__(
        self,
        images: FloatArray | Stored,
        labels: Int[np.ndarray, " images"],
        room: Room | None = None,
    ) -> None:
        """Put the training set on the device; of stored images what steps draw is fetched.

        Args:
            images: of the training set.
            labels: of those, 0 to classes - 1.
            room: how large the pool is made; None takes what the training set needs. Draws depend
                on it.
        """
        self.waited = 0.0
        places, counts = _by_class(labels, room)
        if isinstance(images, Stored):
            held = OnHost(images)
            self._pool = everywhere(Pool(held, jnp.asarray(places), jnp.asarray(counts)))
            return
        if room is not None:
            images = np.asarray(images)
            padding = np.zeros((room.images - len(images), *images.shape[1:]), images.dtype)
            images = np.concatenate([images, padding])
        self._pool = everywhere(Pool(*map(jnp.asarray, (images, places, counts))))

    def take(self, count: int, *, rows: int) -> Pool:
        """The training set."""
        del count, rows
        return self._pool

    def check(self) -> None:
        """Raise what went wrong while steps fetched images from the host."""
        if isinstance(self._pool.images, OnHost):
            self._pool.images.check()

    def close(self) -> None:
        """Nothing is held that others do not hold."""


def pool_like(
    shape: tuple[int, ...],
    labels: Int[np.ndarray, " images"],
    room: Room | None = None,
    *,
    stored: tuple[Stored, Numbers] | None = None,
) -> Pool:
    """The shapes and dtypes of a pool, as `jax.ShapeDtypeStruct`.

    Args:
        shape: of an image: (height, width, channels).
        labels: of the training set.
        room: how large the pool is made; None takes what the training set needs.
        stored: the images, where they stay on the host, and the shapes of what normalises them.
    """
    places, counts = _by_class(labels, room)
    count = len(labels) if room is None else room.images
    like = jax.ShapeDtypeStruct((count, *shape), jnp.float32)
    held = like if stored is None else OnHost(*stored)
    rest = (jax.ShapeDtypeStruct(array.shape, array.dtype) for array in (places, counts))
    return Pool(*cast(Any, (held, *rest)))


def reading_pool(method: Method) -> Method:
    """A method whose steps all draw from one pool, its `batch`, with what follows from that."""
    images = method.batch.images
    return method._replace(
        shared=True,
        least_memory=method.least_memory + sum(leaf.size for leaf in jax.tree.leaves(images)),
        remedy=method.remedy or "lower --image-size or --per-class",
    )


def made_up_pool(like: Pool) -> Pool:
    """A pool of noise of such shapes, the images in turn of each class, to try steps on.

    Images on the host are the real ones, since it takes time to fetch them.
    """
    (count, *_), (classes, most) = like.images.shape, like.places.shape
    places = (jnp.arange(classes * most, dtype=jnp.int32) % count).reshape(classes, most)
    if isinstance(like.images, OnHost):
        images = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), like.images)
    else:
        images = jax.random.normal(jax.random.key(0), like.images.shape, jnp.float32)
    return Pool(images, places, jnp.full(classes, most, jnp.int32))


def draw_places(key: PRNGKey, pool: Pool, count: int) -> Int[Array, "classes count"]:
    """Where some random images of each class are in the pool; none comes twice.

    Args:
        key: of this draw.
        pool: the training set.
        count: images of each class; no more than the smallest has.
    """
    # Whatever JAX's default is: draws of another width are other draws.
    draws = jax.random.uniform(key, pool.places.shape, jnp.float32)
    there = jnp.arange(pool.places.shape[1])[None] < pool.counts[:, None]
    _, chosen = lax.top_k(jnp.where(there, draws, -1.0), count)
    return jnp.take_along_axis(pool.places, chosen, axis=1)


def over_classes(
    loss_fn: ClassLossFn, key: PRNGKey, pool: Pool, distilled: Images, *, batch: int
) -> tuple[Float[Array, " classes"], Images]:
    """The loss of each class, and the gradient of their sum in the distilled images.

    The classes are taken in turn, so that activations are held for one of them alone. Several
    devices have some classes each.

    Args:
        loss_fn: of a class, with a key of its own.
        key: of all draws.
        pool: the training set.
        distilled: class by class, as many of each.
        batch: real images of each class.
    """
    places = draw_places(named_key(key, "real images"), pool, batch)
    classes = len(places)
    keys = jax.random.split(named_key(key, "augment"), classes)
    own = distilled.reshape(classes, -1, *distilled.shape[1:])

    def of_class(x: tuple[Array, Array, Array, Images]) -> tuple[Scalar, Images]:
        label, key, there, images = x
        real = pool.images[there]
        return jax.value_and_grad(lambda images: loss_fn(label, key, real, images))(images)

    losses, gradients = map_over(of_class, (jnp.arange(classes), keys, places, own))
    return losses, gradients.reshape(distilled.shape)


def same_for_all(augment_fn: AugmentFn, key: Array, images: Images) -> Images:
    """The images, each augmented by the same draws ("siamese", Zhao and Bilen, ICML 2021).

    Args:
        augment_fn: that is given one image at a time.
        key: of the draws.
        images: of a class.
    """
    return jax.vmap(lambda image: augment_fn(key, image[None])[0])(images)


def in_parts(fn: Callable[[Images], Any], images: Images, parts: int) -> Any:
    """What a function makes of the images, one part after another, along the first axis.

    Args:
        fn: of some images.
        images: all of them, on the device or on the host.
        parts: into how many equal parts they are cut.
    """
    if parts == 1:
        return fn(images)
    found = lax.map(fn, images.reshape(parts, -1, *images.shape[1:]))
    return jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), found)


def mean_in_parts(
    fn: Callable[[Images], tuple[Any, Any]], images: Images, parts: int
) -> tuple[Any, Any]:
    """The mean over the images of what a function gives for each, one part after another.

    Args:
        fn: `fn(some of the images)`, two trees with a row for each image in every leaf.
        images: all of them, on the device or on the host.
        parts: into how many equal parts they are cut.

    Returns:
        The mean of the rows of the first tree, and all rows of the second.
    """
    if parts == 1:
        rows, kept = fn(images)
        return jax.tree.map(lambda x: x.mean(axis=0), rows), kept
    cut = images.reshape(parts, -1, *images.shape[1:])

    def added(sums: Any, part: Images) -> tuple[Any, Any]:
        rows, kept = fn(part)
        return jax.tree.map(lambda a, x: a + _sum_by_halves(x), sums, rows), kept

    like = jax.eval_shape(lambda part: fn(part)[0], cut[0])
    none = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape[1:], leaf.dtype), like)
    sums, kept = lax.scan(added, none, cut)
    whole = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), kept)
    return jax.tree.map(lambda x: x / len(images), sums), whole


def _sum_by_halves(rows: Float[Array, "rows *_row"]) -> Float[Array, "*_row"]:
    """The sum over the first axis, by additions of whole halves.

    On the CPU XLA compiles its own reduction over this axis, and the layers before it that it takes
    into the same loop, to code that handles one number at a time.
    """
    odd = []
    while len(rows) > 1:
        if len(rows) % 2:
            odd.append(rows[-1])
        half = len(rows) // 2
        rows = rows[:half] + rows[half : 2 * half]
    return sum(odd, start=rows[0])


def _by_class(
    labels: Int[np.ndarray, " images"], room: Room | None
) -> tuple[Int[np.ndarray, "classes most"], Int[np.ndarray, " classes"]]:
    counts = np.bincount(labels).astype(np.int32)
    most = counts.max() if room is None else room.most
    places = np.zeros((len(counts), most), np.int32)
    for label, count in enumerate(counts):
        places[label, :count] = np.flatnonzero(labels == label)
    return places, counts
