"""Several segments of trajectories in a step, against steps of one segment each."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from ddpp_jax.configs import TrajectoryConfig
from ddpp_jax.errors import InputError
from ddpp_jax.methods import match_trajectories
from ddpp_jax.methods.schedules import plan
from ddpp_jax.methods.segments import segment_keys

KEY = jax.random.key(3)
SEGMENTS = 3
ONE = small.schedule(small.distillation(student_batch=4))


def made(segments):
    network = small.network()
    return match_trajectories(
        network,
        small.pairs_fn(network),
        ONE._replace(segments=segments),
        optimizer=optax.trace(0.0),
    )


def after(method, key, pair):
    state = method.init(KEY, small.start())
    found, info = jax.jit(method.step)(key, state, pair, small.hparams())
    return np.asarray(found.variables.images) - np.asarray(state.variables.images), info.metrics


def test_a_step_averages_the_gradients_of_its_segments():
    one, several = made(1), made(SEGMENTS)
    feed = several.feed(0, 0)
    pairs = jax.tree.map(lambda leaf: leaf[1], feed.take(2, rows=2))
    assert pairs.start.shape == (SEGMENTS, small.network().num_params)
    moved, told = after(several, KEY, pairs)
    each = [
        after(one, key, jax.tree.map(lambda leaf, n=n: leaf[n], pairs))
        for n, key in enumerate(segment_keys(KEY, SEGMENTS))
    ]
    alone = [changes for changes, _ in each]
    np.testing.assert_allclose(moved, np.mean(alone, axis=0), rtol=1e-4, atol=1e-7)
    assert np.abs(alone[0] - alone[1]).max() > 10 * np.abs(moved - np.mean(alone, axis=0)).max()
    for name in ("loss", "kept_fraction", "student_loss"):
        expected = np.mean([metrics[name] for _, metrics in each])
        np.testing.assert_allclose(told[name], expected, rtol=1e-5)
    assert (told["teacher"], told["start_epoch"]) == (pairs.teacher[0], pairs.epoch[0])


def test_the_first_segment_is_that_of_the_paper():
    single, several = plan(5, ONE), plan(5, ONE._replace(segments=SEGMENTS))
    assert len(several.teachers) == SEGMENTS * ONE.steps
    np.testing.assert_array_equal(several.teachers[::SEGMENTS], single.teachers)
    np.testing.assert_array_equal(several.epochs[::SEGMENTS], single.epochs)
    assert (several.epochs[1::SEGMENTS] != single.epochs).any()
    np.testing.assert_array_equal(
        jax.random.key_data(segment_keys(KEY, 2)[0]), jax.random.key_data(KEY)
    )


def test_what_steps_read_does_not_depend_on_where_they_begin():
    method = made(SEGMENTS)
    whole = method.feed(1, 0).take(6, rows=6)
    late = method.feed(1, 4)
    rest = late.take(2, rows=6)
    for one, other in zip(jax.tree.leaves(whole), jax.tree.leaves(rest), strict=True):
        np.testing.assert_array_equal(one[4:], other[:2])
    late.close()
    shapes = jax.tree.map(lambda leaf: leaf.shape[1:], whole)
    assert shapes == jax.tree.map(jnp.shape, jax.tree.map(jnp.zeros_like, method.batch))


def test_no_segments_are_refused():
    with pytest.raises(InputError, match="--segments is 0; wanted 1 or more"):
        TrajectoryConfig(segments=0)
