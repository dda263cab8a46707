"""ZCA whitening, its cache and the transforms."""

from pathlib import Path

import jax
import numpy as np
import psutil
import pytest
import safetensors.numpy

from ddpp_jax.configs import DataConfig
from ddpp_jax.data import (
    PerChannel,
    Zca,
    apply,
    fit_transform,
    load_dataset,
    load_raw,
    raw_dataset,
    transform_arrays,
    transform_from,
    undo,
    whitening,
)
from ddpp_jax.data.transforms import with_inverse
from ddpp_jax.data.whitening import fit_zca
from ddpp_jax.errors import InputError

GOLDEN = np.load(Path(__file__).parent / "goldens" / "zca.npz")
DIGITS = load_raw(DataConfig(dataset="digits"))


def zca_of(images):
    fitted = fit_zca(images)
    return transform_from({"zca_mean": fitted.mean, "zca_matrix": fitted.matrix})


def colours(count=300, size=6, dtype=np.uint8):
    """Images whose neighbouring pixels go together, as in photographs."""
    noise = np.random.default_rng(0).normal(size=(count, size, size, 3))
    pixels = 0.5 + 0.05 * np.cumsum(noise, axis=1)
    scaled = np.clip(pixels, 0, 1)
    return np.round(scaled * 255).astype(np.uint8) if dtype == np.uint8 else scaled.astype(dtype)


def small(pixels):
    labels = np.arange(len(pixels)) % 2
    return raw_dataset(
        name="small",
        class_names=("a", "b"),
        x_train=pixels,
        y_train=labels,
        x_test=pixels[:10],
        y_test=labels[:10],
    )


def test_golden():
    fitted = fit_zca(GOLDEN["train"], eps=float(GOLDEN["eps"]))
    assert fitted.matrix.dtype == np.float64
    np.testing.assert_allclose(fitted.mean, GOLDEN["mean"], atol=1e-8)
    np.testing.assert_allclose(fitted.matrix, GOLDEN["whitening"], atol=1e-8)
    for name in ("train", "new"):
        white = (GOLDEN[name].reshape(len(GOLDEN[name]), -1) - fitted.mean) @ fitted.matrix
        np.testing.assert_allclose(white, GOLDEN[f"{name}_white"].reshape(white.shape), atol=1e-8)


def test_golden_through_the_float32_transform():
    order = (0, 2, 3, 1)  # the golden file has channels first; whitening goes with the order
    zca = zca_of(np.ascontiguousarray(GOLDEN["train"].transpose(order)))
    white = apply(zca, np.ascontiguousarray(GOLDEN["new"].transpose(order), np.float32))
    np.testing.assert_allclose(white, GOLDEN["new_white"].transpose(order), atol=1e-5)


def test_many_chunks_give_what_one_gives(monkeypatch):
    whole = fit_zca(colours())
    monkeypatch.setattr(whitening, "_ROWS", 7)
    chunked = fit_zca(colours())
    np.testing.assert_allclose(chunked.matrix, whole.matrix, atol=1e-12)
    np.testing.assert_array_equal(whole.matrix, whole.matrix.T)


def test_whitened_images_have_the_covariance_of_the_formula():
    pixels = colours(dtype=np.float32)
    flat = pixels.reshape(len(pixels), -1).astype(np.float64)
    white = apply(zca_of(pixels), pixels).reshape(len(pixels), -1)
    covariance = np.cov(flat, rowvar=False)
    # (C + eps)^-1/2 C (C + eps)^-1/2, all of which commute
    expected = covariance @ np.linalg.inv(covariance + 0.1 * np.eye(len(covariance)))
    np.testing.assert_allclose(np.cov(white, rowvar=False), expected, atol=1e-5)


@pytest.mark.parametrize("zca", [False, True])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_undo_gives_the_pixels_back(zca, dtype):
    pixels = colours(dtype=dtype)
    transform = fit_transform(small(pixels), zca=zca, cache_dir=None)
    true = pixels / 255 if dtype == np.uint8 else pixels
    normal = apply(transform, pixels)
    assert normal.dtype == np.float32
    assert np.abs(normal - true).max() > 0.1
    np.testing.assert_allclose(undo(transform, normal), true, atol=2e-6)


