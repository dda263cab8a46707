"""The mask against its written definition."""

import math
from fractions import Fraction

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from ddpp_jax import difference_mask, kept_fraction, prune_mask, random_mask

TINY = float(np.finfo(np.float32).tiny)
FLOATS = st.one_of(
    st.floats(width=32, allow_nan=True, allow_infinity=True),
    st.sampled_from([0.0, -0.0, 1e-38, 1.2e-38, -1e-38, 1e38, -1e38, 1e-45, 0.1, 1.0, -1.0]),
)
MASK = jax.jit(lambda s, t, e: prune_mask(s, t, threshold=e))
MAPPED = jax.jit(jax.vmap(lambda s, t, e: prune_mask(s, t, threshold=e), in_axes=(0, 0, None)))
THRESHOLDS = st.sampled_from([0.0, 1e-6, 0.05, 0.1, 0.5, 0.9, 1.0])


def kept_by_definition(student, target, threshold):
    """True, False, or None where rounding or subnormals leave either answer right."""
    if threshold == 0 or not (math.isfinite(student) and math.isfinite(target)):
        return True
    if 0 < abs(student) < TINY or 0 < abs(target) < TINY:
        zeroed = [0.0 if abs(x) < TINY else x for x in (student, target)]
        as_zero = kept_by_definition(*zeroed, threshold)
        return as_zero if as_zero == _exact(student, target, threshold) else None
    return _exact(student, target, threshold)


def _exact(student, target, threshold):
    if student == target == 0:
        return True
    if student == 0 or target == 0:
        return False
    ratio = Fraction(student) / Fraction(target)
    epsilon = Fraction(float(np.float32(threshold)))
    smaller = min(ratio, 1 / ratio)
    if abs(smaller - epsilon) <= epsilon / 2**22:
        return None
    return smaller >= epsilon


@given(FLOATS, FLOATS, THRESHOLDS)
@example(0.0, 0.0, 0.1)
@example(0.0, 1e38, 0.1)
@example(1e38, 1e-38, 0.1)
@example(-1e-38, 1e-38, 0.1)
@example(math.nan, 0.0, 0.1)
@example(0.0, -math.inf, 0.1)
@example(0.0, 1.0, 0.0)
def test_mask_is_as_defined(student, target, threshold):
    expected = kept_by_definition(student, target, threshold)
    mask = MASK(np.float32([student]), np.float32([target]), threshold)
    assert mask.dtype == bool
    if expected is not None:
        assert bool(mask[0]) is expected


@given(arrays(np.float32, 7, elements=FLOATS), arrays(np.float32, 7, elements=FLOATS), THRESHOLDS)
def test_mask_is_symmetric_and_the_same_under_jit_and_vmap(student, target, threshold):
    mask = prune_mask(student, target, threshold=threshold)
    np.testing.assert_array_equal(mask, prune_mask(target, student, threshold=threshold))
    np.testing.assert_array_equal(mask, MASK(student, target, threshold))
    np.testing.assert_array_equal(mask, MAPPED(student, target, threshold))


def test_no_nan_arises_on_the_way_at_finite_inputs():
    extremes = np.float32([0, -0.0, 1e-45, -1e-38, TINY, 1, -1, 1e38, -3.4e38])
    student, target = (grid.ravel() for grid in np.meshgrid(extremes, extremes))
    with jax.debug_nans(True):
        prune_mask(student, target, threshold=0.1)


def test_ratio_at_the_threshold_is_kept():
    mask = prune_mask(jnp.array([0.5, 1.0]), jnp.array([1.0, 0.5]), threshold=0.5)
    np.testing.assert_array_equal(mask, [True, True])


OPPOSED = jnp.array([1.0, -1.0, 0.0, 1e-38, jnp.nan]), jnp.array([-1.0, 1e30, 2.0, -1.0, 1.0])


@pytest.mark.parametrize("threshold", [0, 0.0, -0.0, np.float32(0), jnp.array(0.0)])
def test_a_threshold_of_zero_prunes_nothing(threshold):
    assert np.all(prune_mask(*OPPOSED, threshold=threshold))
    assert np.all(MASK(*OPPOSED, float(threshold)))
    half = [leaf.astype(jnp.bfloat16) for leaf in OPPOSED]
    assert np.all(prune_mask(*half, threshold=threshold))


