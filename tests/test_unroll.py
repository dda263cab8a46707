"""The unrolled student against a plain loop and finite differences."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
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
    check_grads(partial(matching, remat=remat), arguments, order=1, modes=["rev", "fwd"])


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
