import threading
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpp_jax.storage import machine
from ddpp_jax.training import over_members, side_by_side


@partial(over_members, donate=False)
def walk(member, piece, times):
    key, vector = member
    step, scale = piece
    noise = jax.random.normal(jax.random.fold_in(key, step), vector.shape)
    return key, jnp.tanh(vector + scale * times * noise)


def members(count):
    return jax.random.split(jax.random.key(0), count), jnp.ones((count, 5))


PIECES = [(0, 0.5), (1, 2.0), (2, 1.0)]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_each_member_is_what_it_is_alone_to_the_bit(count):
    _, found = walk(members(count), PIECES, 2)
    keys, vectors = members(count)
    for place in range(count):
        own = slice(place, place + 1)
        _, alone = walk((keys[own], vectors[own]), PIECES, 2)
        np.testing.assert_array_equal(found[own], alone)


def test_at_once_they_are_the_same_to_rounding(monkeypatch):
    _, found = walk(members(3), PIECES, 2)
    monkeypatch.setattr(jax, "default_backend", lambda: "cuda")
    _, at_once = walk(members(3), PIECES, 2)
    np.testing.assert_allclose(found, at_once, rtol=1e-6)


@pytest.mark.parametrize("cores", [1, 2, 8])
def test_members_go_through_the_pieces_in_order_on_any_number_of_cores(monkeypatch, cores):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(cores))
    found = side_by_side(lambda member, piece: [*member, piece], [["a"], ["b"], ["c"]], range(50))
    assert found == [[name, *range(50)] for name in "abc"]


def test_two_members_are_at_work_at_the_same_time(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(2))
    both = threading.Barrier(2, timeout=60)
    assert len(side_by_side(lambda member, _: both.wait(), [0, 1], [None])) == 2


def test_what_one_member_raises_is_raised(monkeypatch):
    monkeypatch.setattr(machine.os, "sched_getaffinity", lambda _: range(2))

    def fn(member, piece):
        if member == 1 and piece == 1:
            raise OSError("full")
        return member

    with pytest.raises(OSError, match="full"):
        side_by_side(fn, [0, 1, 2], [0, 1, 2])


def test_one_program_is_traced_once_for_all_members():
    traces = []

    @over_members
    def fn(member, piece, how):
        assert how is None
        traces.append(1)
        return member + piece

    fn(jnp.zeros((4, 2)), [1.0, 2.0], None)
    assert len(traces) == 1


def test_what_is_compiled_in_is_known_again_by_its_value(monkeypatch):
    traces = []

    @over_members
    def fn(member, piece, how):
        traces.append(how)
        return member + piece * how[0]

    for backend in ("cpu", "cuda"):  # Each by its own program.
        monkeypatch.setattr(jax, "default_backend", lambda backend=backend: backend)
        for how in ((1, "a"), (2 - 1, "".join(["a"])), (2, "a")):
            fn(jnp.zeros((3, 2)), [1.0], how)
    assert traces == 2 * [(1, "a"), (2, "a")]


@pytest.mark.parametrize("count", [1, 3])
def test_what_jax_is_told_for_a_thread_holds_for_all(count):
    with jax.enable_x64(True):
        _, found = walk((members(count)[0], jnp.ones((count, 5), jnp.float64)), PIECES, 2)
        assert found.dtype == jnp.float64
