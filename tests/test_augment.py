"""What `augment` draws; the operations themselves are held to golden numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.test_util import check_grads

import ddpp_jax
from ddpp_jax import OPERATIONS, augment

IMAGES = jax.random.normal(jax.random.key(0), (6, 8, 8, 3))


@pytest.mark.parametrize("operation", OPERATIONS)
@pytest.mark.parametrize("shape", [(6, 8, 8, 3), (3, 7, 9, 1)])
def test_shape_and_dtype_stay_and_most_images_change(operation, shape):
    images = jax.random.normal(jax.random.key(1), shape)
    results = [augment(jax.random.key(s), images, operations=[operation]) for s in range(4)]
    assert all(r.shape == shape and r.dtype == images.dtype for r in results)
    changed = np.mean([np.any(r != images, axis=(1, 2, 3)) for r in results])
    assert changed > 0.2


def test_one_operation_for_the_call_and_a_strength_for_each_image():
    images = jnp.broadcast_to(IMAGES[:1], IMAGES.shape)
    turned = augment(jax.random.key(3), images, operations=["rotate"])
    assert len({bytes(np.asarray(image)) for image in turned}) == len(images)
    singles = {
        name: augment(jax.random.split(jax.random.key(3))[1], IMAGES, operations=[name])
        for name in OPERATIONS
    }
    assert len(singles) == 6
    drawn = [_operation_of(jax.random.key(seed)) for seed in range(40)]
    assert set(drawn) == set(OPERATIONS)


def _operation_of(key):
    """Which operation a call with this key took, told by what it does to an image."""
    result = augment(key, IMAGES)
    choice_key, draw_key = jax.random.split(key)
    taken = OPERATIONS[int(jax.random.randint(choice_key, (), 0, 6))]
    # The same draws through the named operation alone give the same images.
    from ddpp_jax.augment import _DRAWN

    np.testing.assert_allclose(result, _DRAWN[taken](draw_key, IMAGES), atol=1e-5)
    return taken


def test_flip_mirrors_about_half_of_the_images():
    images = jax.random.normal(jax.random.key(1), (400, 4, 4, 1))
    flipped = augment(jax.random.key(2), images, operations=["flip"])
    mirrored = np.all(flipped == images[:, :, ::-1], axis=(1, 2, 3))
    same = np.all(flipped == images, axis=(1, 2, 3))
    assert np.all(mirrored | same)
    assert 0.4 < mirrored.mean() < 0.6


def test_crop_moves_by_at_most_an_eighth_and_fills_with_zeros():
    images = jnp.ones((300, 16, 16, 1))
    cropped = np.asarray(augment(jax.random.key(2), images, operations=["crop"]))
    rows = cropped.max(axis=(2, 3)).sum(axis=1)
    assert set(rows) == {14, 15, 16}
    assert set(np.unique(cropped)) == {0, 1}


def test_cutout_covers_up_to_a_quarter():
    images = jnp.ones((300, 16, 16, 1))
    covered = 1 - np.asarray(augment(jax.random.key(2), images, operations=["cutout"]))
    share = covered.mean(axis=(1, 2, 3))
    assert share.max() == 0.25
    assert share.min() >= 1 / 256


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("operation", OPERATIONS)
def test_gradient_against_finite_differences(operation):
    images = IMAGES.astype(jnp.float64)
    key = jax.random.key(5)
    check_grads(
        lambda x: augment(key, jnp.asarray(x), operations=[operation]), (images,), 2, atol=1e-6
    )


def test_same_key_same_bits_and_no_operation_no_change():
    key = jax.random.key(7)
    np.testing.assert_array_equal(augment(key, IMAGES), augment(key, IMAGES))
    assert augment(key, IMAGES, operations=()) is IMAGES


def test_unknown_operation_is_refused():
    with pytest.raises(ValueError, match="'shear'"):
        augment(jax.random.key(0), IMAGES, operations=["shear"])


def test_grey_images_keep_their_saturation():
    grey = IMAGES[..., :1]
    np.testing.assert_allclose(ddpp_jax.saturation(grey, jnp.full(6, 0.9)), grey, atol=1e-6)
