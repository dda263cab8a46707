"""Members over all devices of this process, or of all processes of a job."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Bool, PyTree

from ddpp_jax import cluster

_AXIS = "members"
_SPLIT, _WHOLE = PartitionSpec(_AXIS), PartitionSpec()

Settings: TypeAlias = tuple[tuple[str, Any], ...]


def everywhere(tree: PyTree) -> PyTree:
    """The arrays on every device, so that work over members need not send them each time.

    Args:
        tree: arrays, the same in every process.
    """
    if jax.device_count() == 1:
        return jax.device_put(tree)
    return jax.tree.map(lambda leaf: _placed(leaf, _WHOLE), tree)


def over_devices(fn: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A function of one member as a function of several, an equal part of them on each device.

    Where they do not divide evenly, copies of the last one fill up. On CPUs a device has one member
    at a time, which gives each the bits that it has alone; other devices have all of theirs side by
    side, by `vmap`. A single member is on every device, so that `mean_over` can spread its work.

    Args:
        fn: `fn(member, piece, **settings)`, as for `over_members`.

    Returns:
        `advance(members, pieces, **settings)`: the members after all pieces in turn, on the default
        device of every process. What is passed must be the same in every process.
    """

    @functools.partial(jax.jit, static_argnames=("settings",))
    def work(members: PyTree, piece: PyTree, settings: Settings) -> PyTree:
        one = functools.partial(fn, **dict(settings))

        def body(own: PyTree, piece: PyTree) -> PyTree:
            if jax.tree.leaves(own)[0].shape[0] > 1:
                return jax.vmap(one, in_axes=(0, None))(own, piece)
            found = one(jax.tree.map(lambda leaf: leaf[0], own), piece)
            return jax.tree.map(lambda leaf: leaf[None], found)

        return jax.shard_map(
            body, mesh=_mesh(), in_specs=(_SPLIT, _WHOLE), out_specs=_SPLIT, check_vma=False
        )(members, piece)

    @functools.partial(jax.jit, static_argnames=("settings",))
    def work_alone(member: PyTree, piece: PyTree, settings: Settings) -> PyTree:
        return fn(member, piece, **dict(settings))

    def advance(members: PyTree, pieces: Sequence[PyTree], **settings: Any) -> PyTree:
        given = tuple(sorted(settings.items()))
        count, devices = jax.tree.leaves(members)[0].shape[0], jax.device_count()
        if count == 1:
            member = everywhere(jax.tree.map(lambda leaf: leaf[0], members))
            for piece in pieces:
                member = work_alone(member, everywhere(piece), given)
            return jax.tree.map(lambda leaf: _own(leaf)[None], member)
        filled = jax.tree.map(lambda leaf: _filled(leaf, -count % devices), members)
        size = devices if jax.default_backend() == "cpu" else count + -count % devices
        groups = []
        for low in range(0, count, size):
            group = jax.tree.map(
                lambda leaf, low=low: _placed(leaf[low : low + size], _SPLIT), filled
            )
            for piece in pieces:
                group = work(group, everywhere(piece), given)
            groups.append(jax.tree.map(_gathered, group))
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *groups)

    return advance


def mean_over(fn: Callable[[PyTree, PyTree], PyTree], common: PyTree, xs: PyTree) -> PyTree:
    """The mean of `fn(common, x)` over the leading axis of `xs`, an equal part on each device.

    A device takes its part one after another. Where the parts would not be equal, or the devices
    are at work on several members already, each device does all of it.

    Args:
        fn: gives a pytree of numbers.
        common: what all of them are given.
        xs: along the leading axis of every leaf.
    """

    def mean(common: PyTree, own: PyTree) -> PyTree:
        found = lax.map(functools.partial(fn, common), own)
        return jax.tree.map(lambda leaf: leaf.mean(axis=0), found)

    def part(common: PyTree, own: PyTree) -> PyTree:
        return lax.pmean(mean(common, own), _AXIS)

    count, devices = jax.tree.leaves(xs)[0].shape[0], jax.device_count()
    taken = _AXIS in jax.sharding.get_abstract_mesh().manual_axes
    if devices == 1 or taken or count % devices:
        return mean(common, xs)
    return jax.shard_map(
        part, mesh=_mesh(), in_specs=(_WHOLE, _SPLIT), out_specs=_WHOLE, check_vma=False
    )(common, xs)


def own_members(count: int) -> Bool[np.ndarray, " members"]:
    """Which of several members `over_devices` has worked on by devices of this process.

    Args:
        count: of the members; a single one is worked on by all devices.
    """
    devices = jax.devices()
    if count == 1 or cluster.count() == 1:
        return np.ones(count, bool)
    filled = count + -count % len(devices)
    # On CPUs groups of one member for each device follow one another.
    each = 1 if jax.default_backend() == "cpu" else filled // len(devices)
    places = np.arange(count) // each % len(devices)
    own = np.asarray([device.process_index == jax.process_index() for device in devices])
    # Copies of the last member fill up, on whatever devices are left.
    found = own[places]
    found[-1] |= bool(own[np.arange(count, filled) // each % len(devices)].any())
    return found


@functools.cache
def _mesh() -> Mesh:
    """All devices of all processes in a row."""
    return Mesh(np.asarray(jax.devices()), (_AXIS,))


def _filled(leaf: Array, extra: int) -> Array:
    """With copies of the last row."""
    leaf = jnp.asarray(leaf)
    return jnp.concatenate([leaf, *[leaf[-1:]] * extra]) if extra else leaf


def _placed(leaf: Array, spec: PartitionSpec) -> Array:
    """A leaf on the devices; one that is there stays."""
    sharding = NamedSharding(_mesh(), spec)
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


def _own(leaf: Array) -> Array:
    """A leaf that every device has, on the default device of this process."""
    if _is_key(leaf):
        data = _own(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.asarray(np.asarray(leaf.addressable_data(0)))


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
