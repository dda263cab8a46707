"""Small sets that other programs wrote, and what is said of bad ones."""

import pickle

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from ddpp_jax.configs import DataConfig
from ddpp_jax.data import read_given
from ddpp_jax.errors import InputError

IMAGES = np.random.default_rng(0).uniform(size=(6, 8, 8, 3)).astype(np.float32)
LABELS = np.array([0, 0, 1, 1, 2, 2])
SOFT = np.full((6, 3), 1 / 3, np.float32)


def read(path, normalised=False):
    return read_given(path, DataConfig(), normalised=normalised)


@pytest.mark.parametrize("kind", ["npz", "safetensors"])
def test_images_and_hard_labels(tmp_path, kind):
    path = tmp_path / f"set.{kind}"
    if kind == "npz":
        np.savez(path, images=IMAGES, labels=LABELS, alpha=0.02, class_names=["a", "b", "c"])
    else:
        arrays = {"images": IMAGES, "labels": LABELS, "lr": np.full((1,), 0.02, np.float32)}
        safetensors.numpy.save_file(arrays, path)
    given = read(path)
    np.testing.assert_array_equal(given.images, IMAGES)
    np.testing.assert_array_equal(given.labels, LABELS)
    assert given.alpha == pytest.approx(0.02)
    assert given.class_names == (("a", "b", "c") if kind == "npz" else None)


def test_pytorchs_layout_soft_labels_and_whole_pixels(tmp_path):
    pixels = (255 * IMAGES).astype(np.uint8)
    np.savez(tmp_path / "set.npz", images=np.moveaxis(pixels, 3, 1), labels=SOFT)
    given = read(tmp_path / "set.npz")
    np.testing.assert_array_equal(given.images, pixels)
    np.testing.assert_array_equal(given.labels, SOFT)
    assert given.alpha is None


def test_normalised_images_are_taken_only_where_they_are_promised(tmp_path):
    np.savez(tmp_path / "set.npz", images=3 * IMAGES - 1, labels=LABELS)
    with pytest.raises(InputError, match=r"floats from -0.99.* to 1.99.*; or give --normalised"):
        read(tmp_path / "set.npz")
    given = read(tmp_path / "set.npz", normalised=True)
    np.testing.assert_allclose(given.images, 3 * IMAGES - 1, atol=1e-6)


def test_a_folder_of_images(tmp_path):
    for index, label in enumerate(LABELS):
        (tmp_path / f"class {label}").mkdir(exist_ok=True)
        pixels = Image.fromarray((255 * IMAGES[index]).astype(np.uint8))
        pixels.save(tmp_path / f"class {label}" / f"{index}.png")
    given = read(tmp_path)
    np.testing.assert_array_equal(given.images, (255 * IMAGES).astype(np.uint8))
    np.testing.assert_array_equal(given.labels, LABELS)
    assert given.class_names == ("class 0", "class 1", "class 2")


BAD = {
    "no images": ({"labels": LABELS}, "has no images; wanted images and labels, it holds labels"),
    "no labels": ({"images": IMAGES}, "has no labels"),
    "empty": ({"images": IMAGES[:0], "labels": LABELS[:0]}, "wanted at least one image"),
    "flat": ({"images": IMAGES.reshape(6, -1), "labels": LABELS}, r"of shape \(6, 192\)"),
    "too few labels": ({"images": IMAGES, "labels": LABELS[:5]}, r"of shape \(5,\) for 6 images"),
    "labels below 0": ({"images": IMAGES, "labels": LABELS - 1}, "labels hold -1"),
    "labels as floats": ({"images": IMAGES, "labels": LABELS + 0.5}, "a row of probabilities"),
    "one-hot integers": ({"images": IMAGES, "labels": np.eye(3, dtype=int)[LABELS]}, "as floats"),
    "two rates": (
        {"images": IMAGES, "labels": LABELS, "lr": 0.1, "alpha": 0.2},
        "both alpha and lr",
    ),
    "no probabilities": ({"images": IMAGES, "labels": 2 * SOFT}, "that are no probabilities"),
    "NaN probabilities": ({"images": IMAGES, "labels": np.nan * SOFT}, "no probabilities"),
    "NaN": ({"images": np.nan * IMAGES, "labels": LABELS}, "NaN or infinite"),
    "whole numbers": ({"images": IMAGES.astype(int), "labels": LABELS}, "int64; wanted uint8"),
    "words": ({"images": IMAGES, "labels": np.array(list("abcabc"))}, "wanted whole numbers"),
    "rate 0": ({"images": IMAGES, "labels": LABELS, "alpha": 0.0}, "alpha is not one finite"),
    "rates": ({"images": IMAGES, "labels": LABELS, "lr": np.ones(2)}, "lr is not one finite"),
    "names": (
        {"images": IMAGES, "labels": SOFT, "class_names": ["a", "b"]},
        "3 probabilities for each image and 2 class_names",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_a_set_is_refused_in_one_line(tmp_path, case):
    arrays, words = BAD[case]
    np.savez(tmp_path / "set.npz", **arrays)
    with pytest.raises(InputError, match=words) as caught:
        read(tmp_path / "set.npz")
    assert "set.npz" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_nan_is_refused_in_normalised_images_too(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.nan * IMAGES, labels=LABELS)
    with pytest.raises(InputError, match="NaN or infinite"):
        read(tmp_path / "set.npz", normalised=True)


class Trap:
    """What a pickle would run."""

    def __reduce__(self):
        return exec, ("raise SystemExit('unpickled')",)


def test_nothing_is_unpickled(tmp_path):
    np.savez(tmp_path / "set.npz", images=np.array([Trap()], dtype=object), labels=LABELS)
    with pytest.raises(InputError, match=r"images cannot be read.*plain numbers"):
        read(tmp_path / "set.npz")
    (tmp_path / "raw.npz").write_bytes(pickle.dumps(Trap()))
    with pytest.raises(InputError, match=r"raw.npz cannot be read as an .npz file"):
        read(tmp_path / "raw.npz")


@pytest.mark.parametrize("name", ["set.npz", "set.safetensors", "set.txt"])
def test_damaged_missing_and_unknown_files(tmp_path, name):
    with pytest.raises(InputError, match=f"there is no file .*{name}"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"no set at all")
    words = "of no kind known here" if name.endswith(".txt") else "cannot be read as"
    with pytest.raises(InputError, match=words):
        read(tmp_path / name)
