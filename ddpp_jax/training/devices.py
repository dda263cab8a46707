"""Members over all devices of this process, or of all processes of a job."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import NamedSharding, PartitionSpec
from jaxtyping import Array, PyTree

from ddpp_jax import cluster
from ddpp_jax.training.spread import mesh, on_all

_WHOLE = PartitionSpec()

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
    side, by `vmap`. A single member is on every device, and they divide its work where they can
    (`on_all`).

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

        split = _split()
        return jax.shard_map(
            body, mesh=mesh(), in_specs=(split, _WHOLE), out_specs=split, check_vma=False
        )(members, piece)

    @functools.partial(jax.jit, static_argnames=("settings",))
    def work_alone(member: PyTree, piece: PyTree, settings: Settings) -> PyTree:
        return on_all(functools.partial(fn, **dict(settings)))(member, piece)

    def advance(members: PyTree, pieces: Sequence[PyTree], **settings: Any) -> PyTree:
        given = tuple(sorted(settings.items()))
        count, devices = jax.tree.leaves(members)[0].shape[0], jax.device_count()
        if count == 1:
            member = everywhere(jax.tree.map(lambda leaf: leaf[0], members))
            for piece in pieces:
                member = work_alone(member, everywhere(piece), given)
            return jax.tree.map(lambda leaf: _own(leaf)[None], member)
        filled = jax.tree.map(lambda leaf: _filled(leaf, -count % devices), members)
        size = _at_once(count)
        groups = []
        for low in range(0, count, size):
            group = jax.tree.map(
                lambda leaf, low=low: _placed(leaf[low : low + size], _split()), filled
            )
            for piece in pieces:
                group = work(group, everywhere(piece), given)
            groups.append(jax.tree.map(_gathered, group))
        return jax.tree.map(lambda *leaves: jnp.concatenate(leaves)[:count], *groups)

    return advance


def has_here(count: int) -> list[bool]:
    """Which of several members `over_devices` has on devices of this process.

    A single one is on all devices.

    Args:
        count: how many there are.
    """
    if count == 1 or cluster.count() == 1:
        return [True] * count
    devices, size = jax.devices(), _at_once(count)
    places = (member % size // (size // len(devices)) for member in range(count))
    return [devices[place].process_index == jax.process_index() for place in places]


def _at_once(count: int) -> int:
    """How many members are on the devices at once, with the copies that fill up."""
    devices = jax.device_count()
    return devices if jax.default_backend() == "cpu" else count + -count % devices


def _split() -> PartitionSpec:
    """An equal part of the leading axis on each device."""
    return PartitionSpec(mesh().axis_names)


def _filled(leaf: Array, extra: int) -> Array:
    """With copies of the last row."""
    leaf = jnp.asarray(leaf)
    return jnp.concatenate([leaf, *[leaf[-1:]] * extra]) if extra else leaf


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


def _own(leaf: Array) -> Array:
    """A leaf that every device has, on the default device of this process."""
    if _is_key(leaf):
        data = _own(jax.random.key_data(leaf))
        return jax.random.wrap_key_data(data, impl=jax.random.key_impl(leaf))
    return jnp.asarray(np.asarray(leaf.addressable_data(0)))


def _is_key(leaf: Array) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
