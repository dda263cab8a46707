"""The digits, the pixels' conversions, the splits and the draws of real images."""

import jax
import numpy as np
import psutil
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from ddpp_jax.configs import DataConfig
from ddpp_jax.data import (
    load_dataset,
    load_raw,
    random_per_class,
    raw_dataset,
    require_per_class,
)
from ddpp_jax.data.pixels import colour, grey, resized
from ddpp_jax.data.sampling import per_class_subset, stratified_split
from ddpp_jax.errors import InputError

RAW = load_raw(DataConfig(dataset="digits"))
DIGITS = load_dataset(DataConfig(dataset="digits"))
NAMES = ("ant", "bee", "cat")


def test_split_is_stratified_and_complete():
    assert len(DIGITS.y_train) + len(DIGITS.y_test) == 1797
    share = np.bincount(DIGITS.y_test) / np.bincount(np.r_[DIGITS.y_train, DIGITS.y_test])
    assert np.all((share > 0.19) & (share < 0.21))
    together = np.concatenate([DIGITS.x_train, DIGITS.x_test])
    together = together * DIGITS.transform.std + DIGITS.transform.mean
    ours = sorted(map(bytes, np.round(together * 16).astype(np.uint8).reshape(1797, -1)))
    theirs = sorted(map(bytes, load_digits().data.astype(np.uint8)))
    assert ours == theirs


def test_training_images_are_normalised():
    assert DIGITS.x_train.dtype == np.float32
    assert DIGITS.x_train.mean() == pytest.approx(0, abs=1e-5)
    assert DIGITS.x_train.std() == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("dataset", [DIGITS, RAW], ids=["normalised", "raw"])
def test_random_images_are_of_their_class_and_differ(dataset):
    images, labels = random_per_class(jax.random.key(0), dataset, 7)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), 7))
    assert len({bytes(image) for image in images}) == 70
    for image, label in zip(images, labels, strict=True):
        places = np.flatnonzero(np.all(dataset.x_train == image, axis=(1, 2, 3)))
        assert label in dataset.y_train[places]
    others, _ = random_per_class(jax.random.key(1), dataset, 7)
    assert np.any(images != others)


def test_more_images_than_a_class_has_are_refused():
    fewest = int(np.bincount(RAW.y_train).min())
    require_per_class(RAW, fewest)
    with pytest.raises(InputError, match=rf"class \d has {fewest} .*--ipc {fewest + 1}"):
        require_per_class(DIGITS, fewest + 1)


def test_digits_in_colour_larger_and_fewer():
    config = DataConfig(dataset="digits", channels=3, image_size=12, per_class=5)
    raw = load_raw(config)
    assert raw.x_train.shape == (50, 12, 12, 3)
    assert raw.x_test.shape == (355, 12, 12, 3)
    np.testing.assert_array_equal(np.bincount(raw.y_train), np.full(10, 5))
    assert raw.x_train.dtype == np.float32
    np.testing.assert_array_equal(raw.x_train[..., 0], raw.x_train[..., 2])
    assert raw.fingerprint != RAW.fingerprint
    assert raw.fingerprint == load_raw(config).fingerprint


def test_digits_have_no_folder():
    with pytest.raises(InputError, match="--data-dir"):
        load_raw(DataConfig(dataset="digits", data_dir="."))


def test_grey_is_pillows():
    images = np.random.default_rng(0).integers(0, 256, (3, 5, 5, 3), dtype=np.uint8)
    expected = [np.asarray(Image.fromarray(image).convert("L")) for image in images]
    np.testing.assert_array_equal(grey(images)[..., 0], expected)
    floats = grey((images / 255).astype(np.float32))
    np.testing.assert_allclose(floats[..., 0] * 255, expected, atol=0.51)
    np.testing.assert_array_equal(grey(colour(grey(images))), grey(images))


@pytest.mark.parametrize("channels", [1, 3])
def test_resizing_averages_and_keeps_a_flat_image(channels):
    rows = np.arange(8) % 2 * np.ones((1, 8, 1))  # stripes, which only an antialiased filter blends
    stripes = np.broadcast_to(rows[..., None], (2, 8, 8, channels)).swapaxes(1, 2)
    floats = resized(np.ascontiguousarray(stripes, np.float32), 2)
    assert floats.shape == (2, 2, 2, channels)
    assert np.abs(floats - 0.5).max() < 0.1
    eights = resized((stripes * 255).astype(np.uint8), 2)
    np.testing.assert_allclose(eights / 255, floats, atol=0.003)
    flat = np.full((1, 8, 4, channels), 0.25, np.float32)
    np.testing.assert_allclose(resized(flat, 3), np.full((1, 3, 3, channels), 0.25), rtol=1e-6)


