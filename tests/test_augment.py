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


@pytest.mark.parametrize("operation", OPERATIONS)
def test_every_image_has_a_strength_of_its_own(operation):
    images = jnp.broadcast_to(jax.random.normal(jax.random.key(1), (1, 16, 16, 3)), (60, 16, 16, 3))
    results = augment(jax.random.key(3), images, operations=[operation])
    different = len({bytes(np.asarray(image)) for image in results})
    assert different >= {"flip": 2, "crop": 15, "cutout": 40}.get(operation, 60)


def test_operations_are_drawn_with_equal_chance():
    chosen = []
    for seed in range(240):
        key = jax.random.key(seed)
        result = augment(key, IMAGES[:2], operations=("flip", "color"))
        flipped = [
            np.array_equal(r, i) or np.array_equal(r, i[:, ::-1])
            for r, i in zip(result, IMAGES, strict=False)
        ]
        chosen.append(all(flipped))
    assert 0.4 < np.mean(chosen) < 0.6


def drawn(operation, count=3000, size=16, image=None):
    if image is None:
        image = jnp.ones((size, size, 1))
    images = jnp.broadcast_to(image, (count, *image.shape))
    return np.asarray(augment(jax.random.key(11), images, operations=[operation]))


def test_crop_rows_and_columns_are_drawn_apart():
    place = jnp.zeros((16, 16, 1)).at[8, 8].set(1)
    at = np.argwhere(drawn("crop", image=place)[..., 0] == 1)[:, 1:]
    shifts = 8 - at
    assert {tuple(s) for s in shifts} == {(i, j) for i in range(-2, 3) for j in range(-2, 3)}
    assert abs(np.corrcoef(shifts.T)[0, 1]) < 0.1


def test_cutout_centres_are_drawn_apart():
    holes = drawn("cutout", image=jnp.ones((16, 16, 1)))[..., 0] == 0
    rows, cols = holes.any(axis=2).sum(axis=1), holes.any(axis=1).sum(axis=1)
    top, left = holes.any(axis=2)[:, 0], holes.any(axis=1)[:, 0]
    assert set(rows) == set(cols) == set(range(4, 9))
    assert 0.2 < top.mean() < 0.4
    assert abs(np.corrcoef(top, left)[0, 1]) < 0.1


def test_scale_axes_are_drawn_apart_and_within_their_range():
    # The content of one axis is the sum of what is left of a constant image along it.
    scaled = drawn("scale", size=64)[..., 0]
    rows, cols = scaled[:, :, 32].sum(axis=1), scaled[:, 32, :].sum(axis=1)
    for extent in (rows, cols):
        assert extent.min() > 64 / 1.2 - 2
        assert extent.max() == pytest.approx(64, abs=0.1)
        assert 0.4 < (extent > 63.9).mean() < 0.7
    assert abs(np.corrcoef(rows < 63.9, cols < 63.9)[0, 1]) < 0.1


def test_rotation_angles_are_uniform_within_fifteen_degrees():
    # A gradient along x turns into cos(angle) x - sin(angle) y.
    axis = (2 * jnp.arange(32) + 1) / 32 - 1
    ramp = jnp.broadcast_to(axis[None, :, None], (32, 32, 1))
    middle = drawn("rotate", image=ramp)[:, 12:20, 12:20, 0]
    slope = (middle[:, -1] - middle[:, 0]).mean(axis=1) / float(axis[19] - axis[12])
    angle = np.degrees(-np.arcsin(slope))
    assert np.abs(angle).max() == pytest.approx(15, abs=0.1)
    assert angle.std() == pytest.approx(15 / 3**0.5, rel=0.05)


def test_color_is_brightness_then_saturation_then_contrast_drawn_apart():
    image = jax.random.normal(jax.random.key(2), (4, 4, 3))
    results = drawn("color", image=image)
    grey, own = image.mean(axis=2, keepdims=True), image - image.mean(axis=2, keepdims=True)
    chroma = (results - results.mean(axis=3, keepdims=True)) / np.asarray(own)
    product = chroma.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(
        chroma, np.broadcast_to(product[:, None, None, None], chroma.shape), rtol=1e-2, atol=1e-3
    )
    luminance = results.mean(axis=3)
    contrast = np.std(luminance, axis=(1, 2)) / np.std(np.asarray(grey))
    saturation, brightness = product / contrast, luminance.mean(axis=(1, 2)) - float(image.mean())
    for draws, low, high in ((contrast, 0.5, 1.5), (saturation, 0, 2), (brightness, -0.5, 0.5)):
        assert low - 1e-3 <= draws.min() < low + 0.02 * (high - low)
        assert high - 0.02 * (high - low) < draws.max() <= high + 1e-3
    apart = np.corrcoef([contrast, saturation, brightness]) - np.eye(3)
    assert np.abs(apart).max() < 0.1


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
