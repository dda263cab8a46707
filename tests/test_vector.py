"""The flat vector and the way back."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpp_jax import flatten_params

TREE = {
    "b": [jnp.arange(6.0).reshape(2, 3), jnp.array(7.0)],
    "a": {"half": jnp.array([0.1, 3.0], jnp.bfloat16), "empty": jnp.zeros((0, 4))},
}


def test_way_back_is_exact_in_structure_shape_and_dtype():
    vector, unflatten = flatten_params(TREE)
    assert vector.shape == (9,)
    back = jax.jit(unflatten)(vector)
    assert jax.tree.structure(back) == jax.tree.structure(TREE)
    for ours, theirs in zip(jax.tree.leaves(back), jax.tree.leaves(TREE), strict=True):
        assert ours.dtype == theirs.dtype
        np.testing.assert_array_equal(ours, theirs)


def test_order_is_that_of_the_leaves():
    vector, _ = flatten_params({"z": jnp.array([3.0]), "a": jnp.array([[1.0, 2.0]])})
    np.testing.assert_array_equal(vector, [1, 2, 3])


def test_a_vector_is_its_own_flat_form():
    vector, unflatten = flatten_params(jnp.array([1.0, 2.0]))
    np.testing.assert_array_equal(unflatten(vector), [1, 2])


def test_wrong_length_is_refused():
    _, unflatten = flatten_params(TREE)
    with pytest.raises(TypeError, match=r"float32\(8,\), but these parameters make float32\(9,\)"):
        unflatten(jnp.zeros(8))
    with pytest.raises(TypeError, match="bfloat16"):
        unflatten(jnp.zeros(9, jnp.bfloat16))


def test_integers_are_refused_by_name():
    with pytest.raises(TypeError, match=r"\['count'\] is int32"):
        flatten_params({"count": jnp.array([1, 2])})


def test_gradient_passes():
    def loss(vector, unflatten):
        return sum(jnp.sum(leaf**2) for leaf in jax.tree.leaves(unflatten(vector)))

    vector, unflatten = flatten_params({"a": jnp.array([1.0, -2.0]), "b": jnp.array(3.0)})
    np.testing.assert_allclose(jax.grad(loss)(vector, unflatten), [2, -4, 6])
