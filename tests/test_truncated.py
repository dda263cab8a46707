"""Truncated unrolling: against plain autodiff, an Adam by hand and finite differences."""

import dataclasses
import json
import shlex
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from jax.test_util import check_grads
from processes import call

from ddpp_jax.configs import UnrolledConfig, setting
from ddpp_jax.core import augment
from ddpp_jax.errors import InputError
from ddpp_jax.methods import (
    Inner,
    RealImages,
    RealSource,
    UnrolledHParams,
    pool_like,
    unroll_truncated,
)
from ddpp_jax.methods.draws import draw
from ddpp_jax.methods.pixels import Trained, descend_trained, labels_of
from ddpp_jax.methods.truncated import evaluated
from ddpp_jax.methods.windows import begin_window, through_window
from ddpp_jax.sets import read_distilled
from ddpp_jax.training import length

KEY = jax.random.key(2)
CROP = partial(augment, operations=("crop",))
NETWORK = small.network()
ADAM = Inner(3, 7, "random", 0.01, adam=True, batch=3, augment_fn=CROP)
SGD = ADAM._replace(adam=False, rate=0.1)


def begin(trained, labels, draws, inner, key=KEY):
    """The network where the window begins."""
    own = labels_of(trained, labels)
    return begin_window(key, trained.images, own, draws, network=NETWORK, inner=inner)


def problem(dtype, inner, *, soft=False):
    """A set, its draws, and a network in the middle of its training on it."""
    start = small.start()
    labels = jnp.asarray(start.labels)
    images = jnp.asarray(start.images, dtype)
    rows = jax.nn.softmax(jax.random.normal(KEY, (len(labels), 3), dtype)) if soft else None
    trained = Trained(images, rows)
    draws = draw(KEY, images=len(labels), steps=inner.horizon, batch=inner.batch)
    window = begin(trained, labels, draws, inner)
    wide = jax.tree.map(
        lambda x: x.astype(dtype) if jnp.issubdtype(x.dtype, jnp.floating) else x, window
    )
    return trained, labels, wide, draws


def real(dtype):
    data = small.dataset()
    return jnp.asarray(data.x_train[:9], dtype), jnp.asarray(data.y_train[:9])


def by_hand(trained, labels, window, draws, inner):
    """The loss after the window, by a loop without checkpoints and an Adam of its own."""
    params, state, first = window
    targets = labels if trained.labels is None else trained.labels
    moments = (state[0].mu, state[0].nu, int(state[0].count)) if inner.adam else None
    for n in range(int(first), int(first) + inner.window):
        places, key = draws.batches[n], draws.augment_keys[n]
        images = CROP(key, trained.images[places])

        def cost(params, images=images, own=targets[places]):
            scores = jax.nn.log_softmax(NETWORK.apply_fn(params, images))
            rows = own if own.ndim == 2 else jax.nn.one_hot(own, 3)
            return -(rows * scores).sum(axis=1).mean()

        gradient = jax.grad(cost)(params)
        if moments is None:
            params = jax.tree.map(lambda p, g: p - inner.rate * g, params, gradient)
            continue
        mean, square, count = moments
        count += 1
        mean = jax.tree.map(lambda m, g: 0.9 * m + 0.1 * g, mean, gradient)
        square = jax.tree.map(lambda v, g: 0.999 * v + 0.001 * g * g, square, gradient)
        params = jax.tree.map(
            lambda p, m, v, c=count: (
                p - inner.rate * (m / (1 - 0.9**c)) / (jnp.sqrt(v / (1 - 0.999**c) + 1e-16) + 1e-8)
            ),
            params,
            mean,
            square,
        )
        moments = (mean, square, count)
    images, own = real(trained.images.dtype)
    scores = jax.nn.log_softmax(NETWORK.apply_fn(params, images))
    return -jnp.take_along_axis(scores, own[:, None], axis=1).mean()


def as_the_method(trained, labels, window, draws, inner, *, remat=True):
    own = labels_of(trained, labels)
    params = through_window(
        trained.images, own, window, draws, network=NETWORK, inner=inner, remat=remat
    )
    return evaluated(NETWORK, params, *real(trained.images.dtype))[0]


@pytest.mark.parametrize("soft", [False, True], ids=["hard", "soft"])
@pytest.mark.parametrize("inner", [ADAM, SGD], ids=["adam", "sgd"])
def test_gradients_against_a_loop_by_hand(inner, soft):
    with jax.enable_x64(True):
        trained, labels, window, draws = problem(jnp.float64, inner, soft=soft)
        rest = (labels, window, draws, inner)
        value, gradient = jax.value_and_grad(as_the_method)(trained, *rest)
        expected, by_loop = jax.value_and_grad(by_hand)(trained, *rest)
        np.testing.assert_allclose(value, expected, rtol=1e-9)
        scale = float(jnp.abs(by_loop.images).max())
        np.testing.assert_allclose(gradient.images, by_loop.images, rtol=1e-9, atol=1e-9 * scale)
        if soft:
            np.testing.assert_allclose(gradient.labels, by_loop.labels, rtol=1e-8, atol=1e-11)
        plain = jax.grad(partial(as_the_method, remat=False))(trained, *rest)
        np.testing.assert_allclose(plain.images, gradient.images, rtol=1e-9, atol=1e-9 * scale)


def test_gradients_against_finite_differences():
    with jax.enable_x64(True):
        trained, *rest = problem(jnp.float64, SGD, soft=True)
        check_grads(
            lambda t: as_the_method(jax.tree.map(jnp.asarray, t), *rest, SGD),
            (trained,),
            order=1,
            modes=("rev",),
        )