def test_undo_does_not_clip():
    transform = PerChannel(np.full(3, 0.5, np.float32), np.full(3, 0.25, np.float32))
    bright = undo(transform, np.full((1, 2, 2, 3), 4, np.float32))
    np.testing.assert_array_equal(bright, np.full((1, 2, 2, 3), 1.5))


def test_chunks_give_what_the_whole_gives(monkeypatch):
    pixels = colours()
    transform = fit_transform(small(pixels), zca=False, cache_dir=None)
    whole = apply(transform, pixels)
    monkeypatch.setattr("ddpp_jax.data.transforms._CHUNK", 1)
    np.testing.assert_array_equal(apply(transform, pixels), whole)
    np.testing.assert_allclose(transform.mean, (pixels / 255).mean(axis=(0, 1, 2)), rtol=1e-6)
    np.testing.assert_allclose(transform.std, (pixels / 255).std(axis=(0, 1, 2)), rtol=1e-6)


def test_constant_channel_is_named():
    pixels = colours()
    pixels[..., 1] = 9
    with pytest.raises(InputError, match="channel 1 of the training images"):
        fit_transform(small(pixels), zca=False, cache_dir=None)


def test_jax_takes_the_images_without_a_copy():
    images = load_dataset(DataConfig(dataset="digits")).x_train
    assert not images.flags.writeable
    taken = jax.device_put(images)
    assert taken.unsafe_buffer_pointer() == images.ctypes.data


@pytest.mark.parametrize("zca", [False, True])
def test_arrays_make_the_same_transform_again(zca):
    transform = fit_transform(DIGITS, zca=zca, cache_dir=None)
    again = transform_from(transform_arrays(transform))
    assert type(again) is (Zca if zca else PerChannel)
    if zca:
        again = with_inverse(again)
    for ours, theirs in zip(again, transform, strict=True):
        assert ours.dtype == np.float32
        np.testing.assert_array_equal(ours, theirs)


def test_arrays_of_no_transform_are_named():
    with pytest.raises(InputError, match="has the arrays mean;"):
        transform_from({"mean": np.zeros(3, np.float32)})


def test_cache_gives_the_same_bits_and_is_used(tmp_path, monkeypatch):
    config = DataConfig(dataset="digits", zca=True)
    first = load_dataset(config, cache_dir=tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [f"zca-{first.fingerprint}.safetensors"]

    def refit(*_, **__):
        raise AssertionError("fitted again")

    monkeypatch.setattr(whitening, "fit_zca", refit)
    second = load_dataset(config, cache_dir=tmp_path)
    np.testing.assert_array_equal(second.x_train, first.x_train)
    np.testing.assert_array_equal(second.x_test, first.x_test)
    for ours, theirs in zip(second.transform, first.transform, strict=True):
        np.testing.assert_array_equal(ours, theirs)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip(path):
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(bytes(data))


def strangers(path):
    safetensors.numpy.save_file({"other": np.zeros(3)}, path)


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize("damage", [truncate, flip, strangers, empty])
def test_damaged_cache_is_named(tmp_path, damage):
    fit_transform(DIGITS, zca=True, cache_dir=tmp_path)
    (path,) = tmp_path.iterdir()
    damage(path)
    with pytest.raises(InputError, match=rf"{path.name} is damaged.*delete it"):
        fit_transform(DIGITS, zca=True, cache_dir=tmp_path)


def test_cache_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"zca-.*cannot be written"):
        fit_transform(DIGITS, zca=True, cache_dir=tmp_path / "file" / "within")


def test_whitening_beyond_the_memory_is_refused_before_it_begins(monkeypatch):
    raw = small(np.zeros((20, 224, 224, 3), np.uint8))

    class Memory:
        available = 8 * 2**30

    monkeypatch.setattr(psutil, "virtual_memory", Memory)
    monkeypatch.setattr(whitening.np, "zeros", None)
    wanted = r"224x224x3 .* need \d+\.\d+ GiB.*8.00 GiB are free; give a lower --image-size"
    with pytest.raises(InputError, match=wanted):
        fit_transform(raw, zca=True, cache_dir=None)
