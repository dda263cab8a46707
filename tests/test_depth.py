"""Depth and orientation of whole datasets, and what is no plain file."""

import os

import numpy as np
import pytest
from image_files import jpeg_or_png, png
from test_names import load, refusal, zoo

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.given import read_given
from ddpp_jax.errors import InputError


def deep(folder, most, name="0.png", channels=1, seed=0):
    pixels = np.random.default_rng(seed).integers(0, most + 1, (6, 6, channels), dtype=np.uint16)
    pixels.flat[:2] = 0, most
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(png(pixels))
    return pixels


@pytest.mark.parametrize("channels", [1, 3])
def test_twelve_bits_are_kept_by_the_range_of_training_and_test_images(tmp_path, channels):
    train = [deep(tmp_path / "train" / n, 2000 + i, channels=channels) for i, n in enumerate("ab")]
    deep(tmp_path / "test" / "a", 4095, channels=channels)
    raw = load(tmp_path)
    np.testing.assert_allclose(raw.x_train, np.stack(train) / 4095, rtol=1e-6)
    assert raw.x_train.dtype == np.float32
    assert raw.x_test.max() == 1
    assert raw.notes == (
        f"pixels of {tmp_path.name} are 16-bit from 0 to 4095; taken as 0 to 1 by that range; "
        "--range LOW,HIGH overrules",
    )
    raw = load(tmp_path, range="0,2000")
    np.testing.assert_allclose(raw.x_train[0], np.clip(train[0] / 2000, 0, 1), rtol=1e-6)
    assert "0 to 2000 are taken as 0 to 1 by --range, and 1" in raw.notes[0]
    assert "% of them lie beyond it and are cut" in raw.notes[0]
    assert load(tmp_path, image_size=3, channels=4 - channels).x_train.shape == (
        2,
        3,
        3,
        4 - channels,
    )


def test_one_depth_is_wanted(tmp_path):
    zoo(tmp_path, "a", "b")
    deep(tmp_path / "b", 4095, name="9.png")
    assert f"8-bit and {tmp_path / 'b' / '9.png'} is 16-bit; nobody can tell" in refusal(tmp_path)


def test_a_range_of_eight_bits(tmp_path):
    raw = load(zoo(tmp_path, "a", "b"), range="0,100")
    np.testing.assert_allclose(np.unique(raw.x_train), np.unique(raw.x_train * 100).round() / 100)
    assert raw.x_train.max() < 0.6
    assert "8-bit from 0 to 53; 0 to 100 are taken as 0 to 1 by --range" in raw.notes[0]


def test_equal_pixels_have_no_range(tmp_path):
    for name in "ab":
        for number in "01":
            folder = tmp_path / name
            folder.mkdir(exist_ok=True)
            (folder / f"{number}.png").write_bytes(png(np.full((4, 4, 1), 9, np.uint16)))
    assert "are all 9; give other images, or --range LOW,HIGH" in refusal(tmp_path)
    assert load(tmp_path, range="0,18").x_train.max() == 0.5


@pytest.mark.parametrize("kind", [np.uint16, np.int16, np.int64, np.float64, np.float16])
def test_arrays_of_any_numbers(tmp_path, kind):
    pixels = np.arange(8 * 9).reshape(8, 3, 3).astype(kind)
    np.savez(
        tmp_path / "x.npz",
        x_train=pixels,
        y_train=np.arange(8) % 2,
        x_test=pixels[:2] + kind(9),
        y_test=[0, 1],
    )
    raw = load(tmp_path / "x.npz")
    np.testing.assert_allclose(raw.x_train[..., 0], pixels / 71, rtol=1e-3)
    assert raw.x_train.dtype == np.float32
    word = "floating-point" if np.dtype(kind).kind == "f" else np.dtype(kind).name
    assert raw.notes == (
        f"pixels of x.npz are {word} from 0 to 71; taken as 0 to 1 by that range; "
        "--range LOW,HIGH overrules",
    )
    np.testing.assert_allclose(load(tmp_path / "x.npz", range="-1,100").x_train[0, 0, 0], 1 / 101)


@pytest.mark.parametrize("text", ["", "1", "2,1", "1,1", "a,b", "0,inf", "nan,1", "1,2,3"])
def test_bad_ranges_are_refused_at_the_flag(text):
    with pytest.raises(InputError, match=r"--range is .*; wanted LOW,HIGH"):
        DataConfig(range=text)


def test_a_small_set_of_deep_images_has_the_range_of_its_data(tmp_path):
    full = [deep(tmp_path / "data" / n, 4095, name=f"{m}.png") for n in "ab" for m in range(3)]
    (tmp_path / "small").mkdir()
    for name in "ab":
        pixels = deep(tmp_path / "small" / name, 100)
    raw = load(tmp_path / "data")
    small = read_given(tmp_path / "small", DataConfig(), normalised=False, scale=raw.scale)
    np.testing.assert_allclose(small.images[1], pixels / full[0].max(), rtol=1e-6)
    with pytest.raises(InputError, match="16-bit, and nothing says which of their"):
        read_given(tmp_path / "small", DataConfig(), normalised=False)


def test_images_turned_sideways_have_one_shape(tmp_path):
    upright = np.arange(24, dtype=np.uint8).reshape(4, 6)
    for name in "ab":
        (tmp_path / name).mkdir()
        for number, orientation in enumerate((1, 6)):
            pixels = upright if orientation == 1 else np.rot90(upright)
            file = jpeg_or_png(np.ascontiguousarray(pixels), "PNG", orientation)
            (tmp_path / name / f"{number}.png").write_bytes(file)
    raw = load(tmp_path, image_size=6, test_share=0.5)
    np.testing.assert_array_equal(raw.x_train[0], raw.x_train[1])
    assert "are 4x6; wanted square ones" in refusal(tmp_path)


def test_warnings_of_pillow_are_a_line_of_ours(tmp_path, capfd):
    zoo(tmp_path, "a", "b")
    file = bytearray(jpeg_or_png(np.zeros((6, 6), np.uint8), "JPEG", 6))
    place = file.index(b"Exif\0\0") + 14
    file[place : place + 2] = b"\x30\x30"
    for name in "xy":
        (tmp_path / "a" / f"{name}.jpg").write_bytes(file)
    (note,) = load(tmp_path).notes
    assert note.startswith(f"Pillow warns of {tmp_path / 'a' / 'x.jpg'}, and of 1 more files: Corr")
    assert capfd.readouterr() == ("", "")


def test_a_pipe_among_the_images_and_in_place_of_a_file_does_not_hang(tmp_path):
    zoo(tmp_path / "zoo", "a", "b")
    os.mkfifo(tmp_path / "zoo" / "a" / "9.png")
    assert "9.png is a named pipe; wanted a plain file" in refusal(tmp_path / "zoo")
    os.mkfifo(tmp_path / "x.npz")
    assert "x.npz is a named pipe; wanted a plain file" in refusal(tmp_path / "x.npz")
    for name in ("x.npz", "x.safetensors"):
        if not (tmp_path / name).exists():
            os.mkfifo(tmp_path / name)
        with pytest.raises(InputError, match="is a named pipe"):
            read_given(tmp_path / name, DataConfig(), normalised=False)