def test_no_gradient_comes_from_before_the_window():
    whole = ADAM._replace(placement="fixed", window=7)
    trained, labels, window, draws = problem(jnp.float32, whole)
    assert window.first == 0
    fresh = NETWORK.init_fn(KEY)
    assert jax.tree.map(jnp.shape, window.params) == jax.tree.map(jnp.shape, fresh)

    def before(images):
        return length(begin(Trained(images, None), labels, draws, ADAM).params)

    np.testing.assert_array_equal(jax.grad(before)(trained.images), 0)


def test_the_window_goes_on_with_the_state_of_the_optimiser():
    """A window that begins later leaves the network where one long training does."""
    trained, labels, _, draws = problem(jnp.float32, ADAM)
    ends = []
    for window in (3, 7):
        inner = ADAM._replace(placement="fixed", window=window)
        begun = begin(trained, labels, draws, inner)
        assert begun.first == 7 - window
        ends.append(
            through_window(trained.images, labels, begun, draws, network=NETWORK, inner=inner)
        )
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5), *ends)


def test_where_windows_begin():
    trained, labels, _, draws = problem(jnp.float32, ADAM)
    first = jax.jit(
        lambda key, inner: begin(trained, labels, draws, inner, key).first,
        static_argnames="inner",
    )
    firsts = {
        place: {int(first(jax.random.key(n), ADAM._replace(placement=place))) for n in range(40)}
        for place in ("fixed", "random", "adaptive")
    }
    assert firsts["fixed"] == {4}
    assert firsts["random"] == {0, 1, 2, 3, 4}
    assert firsts["adaptive"] <= {0, 1, 2, 3, 4}
    assert len(firsts["adaptive"]) > 1


def make(**changes):
    data = small.dataset()
    given = {"inner": ADAM, "learns_labels": False} | changes
    return unroll_truncated(
        NETWORK,
        RealSource(
            lambda seed, done: RealImages(data.x_train, data.y_train),
            pool_like((4, 4, 1), data.y_train),
            4,
        ),
        optimizer=optax.scale_by_adam(),
        **given,
    )


def test_a_gradient_beyond_twice_its_usual_length_is_cut():
    method = make()
    pool = method.feed(0, 0).take(1, rows=1)
    state = method.init(KEY, small.start())
    hparams = UnrolledHParams(0.1)
    step = jax.jit(method.step)
    first, info = step(KEY, state, pool, hparams)
    norm = float(info.metrics["gradient_norm"])
    assert float(first.usual_norm) == pytest.approx(norm)
    short = state._replace(usual_norm=jnp.float32(norm / 100))
    cut, _ = step(KEY, short, pool, hparams)
    assert float(cut.usual_norm) == pytest.approx(0.9 * norm / 100 + 0.1 * norm, rel=1e-5)
    means = [float(length(s.opt_state.mu.images)) for s in (first, cut)]
    assert means[0] == pytest.approx(0.1 * norm, rel=1e-5)
    assert means[1] == pytest.approx(0.1 * 2 * float(cut.usual_norm), rel=1e-5)


def test_learned_labels_stay_probabilities():
    method = make(learns_labels=True)
    pool = method.feed(0, 0).take(1, rows=1)
    state = method.init(KEY, small.start())
    after, info = jax.jit(method.step)(KEY, state, pool, UnrolledHParams(0.1, 0.2))
    assert not info.skipped
    rows = np.asarray(method.distilled(after).labels)
    np.testing.assert_allclose(rows.sum(axis=1), 1, rtol=1e-5)
    assert rows.min() >= 0
    assert np.any(rows != np.asarray(state.trained.labels))
    still = descend_trained(state.trained, state.trained, 0.1, 0.0)
    np.testing.assert_allclose(still.labels, state.trained.labels, atol=1e-6)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"window": 70, "horizon": 60}, "--window 70 is longer than --horizon 60"),
        ({"window": 0}, "--window"),
        ({"network_rate": 0.0}, "--network-rate"),
        ({"label_rate": -1.0}, "--label-rate"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        UnrolledConfig(**changes)


def test_published_settings():
    ten = setting("cifar10-ipc10", "bptt").distillation
    assert (ten.window, ten.horizon, ten.placement, ten.real_batch) == (60, 200, "random", 500)
    one = setting("cifar100-ipc1", "bptt").distillation
    assert (one.window, one.horizon, one.placement, one.learn_labels) == (90, 130, "fixed", True)
    assert dataclasses.replace(one, learn_labels=False).title == "BPTT (fixed window)"


def test_the_command_with_learned_labels_and_another_window(tmp_path):
    flags = shlex.split(
        "--method bptt --width 8 --depth 1 --augment crop --steps 6 --networks 2 --eval-epochs 20 "
        "--random-draws 1 --eval-every 3 --real-batch 20 --window 3 --horizon 6 --learn-labels "
        "--placement adaptive --network-optimizer sgd --network-rate 0.05 --out run"
    )
    done = call(tmp_path, "distill", *flags)
    assert done.returncode == 0, done.stderr
    assert "a window of 3 steps by the gradients in 6 of sgd at 0.05" in done.stdout
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    found = {row["method"]: row["accuracies"] for row in rows}
    title, random = "BPTT (adaptive window) (labels learned)", "random real images"
    soft = f"{random}, labels of {title}"
    assert list(found) == [random, title, soft]
    # The same images and networks, and other labels.
    assert found[random] != found[soft]
    small_set = read_distilled(tmp_path / "run" / "distilled.safetensors")
    assert small_set.labels.shape == (10, 10)
    config = json.loads((tmp_path / "run" / "config.json").read_text())["config"]
    assert config["distillation"]["placement"] == "adaptive"
    refused = call(tmp_path, "distill", *flags[:-2], "--student-batch", "3", "--out", "other")
    assert refused.returncode == 2
    assert "--student-batch 3 does not divide the 10 distilled images" in refused.stderr
