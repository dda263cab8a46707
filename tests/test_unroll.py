"""The unrolled student against a plain loop and finite differences."""

import gc
import weakref
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads

from ddpp_jax import trajectory_loss, unroll

KEYS = jax.random.split(jax.random.key(1), 4)
FEATURES = jax.random.normal(KEYS[0], (6, 3))
TARGETS = jax.random.normal(KEYS[1], (6,))
BATCHES = jnp.array([[0, 1], [2, 3], [4, 5], [1, 4], [0, 5]])
START = {"w": jax.random.normal(KEYS[2], (3,)), "b": jnp.zeros(())}


def loss_fn(features, params, batch):
    hidden = jnp.tanh(features[batch] @ params["w"] + params["b"])
    return jnp.mean((hidden - TARGETS[batch].astype(hidden.dtype)) ** 2)


def test_equals_a_loop():
    params, losses = unroll(partial(loss_fn, FEATURES), START, BATCHES, lr=0.3)
    expected = START
    for index, batch in enumerate(BATCHES):
        loss, gradient = jax.value_and_grad(partial(loss_fn, FEATURES))(expected, batch)
        np.testing.assert_allclose(losses[index], loss, rtol=1e-6)
        expected = jax.tree.map(lambda p, g: p - 0.3 * g, expected, gradient)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-5), params, expected)


def matching(features, lr, params, *, remat):
    student, _ = unroll(
        partial(loss_fn, jnp.asarray(features)), params, BATCHES, lr=lr, remat=remat
    )
    target = jax.tree.map(lambda leaf: leaf + 0.7, START)
    return trajectory_loss(student, target, START)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("remat", [True, False])
def test_gradient_in_data_rate_and_start_against_finite_differences(remat):
    arguments = (FEATURES, jnp.array(0.3), START)
    arguments = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), arguments)
    # What is written out by hand is for reverse mode, at any order.
    modes = ["rev"] if remat else ["rev", "fwd"]
    check_grads(partial(matching, remat=remat), arguments, order=2 if remat else 1, modes=modes)


def matching_by_parts(features, lr, params, *, remat, parts):
    """Features are gathered in `batch_fn`, a factor is closed over, and the losses count too."""
    factor = features.mean()

    def batch_fn(batch):
        return features[batch], TARGETS[batch].astype(features.dtype)

    def loss_fn(params, batch):
        inputs, targets = batch
        hidden = jnp.tanh(inputs @ params["w"] + params["b"])
        return jnp.mean((hidden - targets) ** 2) * factor

    student, losses = unroll(
        loss_fn, params, BATCHES, lr=lr, batch_fn=batch_fn, parts=parts, remat=remat
    )
    target = jax.tree.map(lambda leaf: leaf + 0.7, START)
    return trajectory_loss(student, target, START) + jnp.sum(losses**2)


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("parts", [1, 2])
def test_by_hand_and_by_parts_are_plain_autodiff(parts):
    arguments = (FEATURES, jnp.array(0.3), START)
    arguments = jax.tree.map(lambda leaf: jnp.asarray(leaf, jnp.float64), arguments)

    def gradients(**how):
        return jax.value_and_grad(partial(matching_by_parts, **how), argnums=(0, 1, 2))

    expected = gradients(remat=False, parts=1)(*arguments)
    found = jax.jit(gradients(remat=True, parts=parts))(*arguments)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), found, expected)
    both = jax.tree.map(lambda leaf: jnp.stack([leaf, 1.1 * leaf]), arguments)
    at_once = jax.vmap(gradients(remat=True, parts=parts))(*both)
    first = jax.tree.map(lambda leaf: leaf[0], at_once)
    jax.tree.map(partial(np.testing.assert_allclose, rtol=1e-12, atol=1e-14), first, expected)


@pytest.mark.usefixtures("float64")
def test_differentiable_in_what_it_steps_over():
    xs = jnp.asarray(FEATURES, jnp.float64)

    def final(xs, remat):
        def loss_fn(params, x):
            return jnp.sum((params - x) ** 4)

        return jnp.sum(unroll(loss_fn, jnp.zeros(3), xs, lr=1, remat=remat)[0] ** 2)

    found, expected = (jax.grad(partial(final, remat=remat))(0.1 * xs) for remat in (True, False))
    np.testing.assert_allclose(found, expected, rtol=1e-12)