def test_thresholds_mapped_over_prune_as_each_does_alone():
    thresholds = jnp.array([0.0, 0.1, 1.0])
    found = jax.vmap(lambda threshold: prune_mask(*OPPOSED, threshold=threshold))(thresholds)
    for mask, threshold in zip(found, thresholds, strict=True):
        np.testing.assert_array_equal(mask, prune_mask(*OPPOSED, threshold=threshold))


def test_pytree_is_masked_leaf_by_leaf():
    student = {"a": jnp.array([1.0, 1.0]), "b": [jnp.array([[2.0]])]}
    target = {"a": jnp.array([1.0, -1.0]), "b": [jnp.array([[0.1]])]}
    mask = prune_mask(student, target, threshold=0.1)
    np.testing.assert_array_equal(mask["a"], [True, False])
    np.testing.assert_array_equal(mask["b"][0], [[False]])
    assert kept_fraction(mask) == pytest.approx(1 / 3)


def test_no_gradient_flows_through_the_mask():
    def kept_sum(student):
        mask = prune_mask(student, jnp.array([1.0, 2.0]), threshold=0.1)
        return jnp.sum(jnp.where(mask, 3.0, 5.0))

    np.testing.assert_array_equal(jax.grad(kept_sum)(jnp.array([1.0, -2.0])), [0, 0])


@pytest.mark.parametrize("threshold", [-1e-9, -0.1, 1.5, math.nan, math.inf, jnp.array(-0.5)])
def test_threshold_out_of_range_is_refused(threshold):
    with pytest.raises(ValueError, match=r"from 0 \(prunes nothing\) to 1"):
        prune_mask(jnp.ones(2), jnp.ones(2), threshold=threshold)


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"\(2,\) against \(3,\)"):
        prune_mask(jnp.ones(2), jnp.ones(3), threshold=0.1)


def test_kept_fraction_counts_over_all_leaves():
    mask = {"a": jnp.array([True, False, True]), "b": jnp.array(True)}
    assert kept_fraction(mask) == pytest.approx(0.75)
    with pytest.raises(ValueError, match="no entries"):
        kept_fraction({"a": jnp.zeros((0,), bool)})


def test_as_many_at_random_at_other_places():
    mask = {"a": jnp.arange(60).reshape(6, 10) % 3 > 0, "b": jnp.arange(40) < 5}
    first, second = (random_mask(jax.random.key(seed), mask) for seed in (0, 1))
    for found in (first, second):
        assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, mask)
        assert kept_fraction(found) == kept_fraction(mask)
    assert any(np.any(first[name] != second[name]) for name in mask)
    # Drawn over all parameters together, half of what is kept moves between the tensors.
    assert int(first["b"].sum()) > 5


@pytest.mark.parametrize("kept", [0.0, 0.25, 0.5, 1.0])
def test_the_least_different_are_kept(kept):
    generator = np.random.default_rng(0)
    student, target = (
        {"w": generator.normal(size=(4, 5)), "b": generator.normal(size=4)} for _ in "ab"
    )
    found = difference_mask(student, target, kept=kept)
    differences = np.concatenate([np.abs(student[n] - target[n]).ravel() for n in ("b", "w")])
    places = np.concatenate([np.asarray(found[n]).ravel() for n in ("b", "w")])
    expected = np.zeros(24, bool)
    expected[np.argsort(differences)[: round(24 * kept)]] = True
    np.testing.assert_array_equal(places, expected)


def test_the_least_different_of_leaves_of_several_dtypes():
    student = {"half": jnp.array([1, 4], jnp.bfloat16), "single": jnp.array([2.0, 3.0])}
    found = difference_mask(student, jax.tree.map(jnp.zeros_like, student), kept=0.5)
    np.testing.assert_array_equal(found["half"], [True, False])
    np.testing.assert_array_equal(found["single"], [True, False])


def test_other_masks_under_jit_and_without_gradient():
    student = jnp.linspace(-1, 1, 8)

    @jax.jit
    def loss(student):
        mask = difference_mask(student, jnp.zeros(8), kept=0.5)
        return jnp.where(mask, student, 0).sum()

    np.testing.assert_array_equal(jax.grad(loss)(student), [0, 0, 1, 1, 1, 1, 0, 0])


@pytest.mark.parametrize("other", [(1,), (2,)])
def test_masks_of_unlike_shapes_are_refused(other):
    with pytest.raises(ValueError, match="differ in shape"):
        difference_mask(jnp.ones(3), jnp.ones(other), kept=0.5)
