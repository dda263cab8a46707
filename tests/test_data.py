"""The digits and the draws of real images."""

import jax
import numpy as np
import pytest
from sklearn.datasets import load_digits

from ddpp_jax.configs import DataConfig
from ddpp_jax.data import load_dataset, random_per_class

DIGITS = load_dataset(DataConfig(dataset="digits"))


def test_split_is_stratified_and_complete():
    assert len(DIGITS.y_train) + len(DIGITS.y_test) == 1797
    share = np.bincount(DIGITS.y_test) / np.bincount(np.r_[DIGITS.y_train, DIGITS.y_test])
    assert np.all((share > 0.19) & (share < 0.21))
    together = np.concatenate([DIGITS.x_train, DIGITS.x_test]) * DIGITS.std + DIGITS.mean
    ours = sorted(map(bytes, np.round(together * 16).astype(np.uint8).reshape(1797, -1)))
    theirs = sorted(map(bytes, load_digits().data.astype(np.uint8)))
    assert ours == theirs


def test_training_images_are_normalised():
    assert DIGITS.x_train.dtype == np.float32
    assert DIGITS.x_train.mean() == pytest.approx(0, abs=1e-5)
    assert DIGITS.x_train.std() == pytest.approx(1, abs=1e-5)


def test_random_images_are_of_their_class_and_differ():
    images, labels = random_per_class(jax.random.key(0), DIGITS, 7)
    np.testing.assert_array_equal(labels, np.repeat(np.arange(10), 7))
    assert len({bytes(image) for image in images}) == 70
    for image, label in zip(images, labels, strict=True):
        places = np.flatnonzero(np.all(DIGITS.x_train == image, axis=(1, 2, 3)))
        assert label in DIGITS.y_train[places]
    others, _ = random_per_class(jax.random.key(1), DIGITS, 7)
    assert np.any(images != others)