@pytest.mark.parametrize("order", ["gradient of a map", "map of gradients"])
def test_whole_numbers_and_keys_that_the_functions_close_over_may_be_mapped(order):
    def final(features, order, key):
        def batch_fn(batch):
            return features[order[batch]], jax.random.normal(key, batch.shape)

        def loss_fn(params, batch):
            return jnp.mean((jnp.tanh(batch[0] @ params) - batch[1]) ** 2)

        return jnp.sum(unroll(loss_fn, jnp.ones(3), BATCHES, lr=0.1, batch_fn=batch_fn)[0] ** 2)

    mapped = jnp.array([[0, 1, 2, 3, 4, 5], [5, 4, 3, 2, 1, 0]]), KEYS[:2]
    expected = sum(jax.grad(final)(FEATURES, *(leaf[n] for leaf in mapped)) for n in (0, 1))
    if order == "gradient of a map":
        both = jax.vmap(final, (None, 0, 0))
        found = jax.grad(lambda features: both(features, *mapped).sum())(FEATURES)
    else:
        found = jax.vmap(jax.grad(final), (None, 0, 0))(FEATURES, *mapped).sum(axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_what_the_functions_close_over_is_not_kept_alive():
    def once():
        features = FEATURES + 1
        params, _ = unroll(partial(loss_fn, features), START, BATCHES, lr=0.3)
        jax.block_until_ready(params)
        return weakref.ref(features)

    kept = once()
    gc.collect()
    assert kept() is None


@pytest.mark.parametrize("remat", [True, False])
def test_no_steps_leave_the_start(remat):
    params, losses = unroll(partial(loss_fn, FEATURES), START, BATCHES[:0], lr=0.1, remat=remat)
    jax.tree.map(np.testing.assert_array_equal, params, START)
    assert losses.shape == (0,)


@pytest.mark.parametrize("parts", [-1, 0, 3, 4])
def test_a_minibatch_that_cannot_be_cut_is_refused(parts):
    with pytest.raises(ValueError, match=rf"\(2,\).* cannot be cut into {parts} equal parts"):
        unroll(partial(loss_fn, FEATURES), START, BATCHES, lr=0.1, parts=parts)


def test_parts_hold_activations_for_one_part_only():
    def temporary_bytes(parts):
        def distance(inputs):
            def loss(params, batch):
                hidden = batch
                for _ in range(4):
                    hidden = jnp.tanh(hidden @ params)
                return jnp.mean(hidden**2)

            ended, _ = unroll(
                loss, jnp.eye(8), jnp.arange(3), lr=0.1, batch_fn=lambda x: inputs, parts=parts
            )
            return jnp.sum(ended)

        lowered = jax.jit(jax.grad(distance)).lower(jnp.ones((4096, 8)))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    activation = 4096 * 8 * 4
    # The minibatch itself and its cotangent are there in any case.
    assert temporary_bytes(1) > 2 * temporary_bytes(16)
    assert temporary_bytes(16) < 4 * activation


def test_remat_holds_activations_for_one_step_only():
    def temporary_bytes(steps, *, remat):
        def distance(inputs):
            def loss(params, _):
                hidden = inputs
                for _ in range(4):
                    hidden = jnp.tanh(hidden @ params)
                return jnp.mean(hidden**2)

            return jnp.sum(unroll(loss, jnp.eye(8), jnp.arange(steps), lr=0.1, remat=remat)[0])

        lowered = jax.jit(jax.grad(distance)).lower(jnp.ones((4096, 8)))
        return lowered.compile().memory_analysis().temp_size_in_bytes

    activation = 4096 * 8 * 4
    assert temporary_bytes(40, remat=True) - temporary_bytes(10, remat=True) < activation
    assert temporary_bytes(40, remat=False) - temporary_bytes(10, remat=False) > 30 * activation


def test_dtypes_survive():
    params = {"half": jnp.ones(3, jnp.bfloat16), "single": jnp.ones(3)}

    def loss(p, _):
        return jnp.sum(p["half"].astype(jnp.float32) * p["single"])

    stepped, losses = unroll(loss, params, jnp.arange(2), lr=jnp.array(0.1))
    assert stepped["half"].dtype == jnp.bfloat16
    assert stepped["single"].dtype == jnp.float32
    assert losses.shape == (2,)


def momentum(rate):
    return optax.sgd(rate, momentum=0.9)


def quadratic(params, batch):
    return jnp.mean((batch @ params["w"] - jnp.sin(batch.sum(axis=1))) ** 2)


@pytest.mark.parametrize("parts", [1, 2])
def test_another_optimiser_is_what_a_loop_over_it_gives(float64, parts):
    batches = jax.random.normal(jax.random.key(0), (5, 4, 3))
    params = {"w": jnp.array([0.3, -0.2, 0.5])}
    how = {"lr": 0.1, "optimizer_fn": momentum, "parts": parts}
    found, losses = unroll(quadratic, params, batches, **how)
    optimizer, expected, seen = momentum(0.1), params, []
    state = optimizer.init(expected)
    for batch in batches:
        loss, gradient = jax.value_and_grad(quadratic)(expected, batch)
        updates, state = optimizer.update(gradient, state)
        expected = optax.apply_updates(expected, updates)
        seen.append(loss)
    np.testing.assert_allclose(found["w"], expected["w"], rtol=1e-12)
    np.testing.assert_allclose(losses, seen, rtol=1e-12)


@pytest.mark.parametrize("remat", [True, False])
@pytest.mark.parametrize("parts", [1, 2])
def test_the_gradient_through_another_optimiser_is_exact(float64, parts, remat):
    batches = jax.random.normal(jax.random.key(0), (3, 4, 3))

    def ended(start, rate, batches):
        how = {"lr": rate, "optimizer_fn": momentum, "parts": parts, "remat": remat}
        params, losses = unroll(quadratic, {"w": start}, batches, **how)
        return jnp.sum(params["w"] ** 3) + losses.sum()

    check_grads(ended, (jnp.array([0.3, -0.2, 0.5]), jnp.array(0.1), batches), 1, ["rev"])


def test_plain_sgd_as_another_optimiser_is_plain_sgd(float64):
    batches = jax.random.normal(jax.random.key(0), (4, 4, 3))
    params = {"w": jnp.array([0.3, -0.2, 0.5])}
    ours = unroll(quadratic, params, batches, lr=0.1)
    theirs = unroll(quadratic, params, batches, lr=0.1, optimizer_fn=optax.sgd)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-12), ours, theirs)
