"""The work of one member over all devices of this process, or of all processes of a job."""

import contextlib
import functools
import itertools
import math
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, PartitionSpec
from jaxtyping import Array, PyTree

from ddpp_jax.core import Cut, hoisted

Axes: TypeAlias = tuple[str, ...]

_FREE = jax.make_user_context(())
"""The axes of devices among which work may be divided; none outside of `left_free`."""

_WHOLE = PartitionSpec()


@functools.cache
def mesh() -> Mesh:
    """All devices of all processes, with an axis for each prime factor of their number.

    So any number of devices that divides theirs is that of some of the axes.
    """
    devices = np.asarray(jax.devices())
    sizes = _factors(len(devices)) or [1]
    return Mesh(devices.reshape(sizes), tuple(f"devices_{n}" for n in range(len(sizes))))


def on_all(fn: Callable[..., PyTree]) -> Callable[..., PyTree]:
    """A function that every device runs, all with the same arguments.

    What it does by `mean_over`, `map_over` and the shares of `cut_for_devices` is divided among the
    devices, and everything else done by each of them. These are differentiable in reverse mode.
    """

    def body(*arguments: PyTree) -> PyTree:
        with left_free(()):
            return fn(*arguments)

    def run(*arguments: PyTree) -> PyTree:
        return jax.shard_map(body, mesh=mesh(), in_specs=_WHOLE, out_specs=_WHOLE, check_vma=False)(
            *arguments
        )

    return run if jax.device_count() > 1 else fn


def axes_of(members: int) -> Axes:
    """The axes over which members are divided: no more devices than they need, or all.

    The first axes, so that those which share the work of a member are neighbours.

    Args:
        members: how many there are.
    """
    names = mesh().axis_names
    enough = (axes for axes in _some_of(names) if _size(axes) >= min(members, mesh().size))
    return min(enough, key=lambda axes: (_size(axes), _places(names, axes)))


@contextlib.contextmanager
def left_free(axes: Axes) -> Iterator[None]:
    """Within it work may be divided over all axes but these, by a program that all devices run.

    Args:
        axes: over which members are divided, each with work of its own.
    """
    with _FREE(tuple(axis for axis in mesh().axis_names if axis not in axes)):
        yield


def count_of(xs: PyTree) -> int:
    """The length of the leading axis that all leaves share.

    Args:
        xs: along the leading axis of every leaf.
    """
    return jax.tree.leaves(xs)[0].shape[0]


def filled(leaf: Array, extra: int) -> Array:
    """An array with copies of its last row.

    Args:
        leaf: along its leading axis.
        extra: how many copies.
    """
    leaf = jnp.asarray(leaf)
    return jnp.concatenate([leaf, *[leaf[-1:]] * extra]) if extra else leaf


def mean_over(fn: Callable[[PyTree], PyTree], xs: PyTree) -> PyTree:
    """The mean of `fn(x)` over the leading axis of `xs`, an equal part on each device.

    A device takes its part one after another. Of 4 on 8 devices two take each, and may divide what
    `fn` does; of 3 every device takes all.

    Args:
        fn: gives a pytree of numbers.
        xs: along the leading axis of every leaf.
    """

    def mean(own: PyTree) -> tuple[PyTree, None]:
        return jax.tree.map(lambda leaf: leaf.mean(axis=0), lax.map(fn, own)), None

    axes = _axes_for(count_of(xs))
    return (_mean_over_shares(mean, xs, axes=axes) if axes else mean(xs))[0]


def map_over(
    fn: Callable[[PyTree], PyTree], xs: PyTree, *, batch_size: int | None = None
) -> PyTree:
    """What `lax.map` gives, an equal part from each device.

    Where the parts would not be equal, copies of the last entry fill up.

    Args:
        fn: of one entry. It may close over what is differentiated.
        xs: along the leading axis of every leaf.
        batch_size: entries that a device works on at once; None is one.
    """
    axes = _FREE.value
    if not axes:
        return lax.map(fn, xs, batch_size=batch_size)
    count = count_of(xs)
    extra = -count % _size(axes)
    whole = jax.tree.map(lambda leaf: filled(leaf, extra), xs)

    def mapped(own: PyTree) -> PyTree:
        return lax.map(fn, own, batch_size=batch_size)

    found = _joined(axes, _of_own(mapped, whole, axes))
    return jax.tree.map(lambda leaf: leaf[:count], found)


