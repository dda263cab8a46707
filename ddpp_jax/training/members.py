"""Several members of one kind, such as networks, through the same program.

On one CPU device by threads: `jax.shard_map` over CPU devices gives the same bits, and takes as
long where the members divide evenly among the devices and up to a quarter longer where they do not.
"""

import contextlib
import functools
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import PyTree

from ddpp_jax.storage import cores
from ddpp_jax.training.devices import AdvanceFn, FeedFn, How, MemberFn, over_devices
from ddpp_jax.training.spread import count_of

Member = TypeVar("Member")

_OF_A_THREAD = (
    "enable_x64",
    "default_device",
    "default_matmul_precision",
    "default_prng_impl",
    "threefry_partitionable",
    "debug_nans",
    "debug_infs",
    "numpy_dtype_promotion",
    "numpy_rank_promotion",
)
"""Settings of JAX that hold for one thread alone, and are passed on to the threads of members."""

PIECES = 4
"""Long work is cut into so many pieces, so that no core waits for the last member."""


def over_members(fn: MemberFn[How], *, donate: bool = True) -> AdvanceFn[How]:
    """A function of one member as a function of several, compiled for the default backend.

    On one CPU device each member runs by itself, as many at a time as there are cores: a small
    program cannot keep several cores busy, and several of them can. On another device all go
    through one program, by `vmap`. Several devices, of one process or of all processes of a job,
    have an equal part of the members each (`over_devices`). On one CPU device what a member
    comes to does not depend on the others, to the bit.

    Args:
        fn: `fn(member, piece, how)`, the member after a piece of work, in the same structure and
            shapes where there are several pieces. A member is a pytree, and so is a piece; `how` is
            compiled in.
        donate: whether what is passed as `members` is given away.

    Returns:
        `advance(members, pieces, how)`: the members after all pieces in turn, along the
        leading axis of every leaf. With `at_a_time` so many are at work at a time on the CPU. With
        `feed_fn` each member is given something of its own with every piece, after those that all
        share: `fn((member, own), piece, how)`. `feed_fn(rows)` makes that for some members at a
        time, along a leading axis, with the pieces; the last member may come several times among
        the rows.
    """
    given, compiling = (0,) if donate else (), threading.Lock()
    one, across = jax.jit(fn, static_argnums=2, donate_argnums=given), over_devices(fn)

    @functools.partial(jax.jit, static_argnums=2, donate_argnums=given)
    def every(members: PyTree, piece: PyTree, how: How) -> PyTree:
        return jax.vmap(lambda member: fn(member, piece, how))(members)

    def advance(
        members: PyTree,
        pieces: Sequence[PyTree],
        how: How,
        *,
        at_a_time: int | None = None,
        feed_fn: FeedFn | None = None,
    ) -> PyTree:
        if jax.device_count() > 1:
            return across(members, pieces, how, feed_fn=feed_fn)
        fed = () if feed_fn is None else feed_fn(np.arange(count_of(members)))
        if jax.default_backend() != "cpu":
            for piece in pieces:
                members = every(members, piece, how)
            for own, piece in fed:
                members = every((members, own), piece, how)
            return members

        def alone(member: PyTree, piece: PyTree) -> PyTree:
            with compiling:  # Or all threads would compile the same program.
                found = one(member, piece, how)
            return jax.block_until_ready(found)

        apart = side_by_side(alone, _apart(members), pieces, at_a_time=at_a_time)
        for own, piece in fed:
            pairs = list(zip(apart, _apart(own), strict=True))
            apart = side_by_side(alone, pairs, [piece], at_a_time=at_a_time)
        return jax.tree.map(lambda *leaves: jnp.stack(leaves), *apart)

    return advance


def side_by_side(
    fn: Callable[[Member, Any], Member],
    members: Sequence[Member],
    pieces: Sequence[Any],
    *,
    at_a_time: int | None = None,
) -> list[Member]:
    """Each member after `fn(member, piece)` for all pieces in turn, in threads.

    As many members at a time as there are cores, or as are asked for. The members take turns with
    each piece, so that cores are left without work at the very end alone.
    """
    count = workers(len(members)) if at_a_time is None else at_a_time
    if count == 1:
        return [functools.reduce(fn, pieces, member) for member in members]
    told = {name: getattr(jax.config, f"jax_{name}") for name in _OF_A_THREAD}

    def after(before: Future[Member], piece: Any) -> Member:
        # What is waited for was taken up earlier, so there is always a thread that is at work.
        member = before.result()
        with contextlib.ExitStack() as stack:
            for name, value in told.items():
                stack.enter_context(getattr(jax, name)(value))
            return fn(member, piece)

    with ThreadPoolExecutor(count) as pool:
        found = [_finished(member) for member in members]
        for piece in pieces:
            found = [pool.submit(after, before, piece) for before in found]
        return [future.result() for future in found]


def workers(members: int) -> int:
    """How many of some members are at work at a time on CPUs: as many as there are devices.

    On one device there are no more than the machine has cores.
    """
    devices = jax.device_count()
    return max(1, min(members, cores() if devices == 1 else devices))


def _apart(members: PyTree) -> list[PyTree]:
    count = jax.tree.leaves(members)[0].shape[0]
    return [jax.tree.map(lambda leaf, n=n: leaf[n], members) for n in range(count)]


def _finished(member: Member) -> Future[Member]:
    future: Future[Member] = Future()
    future.set_result(member)
    return future
