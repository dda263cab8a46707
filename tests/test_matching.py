"""The matching loss against closed forms and finite differences."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

from ddpp_jax import kept_fraction, trajectory_loss

STUDENT = {"a": jnp.array([1.0, 2.0]), "b": jnp.array([[3.0]])}
TARGET = {"a": jnp.array([0.0, 4.0]), "b": jnp.array([[5.0]])}
START = {"a": jnp.array([1.0, 1.0]), "b": jnp.array([[4.0]])}


def test_value_with_and_without_a_mask():
    assert trajectory_loss(STUDENT, TARGET, START) == pytest.approx((1 + 4 + 4) / (1 + 9 + 1))
    mask = {"a": jnp.array([True, False]), "b": jnp.array([[True]])}
    assert trajectory_loss(STUDENT, TARGET, START, mask=mask) == pytest.approx((1 + 4) / (1 + 1))


def test_one_at_the_start_and_zero_at_the_target():
    assert trajectory_loss(START, TARGET, START) == 1
    assert trajectory_loss(TARGET, TARGET, START) == 0


@pytest.mark.parametrize("case", ["nothing kept", "start is target where kept", "start is target"])
def test_degenerate_denominator_gives_one_with_zero_gradient(case):
    student, target, start = jnp.array([1.0, 2.0]), jnp.array([3.0, 4.0]), jnp.array([5.0, 4.0])
    mask = {
        "nothing kept": jnp.array([False, False]),
        "start is target where kept": jnp.array([False, True]),
        "start is target": None,
    }[case]
    if mask is None:
        start = target
    with jax.debug_nans(True):
        value, gradients = jax.value_and_grad(
            lambda *args: trajectory_loss(*args, mask=mask), argnums=(0, 1, 2)
        )(student, target, start)
    assert value == 1
    for gradient in gradients:
        np.testing.assert_array_equal(gradient, [0, 0])
    if case == "nothing kept":
        assert kept_fraction(mask) == 0


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_diverged_student_shows(bad):
    student = jnp.array([bad, 1.0])
    loss = trajectory_loss(student, jnp.array([1.0, 2.0]), jnp.zeros(2))
    assert not np.isfinite(loss)


def test_pruned_entries_have_no_gradient():
    mask = jnp.array([True, False])
    gradient = jax.grad(lambda s: trajectory_loss(s, jnp.ones(2), jnp.zeros(2), mask=mask))(
        jnp.array([3.0, 1e30])
    )
    np.testing.assert_allclose(gradient, [4, 0])


@pytest.mark.parametrize("size", [1e-30, 1e-18, 1e-10, 1e20, 1e30])
def test_no_overflow_and_no_underflow(size):
    target, start = jnp.array([1.0, -2.0]) * size, jnp.array([2.0, 2.0]) * size
    student = jnp.array([1.5, -2.0]) * size
    with jax.debug_nans(True):
        value, gradients = jax.value_and_grad(trajectory_loss, argnums=(0, 1, 2))(
            student, target, start
        )
    assert value == pytest.approx(0.25 / 17, rel=1e-5)
    assert gradients[0][0] * size == pytest.approx(1 / 17, rel=1e-5)
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_a_diverged_student_shows_even_without_a_distance():
    assert np.isnan(trajectory_loss(jnp.array([np.nan]), jnp.ones(1), jnp.ones(1)))


@pytest.mark.usefixtures("float64")
def test_gradient_against_finite_differences():
    keys = jax.random.split(jax.random.key(0), 3)
    student, target, start = (jax.random.normal(key, (6,), jnp.float64) for key in keys)
    mask = jnp.array([True, True, False, True, False, True])
    check_grads(lambda *xs: trajectory_loss(*xs, mask=mask), (student, target, start), order=2)


def test_shapes_and_emptiness_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        trajectory_loss(jnp.ones(2), jnp.ones(3), jnp.ones(2))
    with pytest.raises(ValueError, match="no parameters"):
        trajectory_loss({}, {}, {})