def cut_for_devices(count: int, parts_fn: Callable[[int], int], *, least: int) -> Cut:
    """How a minibatch is cut into equal shares for the devices, and those into microbatches.

    There are as many shares as divide both the minibatch and the devices: 4 of 500 images on 8
    devices, of which two compute each.

    Args:
        count: images of the minibatch.
        parts_fn: `parts_fn(count)`, the microbatches of so many images.
        least: images that a share has at the least.
    """
    axes = _axes_for(count, least)
    shares = _size(axes)
    share_fn = functools.partial(_mean_over_shares, axes=axes) if axes else None
    return Cut(parts_fn(count // shares), shares, share_fn)


def _mean_over_shares(
    fn: Callable[[PyTree], tuple[PyTree, PyTree]], batch: PyTree, *, axes: Axes
) -> tuple[PyTree, PyTree]:
    """A `ShareFn` of the core."""
    mean, each = _of_own(fn, batch, axes)
    shares = _size(axes)
    return _mean(axes, mean), _joined(axes, jax.tree.map(lambda leaf: leaf / shares, each))


def _of_own(fn: Callable[[PyTree], PyTree], xs: PyTree, axes: Axes) -> PyTree:
    """What a function gives for this device's part of the leading axis.

    Its cotangents are those of the parts of all devices together, also in what it closes over.
    """
    size = _size(axes)
    shape = jax.eval_shape(lambda: _part(xs, 0, size))
    with _FREE(tuple(axis for axis in _FREE.value if axis not in axes)):
        pure, held = hoisted(fn, shape)
        leaves, structure = jax.tree.flatten((held, xs))
        floats = _given(axes, [leaf for leaf in leaves if _is_float(leaf)])
        given = iter(cast(list[Array], floats))
        leaves = [next(given) if _is_float(leaf) else leaf for leaf in leaves]
        held, xs = jax.tree.unflatten(structure, leaves)
        return pure(held, _part(xs, lax.axis_index(axes), size))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _given(axes: Axes, arrays: list[Array]) -> list[Array]:
    """What all devices have alike and each uses for its own part."""
    del axes
    return arrays


_given.defvjp(lambda _, arrays: (arrays, None), lambda axes, _, bars: (lax.psum(bars, axes),))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _mean(axes: Axes, parts: PyTree) -> PyTree:
    """The mean over devices; each has the same cotangent of it."""
    return lax.pmean(parts, axes)


_mean.defvjp(
    lambda axes, parts: (_mean(axes, parts), None),
    lambda axes, _, bars: (jax.tree.map(lambda bar: bar / _size(axes), bars),),
)


def _joined(axes: Axes, tree: PyTree) -> PyTree:
    """The parts of all devices, joined along the leading axis."""

    def whole(leaf: Array) -> Array:
        return _gathered(axes, leaf) if _is_float(leaf) else _all_gather(axes, leaf)

    return jax.tree.map(whole, tree)


def _all_gather(axes: Axes, part: Array) -> Array:
    return lax.all_gather(part, axes, tiled=True)


_gathered = jax.custom_vjp(_all_gather, nondiff_argnums=(0,))
_gathered.defvjp(
    lambda axes, part: (_all_gather(axes, part), None),
    lambda axes, _, bar: (_part(bar, lax.axis_index(axes), _size(axes)),),
)


def _part(tree: PyTree, index: int | Array, size: int) -> PyTree:
    """One of so many equal parts of the leading axis."""
    return jax.tree.map(lambda leaf: leaf.reshape(size, -1, *leaf.shape[1:])[index], tree)


def _axes_for(count: int, least: int = 1) -> Axes:
    """The free axes with the most devices that have equal parts of so many, the last ones first.

    Neighbours so have different parts, and those of one machine all of them where they suffice.
    """
    free = _FREE.value
    fitting = (axes for axes in _some_of(free) if count % _size(axes) == 0)
    enough = (axes for axes in fitting if not axes or count // _size(axes) >= least)
    return max(enough, key=lambda axes: (_size(axes), _places(free, axes)))


def _some_of(axes: Axes) -> Iterator[Axes]:
    """Any number of some axes, in their order."""
    for count in range(len(axes) + 1):
        yield from itertools.combinations(axes, count)


def _places(all_axes: Axes, axes: Axes) -> list[int]:
    return [all_axes.index(axis) for axis in axes]


def _size(axes: Axes) -> int:
    """How many parts are made over these axes."""
    return math.prod(mesh().shape[axis] for axis in axes)


def _factors(count: int) -> list[int]:
    """The prime factors of a number, in order."""
    for factor in range(2, math.isqrt(count) + 1):
        if count % factor == 0:
            return [factor, *_factors(count // factor)]
    return [count] if count > 1 else []


def _is_float(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jnp.floating)