def test_split_takes_its_share_of_every_class():
    labels = np.repeat([0, 1, 2], [50, 10, 2])
    np.random.default_rng(1).shuffle(labels)
    train, test = stratified_split(labels, 0.2, 3, class_names=NAMES)
    np.testing.assert_array_equal(np.sort(np.r_[train, test]), np.arange(62))
    np.testing.assert_array_equal(np.bincount(labels[test]), [10, 2, 1])
    assert np.all(np.diff(train) > 0)
    assert np.all(np.diff(test) > 0)
    again = stratified_split(labels, 0.2, 3, class_names=NAMES)
    np.testing.assert_array_equal(again[1], test)
    other = stratified_split(labels, 0.2, 4, class_names=NAMES)
    assert not np.array_equal(other[1], test)


def test_class_too_small_to_split_or_to_draw_from_is_named():
    labels = np.array([0, 0, 1, 1, 2])
    with pytest.raises(InputError, match="class cat has 1 image"):
        stratified_split(labels, 0.5, 0, class_names=NAMES)
    with pytest.raises(InputError, match=r"class cat has 1 training images.*--per-class 2"):
        per_class_subset(labels, 2, 0, class_names=NAMES)
    assert len(per_class_subset(labels, 1, 0, class_names=NAMES)) == 3


def arrays(**changes):
    images = np.full((4, 6, 6, 3), 7, np.uint8)
    labels = np.array([0, 1, 2, 1])
    given = {
        "class_names": NAMES,
        "x_train": images,
        "y_train": labels,
        "x_test": images[:2],
        "y_test": labels[:2],
    }
    return {"name": "zoo"} | given | changes


def test_labels_become_int32():
    assert raw_dataset(**arrays(y_train=np.array([0, 1, 2, 1], np.uint8))).y_train.dtype == np.int32


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"y_train": np.array([0, 1, 1, 1])}, "class cat has no training image"),
        ({"y_train": np.array([0, 1, 3, 1])}, "training labels of zoo hold 3; wanted 0 to 2"),
        ({"y_test": np.array([0, -1])}, "test labels of zoo hold -1"),
        ({"y_test": np.array([0.0, 1.0])}, "test labels of zoo are float64"),
        ({"y_test": np.array([0])}, "test labels of zoo are of shape .* for 2 images"),
        ({"class_names": ("ant",)}, "zoo has 1 class"),
        ({"x_test": np.zeros((2, 5, 5, 3), np.uint8)}, "6x6x3, test images 5x5x3"),
        ({"x_test": np.zeros((0, 6, 6, 3), np.uint8)}, "test images of zoo .* at least one"),
        ({"x_test": np.zeros((2, 6, 6, 3), np.int64)}, "test images of zoo are int64"),
        ({"x_test": np.zeros((2, 6, 6, 3))}, "uint8, test images float32"),
        ({"x_test": np.full((2, 6, 6, 3), np.nan)}, "test images of zoo hold NaN"),
        ({"x_test": np.full((2, 6, 6, 3), 1.5)}, "test images of zoo are floats from 1.5 to 1.5"),
    ],
)
def test_wrong_arrays_are_named(changes, message):
    with pytest.raises(InputError, match=message):
        raw_dataset(**arrays(**changes))


@pytest.mark.parametrize(("shape", "message"), [((6, 5, 3), "6x5"), ((6, 6, 2), "2 channels")])
def test_wrong_shapes_are_named(shape, message):
    images = np.zeros((4, *shape), np.uint8)
    with pytest.raises(InputError, match=message):
        raw_dataset(**arrays(x_train=images, x_test=images[:2]))


def test_images_beyond_the_memory_are_refused(monkeypatch):
    class Memory:
        available = 10_000_000

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    with pytest.raises(
        InputError, match=r"1,797 images of 224x224x1 need .* MiB of memory.*--image-size"
    ):
        load_raw(DataConfig(dataset="digits", image_size=224, channels=1))


def test_held_out_images_leave_the_training_set_before_anything_is_fitted():
    whole = load_raw(DataConfig())
    kept = load_raw(DataConfig(held_out=0.25))
    assert len(kept.y_train) + len(kept.y_held) == len(whole.y_train)
    counts = np.bincount(whole.y_train)
    np.testing.assert_array_equal(np.bincount(kept.y_held), np.round(0.25 * counts).astype(int))
    together = [image.tobytes() for image in (*kept.x_train, *kept.x_held)]
    assert sorted(together) == sorted(image.tobytes() for image in whole.x_train)
    np.testing.assert_array_equal(kept.x_test, whole.x_test)
    assert kept.fingerprint != whole.fingerprint
    dataset = load_dataset(DataConfig(held_out=0.25))
    mean = dataset.transform.mean
    np.testing.assert_allclose(mean, kept.x_train.mean(axis=(0, 1, 2)), rtol=1e-4)
    assert abs(mean - whole.x_train.mean(axis=(0, 1, 2))) > 1e-6
    assert dataset.x_held.shape == kept.x_held.shape
    assert not len(load_dataset(DataConfig()).y_held)
