"""What extends trajectory matching: the nearest of a student's steps, and averaged images."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from ddpp_jax.configs import TrajectoryConfig
from ddpp_jax.core import augment, flatten_params, trajectory_loss
from ddpp_jax.errors import InputError
from ddpp_jax.methods import Extensions, HParams, Pair, Parts, match_trajectories
from ddpp_jax.methods.draws import draw
from ddpp_jax.methods.matching import Variables, objective
from ddpp_jax.storage import read_rows
from ddpp_jax.training import cross_entropy

NETWORK = small.network()
KEY = jax.random.key(1)


def by_hand(images, alpha, labels, pair, batches):
    """The student after each of its steps, by a plain loop."""
    params, vectors, losses = NETWORK.unflatten(pair.start), [], []
    for batch in batches:

        def loss_fn(params, batch=batch):
            logits = NETWORK.apply_fn(params, images[batch])
            return cross_entropy(logits, labels[batch]).mean()

        loss, gradient = jax.value_and_grad(loss_fn)(params)
        params = jax.tree.map(lambda p, g: p - alpha * g, params, gradient)
        vectors.append(flatten_params(params)[0])
        losses.append(loss)
    return vectors, losses


def problem(alpha, target_step, dtype=jnp.float64):
    """A pair whose target lies near the student after one of its steps."""
    start = small.start()
    images, labels = jnp.asarray(start.images, dtype), jnp.asarray(start.labels)
    begun = jnp.asarray(small.trajectories(NETWORK)[0, 0], dtype)
    draws = draw(KEY, images=len(labels), steps=5, batch=3)
    pair = Pair(begun, begun, jnp.int32(0), jnp.int32(0))
    vectors, _ = by_hand(images, alpha, labels, pair, draws.batches)
    noise = 1e-3 * jax.random.normal(KEY, begun.shape, dtype)
    return images, labels, pair._replace(target=vectors[target_step] + noise), draws


def nearest(images, alpha, labels, pair, draws, **parts):
    """The loss of the student after the nearest of its steps, and the metrics."""
    return objective(
        Variables(images, alpha),
        labels,
        pair,
        draws,
        0.0,
        network=NETWORK,
        mask_key=KEY,
        parts=Parts(nearest=True, **parts),
    )


@pytest.mark.parametrize("target_step", [0, 2, 4])
def test_the_nearest_step_against_a_loop(target_step):
    with jax.enable_x64(True):
        alpha = jnp.asarray(0.3)
        images, labels, pair, draws = problem(alpha, target_step)

        def loss_fn(images, alpha):
            return nearest(images, alpha, labels, pair, draws)

        def expected(images, alpha):
            vectors, _ = by_hand(images, alpha, labels, pair, draws.batches)
            return trajectory_loss(vectors[target_step], pair.target, pair.start)

        (loss, metrics), found = jax.value_and_grad(loss_fn, (0, 1), has_aux=True)(images, alpha)
        wanted, by_loop = jax.value_and_grad(expected, (0, 1))(images, alpha)
        assert int(metrics["matched_step"]) == target_step + 1
        np.testing.assert_allclose(loss, wanted, rtol=1e-9)
        for mine, theirs in zip(found, by_loop, strict=True):
            scale = float(jnp.abs(theirs).max())
            np.testing.assert_allclose(mine, theirs, rtol=1e-8, atol=1e-9 * scale)
        _, losses = by_hand(images, alpha, labels, pair, draws.batches)
        np.testing.assert_allclose(metrics["student_loss"], losses[target_step], rtol=1e-9)


def test_steps_that_are_not_finite_are_not_the_nearest():
    with jax.enable_x64(True):
        alpha = jnp.asarray(1e60)  # Parameters soon are no numbers.
        images, labels, pair, draws = problem(alpha, 0)
        vectors, _ = by_hand(images, alpha, labels, pair, draws.batches)
        finite = [bool(jnp.isfinite(vector).all()) for vector in vectors]
        assert finite[0]
        assert not finite[-1]
        loss, metrics = nearest(images, alpha, labels, pair, draws)
        assert int(metrics["matched_step"]) == 1
        assert jnp.isfinite(loss)


def test_nearest_goes_with_plain_sgd_alone():
    alpha = jnp.float32(0.1)
    images, labels, pair, draws = problem(alpha, 1, jnp.float32)
    with pytest.raises(ValueError, match="plain SGD alone"):
        nearest(images, alpha, labels, pair, draws, optimizer_fn=optax.sgd)


def test_the_average_of_the_images():
    method = match_trajectories(
        NETWORK,
        small.pairs_fn(NETWORK),
        small.schedule(),
        optimizer=optax.trace(0.5),
        extended=Extensions(averaged=True),
    )
    start, target = small.trajectories(NETWORK)[0, :2]
    pair = Pair(start, target, jnp.int32(0), jnp.int32(0))
    state = method.init(KEY, small.start())
    average = np.asarray(state.variables.images)
    np.testing.assert_array_equal(method.distilled(state).images, average)
    hparams = HParams(0.0, 100.0, 1e-7, average=0.9)
    for step in range(3):
        state, _ = method.step(jax.random.fold_in(KEY, step), state, pair, hparams)
        average = 0.9 * average + 0.1 * np.asarray(state.variables.images)
    np.testing.assert_allclose(method.distilled(state).images, average, rtol=1e-5, atol=1e-6)
    assert np.abs(average - state.variables.images).max() > 1e-4
    diverged, info = method.step(KEY, state, pair._replace(target=pair.target * jnp.nan), hparams)
    assert info.skipped
    np.testing.assert_array_equal(diverged.average, state.average)


def test_an_average_that_keeps_nothing_is_the_images(tmp_path):
    settings = small.distillation(eval_every=0)
    plain = small.run(tmp_path / "plain", [small.member(tmp_path / "plain", settings)], settings)
    net = NETWORK
    method = match_trajectories(
        net,
        small.pairs_fn(net),
        small.schedule(settings),
        optimizer=optax.trace(settings.momentum),
        parts=Parts(augment_fn=partial(augment, operations=("flip",))),
        extended=Extensions(averaged=True),
    )
    member = small.member(tmp_path / "averaged", settings)
    found = small.run(tmp_path / "averaged", [member], settings, method=method)
    np.testing.assert_allclose(
        found["DDPP"].distilled.images, plain["DDPP"].distilled.images, rtol=1e-4, atol=1e-5
    )
    rows = [read_rows(tmp_path / n / "metrics.jsonl")[1:] for n in ("plain", "averaged")]
    for mine, theirs in zip(*rows, strict=True):
        assert mine["loss"] == pytest.approx(theirs["loss"], rel=1e-4)


@pytest.mark.parametrize("value", [-0.1, 1.0, 2.0])
def test_an_average_out_of_range_is_refused(value):
    with pytest.raises(InputError, match="--image-average is"):
        TrajectoryConfig(image_average=value)


def test_titles_say_what_is_added():
    settings = TrajectoryConfig(match="nearest", image_average=0.99, learn_labels=True)
    assert settings.title == ("DDPP (threshold 0.1), labels learned, nearest step, images averaged")
    assert dataclasses.replace(settings, threshold=None).title.startswith("MTT (no pruning), ")
