"""Members over all devices of this process, or of all processes of a job."""

import functools
import math
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, Int, PyTree

from ddpp_jax import cluster
from ddpp_jax.training.spread import axes_of, count_of, filled, left_free, mesh

_WHOLE = PartitionSpec()

How = TypeVar("How", bound=Hashable)
HowGiven = TypeVar("HowGiven", bound=Hashable, contravariant=True)

MemberFn: TypeAlias = Callable[[PyTree, PyTree, How], PyTree]
"""`fn(member, piece, how)`: a member after a piece of work; `how` is compiled in."""

FeedFn: TypeAlias = Callable[[Int[np.ndarray, " rows"]], Iterable[tuple[PyTree, PyTree]]]
"""`feed_fn(rows)`: for each piece of work, what each of some members is given, and the piece."""


@runtime_checkable
class AdvanceFn(Protocol[HowGiven]):
    """What takes several members through pieces of work; see `over_members`."""

    def __call__(
        self,
        members: PyTree,
        pieces: Sequence[PyTree],
        how: HowGiven,
        *,
        at_a_time: int | None = None,
        feed_fn: FeedFn | None = None,
    ) -> PyTree:
        """The members after all pieces in turn."""
        ...


def everywhere(tree: PyTree) -> PyTree:
    """The arrays on every device, so that work over members need not send them each time.

    Args:
        tree: arrays, the same in every process.
    """
    if jax.device_count() == 1:
        return jax.device_put(tree)
    return jax.tree.map(lambda leaf: _placed(leaf, _WHOLE), tree)


def over_devices(fn: MemberFn[How]) -> AdvanceFn[How]:
    """A function of one member as a function of several, an equal part of them on each device.

    Where they do not divide evenly, copies of the last one fill up. On CPUs a device has one member
    at a time; other devices have all of theirs side by side, by `vmap`. Where there are fewer
    members than devices, several devices have each, and divide its work where they can
    (`left_free`).

    Args:
        fn: `fn(member, piece, how)`, as for `over_members`.

    Returns:
        `advance(members, pieces, how)`, also with `feed_fn`, as for `over_members`: the members
        after all pieces in turn, on the default device of every process. What is passed must be the
        same in every process, but for members, and what is fed to them, that have no place there
        (`has_here`).
    """

    @functools.partial(jax.jit, static_argnames=("how",))
    def work(members: PyTree, piece: PyTree, how: How) -> PyTree:
        axes = axes_of(count_of(members))

        def body(own: PyTree, piece: PyTree) -> PyTree:
            if count_of(own) > 1:
                return jax.vmap(lambda member: fn(member, piece, how))(own)
            with left_free(axes):
                found = fn(jax.tree.map(lambda leaf: leaf[0], own), piece, how)
            return jax.tree.map(lambda leaf: leaf[None], found)

        split = PartitionSpec(axes)
        return jax.shard_map(
            body, mesh=mesh(), in_specs=(split, _WHOLE), out_specs=split, check_vma=False
        )(members, piece)

    def advance(
        members: PyTree,
        pieces: Sequence[PyTree],
        how: How,
        *,
        at_a_time: int | None = None,
        feed_fn: FeedFn | None = None,
    ) -> PyTree:
        del at_a_time  # Each device has one, or all of its own.
        count = count_of(members)
        size, split = _at_once(count), _split(count)
        whole = jax.tree.map(lambda leaf: filled(leaf, -count % size), members)
        groups = []
        for low in range(0, count, size):
            group = jax.tree.map(
                lambda leaf, low=low: _placed(leaf[low : low + size], split), whole
            )
            for piece in pieces:
                group = work(group, everywhere(piece), how)
            rows = np.minimum(np.arange(low, low + size), count - 1)
            for own, piece in () if feed_fn is None else feed_fn(rows):
                fed = jax.tree.map(lambda leaf: _placed(leaf, split), own)
                group = work((group, fed), everywhere(piece), how)
            groups.append(jax.tree.map(_gathered, group))
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *groups)

    return advance


def has_here(count: int) -> list[bool]:
    """Which of several members `over_members` has on devices of this process.

    Args:
        count: how many there are.
    """
    if cluster.count() == 1:
        return [True] * count
    size = _at_once(count)
    rows = NamedSharding(mesh(), _split(count)).addressable_devices_indices_map((size,))
    here = {place for own in rows.values() for place in np.arange(size)[own]}
    return [member % size in here for member in range(count)]


def _at_once(count: int) -> int:
    """How many members are on the devices at once, with the copies that fill up."""
    devices = math.prod(mesh().shape[axis] for axis in axes_of(count))
    return devices if jax.default_backend() == "cpu" else count + -count % devices


def _split(count: int) -> PartitionSpec:
    """How so many members are divided over the devices, by their leading axis."""
    return PartitionSpec(axes_of(count))


def _placed(leaf: Array, spec: PartitionSpec) -> Array:
    """A leaf on the devices; one that is there stays."""
    sharding = NamedSharding(mesh(), spec)
    if isinstance(leaf, jax.Array) and leaf.sharding == sharding:
        return leaf
    if cluster.count() == 1:
        return jax.device_put(leaf, sharding)
    if _is_key(leaf):
        data = _placed(jax.random.key_data(leaf), spec)
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    own = np.asarray(leaf)
    return jax.make_array_from_callback(own.shape, sharding, lambda place: own[place])


def _gathered(leaf: Array) -> Array:
    """A leaf of all processes on the default device of this one."""
    if cluster.count() == 1:
        return jax.device_put(leaf, jax.local_devices()[0])
    if _is_key(leaf):
        data = _gathered(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.asarray(multihost_utils.process_allgather(leaf, tiled=True))


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
