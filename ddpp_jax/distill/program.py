"""Some steps of several distillations as one compiled program."""

import functools
from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int, PyTree

from ddpp_jax._types import PRNGKey
from ddpp_jax.core import named_key
from ddpp_jax.distill.member import Member
from ddpp_jax.methods import Feed, Info, Method, steps_key
from ddpp_jax.methods.method import Batch, HParams, State
from ddpp_jax.training import has_here, on_all, over_members

_MAX_STEPS_PER_CALL = 25
_BYTES_PER_CALL = 2**28
_PROGRAMS = 4
"""So many methods keep what was compiled for them."""

States: TypeAlias = PyTree
"""The states of several distillations, along a leading axis."""

Stepper: TypeAlias = Callable[
    [Sequence[Member], States, int, int, Sequence[Batch]], tuple[States, Info]
]
"""`advance(members, states, first, count, batches)`: some steps of some members."""


def stepper(method: Method) -> Stepper:
    """Steps of any members of a method, as one program that is compiled when it is first called."""
    advance = _program(method.step)

    def call(
        members: Sequence[Member], states: States, first: int, count: int, batches: Sequence[Batch]
    ) -> tuple[States, Info]:
        keys = jnp.stack([steps_key(member.seed) for member in members])
        hparams = jax.tree.map(
            lambda *numbers: jnp.asarray(numbers, jnp.float32), *(m.hparams for m in members)
        )
        own, shared, rows = None, batches[0], _MAX_STEPS_PER_CALL
        if not method.shared:
            own, shared = jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches), None
            rows = jax.tree.leaves(own)[0].shape[1]
        piece = (jnp.int32(first), jnp.int32(count), shared)
        return advance((keys, states, hparams, own), [piece], rows)

    return call


@functools.lru_cache(maxsize=_PROGRAMS)
def _program(step: Callable[..., tuple[State, Info]]) -> Callable[..., tuple[State, Info]]:
    """The steps of members, which a second run of the same method in a process finds compiled.

    The step is traced once, though its shapes are asked for before it is compiled.
    """
    return over_members(partial(_advance, jax.jit(step)), donate=False)


def begin(method: Method, member: Member) -> State:
    """The state of a member before its first step."""
    key = named_key(jax.random.key(member.seed), "distilled")
    return method.init(key, member.start)


def compiled(
    method: Method, members: Sequence[Member], states: States, batches: Sequence[Batch]
) -> Callable[[States, int, int, Sequence[Batch]], tuple[States, Info]]:
    """`advance(states, first, count, batches)`: some steps of all members, compiled.

    Args:
        method: of distillation.
        members: whose steps these are.
        states: of them, for their shapes.
        batches: what each of them reads, for its shapes.
    """
    call = partial(stepper(method), members)
    call(states, 0, 0, batches)  # Compiles, and makes no step.
    return call


def no_batches(method: Method, rows: int) -> Batch:
    """Zeros of the shape of what so many steps read."""
    axis = () if method.shared else (rows,)
    return jax.tree.map(lambda leaf: jnp.zeros((*axis, *leaf.shape), leaf.dtype), method.batch)


class _Elsewhere:
    """The feed of a member whose steps other processes make, and read for."""

    waited = 0.0

    def __init__(self, method: Method) -> None:
        """Nothing is read."""
        self._method = method

    def take(self, count: int, *, rows: int) -> Batch:
        """Zeros, in the place of what the next `count` steps read."""
        del count
        return no_batches(self._method, rows)

    def check(self) -> None:
        """What goes wrong is raised by `take`."""

    def close(self) -> None:
        """Nothing is held."""


def feeds_of(method: Method, members: Sequence[Member], done: int) -> list[Feed]:
    """The feed of each member; of those whose steps other processes make, nothing is read.

    Args:
        method: of distillation.
        members: whose steps are made.
        done: how many are made already.
    """
    here = [method.shared or own for own in has_here(len(members))]
    return [
        method.feed(member.seed, done) if own else _Elsewhere(method)
        for member, own in zip(members, here, strict=True)
    ]


def _advance(
    step: Callable[..., tuple[State, Info]],
    member: tuple[PRNGKey, State, HParams, Batch],
    piece: tuple[Int[Array, ""], Int[Array, ""], Batch],
    rows: int,
) -> tuple[State, Info]:
    """A member's state after some steps, and the Info of each, in one program.

    How the steps are cut into calls has no influence on the bits, since the number of turns is no
    part of the program.

    Args:
        step: of the method.
        member: the key of all its steps, into which each folds its own number; the state before
            the first of them; its numbers; and what the steps read, a row for each, or None.
        piece: the number of the first step, how many there are, and what all of them read, or None.
        rows: the most steps in a call. The Info of the rows beyond those made is zero.
    """
    key, state, hparams, own = member
    first, count, shared = piece

    def one(index: Int[Array, ""], state: State) -> tuple[State, Info]:
        batch = shared if own is None else jax.tree.map(lambda leaf: leaf[index], own)
        return step(jax.random.fold_in(key, first + index), state, batch, hparams)

    def turn(index: Int[Array, ""], carry: tuple[State, Info]) -> tuple[State, Info]:
        state, info = one(index, carry[0])
        return state, jax.tree.map(lambda rows, row: rows.at[index].set(row), carry[1], info)

    _, shape = jax.eval_shape(one, count, state)
    empty = jax.tree.map(lambda x: jnp.zeros((rows, *x.shape), x.dtype), shape)
    return lax.fori_loop(0, count, turn, (state, empty))


def memory(method: Method, member: Member) -> int | None:
    """Bytes that the compiled steps of one member take on a device; None where nobody can say.

    Args:
        method: of distillation.
        member: the shapes of its start are what counts.
    """
    rows = steps_per_call(method)
    state = jax.eval_shape(lambda: begin(method, member))
    batch = jax.eval_shape(lambda: no_batches(method, rows))
    given = (
        jax.eval_shape(lambda: steps_key(0)),
        state,
        jax.tree.map(lambda _: jax.ShapeDtypeStruct((), jnp.float32), member.hparams),
        None if method.shared else batch,
    )
    number = jax.ShapeDtypeStruct((), jnp.int32)
    piece = (number, number, batch if method.shared else None)
    advance = partial(_advance, jax.jit(method.step))
    program = jax.jit(on_all(lambda member, piece: advance(member, piece, rows)))
    needed = program.lower(given, piece).compile().memory_analysis()
    if needed is None:
        return None
    arguments = needed.argument_size_in_bytes - needed.alias_size_in_bytes
    return needed.temp_size_in_bytes + arguments + needed.output_size_in_bytes


def steps_per_call(method: Method, members: int = 1) -> int:
    """The most steps in one call; all that they read is in memory at once."""
    if method.shared:
        return _MAX_STEPS_PER_CALL
    leaves = jax.tree.leaves(method.batch)
    row = members * sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    return max(1, min(_MAX_STEPS_PER_CALL, _BYTES_PER_CALL // max(1, row)))
