"""Image files: which are opened, how deep they are read, how they are turned."""

import io
import os
import re
import socket
import struct

import numpy as np
import pytest
from image_files import jpeg_or_png, png, tiff
from PIL import Image

from ddpp_jax.data.depth import Scale
from ddpp_jax.data.pictures import quietly, read_header, unit_values, values
from ddpp_jax.errors import InputError

RNG = np.random.default_rng(0)


def sixteen(channels, most=65536):
    return RNG.integers(0, most, (5, 7, channels), dtype=np.uint16)


def saved(pixels, kind, **options):
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind, **options)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_sixteen_bits_is_read_to_the_bit(channels):
    pixels = sixteen(channels)
    header = read_header(png(pixels), "it")
    assert header == ((7, 5), channels == 1, "16-bit")
    np.testing.assert_array_equal(values(png(pixels), "it"), pixels)


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("channels", [1, 3])
def test_tiff_of_sixteen_bits_is_read_to_the_bit(order, channels):
    pixels = sixteen(channels)
    assert read_header(tiff(pixels, order=order), "it").depth == "16-bit"
    np.testing.assert_array_equal(values(tiff(pixels, order=order), "it"), pixels)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate"])
def test_compressed_grey_tiff(compression):
    pixels = sixteen(1)
    file = saved(pixels[..., 0], "TIFF", compression=compression)
    np.testing.assert_array_equal(values(file, "it"), pixels)


def test_tiff_of_which_0_is_white_is_turned_round():
    pixels = sixteen(1)
    np.testing.assert_array_equal(values(tiff(pixels, photometric=0), "it"), 65535 - pixels)


def test_tiff_of_unsigned_32_bits_does_not_become_negative():
    pixels = RNG.integers(2**31, 2**32, (5, 7, 1), dtype=np.uint32)
    assert read_header(tiff(pixels, bits=32), "it").depth == "32-bit"
    np.testing.assert_array_equal(values(tiff(pixels, bits=32), "it"), pixels)


def test_floats():
    pixels = RNG.normal(size=(5, 7)).astype(np.float32)
    file = saved(pixels, "TIFF")
    assert read_header(file, "it") == ((7, 5), True, "floating-point")
    np.testing.assert_array_equal(values(file, "it")[..., 0], pixels)


@pytest.mark.parametrize("most", [4095, 65535])
def test_grey_ppm_is_what_its_file_holds(most):
    pixels = sixteen(1, most + 1)
    file = b"P5\n7 5\n%d\n" % most + pixels.astype(">u2").tobytes()
    assert read_header(file, "it").depth == "16-bit"
    np.testing.assert_array_equal(values(file, "it"), pixels)


@pytest.mark.parametrize(
    "file",
    [
        b"P6\n7 5\n4095\n" + sixteen(3, 4096).astype(">u2").tobytes(),
        png(sixteen(2)),
        tiff(sixteen(4), photometric=5),
    ],
)
def test_deep_files_that_pillow_would_cut_are_refused(file):
    for read in (read_header, values):
        with pytest.raises(InputError, match=r"more than 8 bits in a form .*; save it as PNG"):
            read(file, "it")


def test_a_transparent_value_and_a_half_transparent_pixel_lie_over_white():
    pixels = np.array([[[7], [4000]]], np.uint16)
    file = png(pixels, chunks=[(b"tRNS", struct.pack(">H", 7))])
    unit = unit_values(values(file, "it"), Scale("16-bit", 0, 4000))
    np.testing.assert_array_equal(unit[..., 0], [[1, 1]])
    half = np.array([[[0, 0, 0, 32768]]], np.uint16)
    unit = unit_values(values(png(half), "it"), Scale("16-bit", 0, 65535))
    np.testing.assert_allclose(unit, 0.5, atol=1e-4)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_as_exif_has_it(kind, orientation):
    upright = np.kron(RNG.integers(0, 2, (3, 4)) * 200, np.ones((8, 8))).astype(np.uint8)
    # How the camera held it: what turns it back gives the upright image.
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.T,
        6: np.rot90(upright),
        7: upright[::-1, ::-1].T,
        8: np.rot90(upright, -1),
    }[orientation]
    file = jpeg_or_png(np.ascontiguousarray(stored), kind, orientation)
    assert read_header(file, "it").size == (32, 24)
    found = values(file, "it", channels=1)[..., 0]
    assert found.shape == (24, 32)
    assert np.abs(found.astype(int) - upright).mean() < 3


def test_deep_images_are_turned_too():
    pixels = sixteen(3)
    exif = Image.Exif()
    exif[274] = 6
    file = png(pixels, chunks=[(b"eXIf", exif.tobytes()[6:])])
    assert read_header(file, "it").size == (5, 7)
    np.testing.assert_array_equal(values(file, "it"), np.rot90(pixels, -1))


def test_damaged_exif_is_said_and_the_image_read():
    file = bytearray(jpeg_or_png(np.zeros((8, 8), np.uint8), "JPEG", 6))
    place = file.index(b"Exif\0\0") + 6 + 8  # How many fields it has.
    file[place : place + 2] = b"\x30\x30"
    with quietly() as said:
        assert read_header(bytes(file), "it").size == (8, 8)
    assert any("Corrupt EXIF data" in str(line.message) for line in said)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM"])
def test_plain_formats_are_read(kind):
    file = saved(np.full((6, 6), 90, np.uint8), kind)
    assert read_header(file, "it").depth == "8-bit"
    found = values(file, "it", channels=1)
    assert np.abs(found.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("kind", ["EPS", "PCX", "TGA", "ICO", "JPEG2000", "SGI", "PDF"])
def test_other_formats_are_not_opened_whatever_they_are_called(tmp_path, kind, monkeypatch):
    path = tmp_path / "x.png"
    Image.fromarray(np.zeros((32, 32, 3), np.uint8)).save(path, kind)

    def run(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", run)
    monkeypatch.setattr("os.system", run)
    with pytest.raises(InputError, match=r"x.png is not an image of a kind that is read here"):
        read_header(path, str(path))


def test_what_is_no_plain_file_is_never_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(tmp_path / "socket"))
    (tmp_path / "null").symlink_to("/dev/null")
    (tmp_path / "lost").symlink_to("nowhere")
    words = {
        "pipe": "a named pipe; wanted a plain file",
        "folder": "a folder",
        "socket": "a socket",
        "null": "a device",
        "lost": "a link to nothing",
    }
    for name, word in words.items():
        with pytest.raises(InputError, match=f"{name} is {word}"):
            read_header(tmp_path / name, name)
    listening.close()
    (tmp_path / "real").write_bytes(saved(np.zeros((6, 6), np.uint8), "PNG"))
    (tmp_path / "link").symlink_to("real")
    assert read_header(tmp_path / "link", "it").size == (6, 6)


@pytest.mark.parametrize("limit", [30, 15])
def test_images_that_are_too_large_are_one_line(monkeypatch, limit):
    file = saved(np.zeros((6, 6), np.uint8), "PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
    with quietly(), pytest.raises(InputError, match=f"more than {limit} pixels; make it smaller"):
        read_header(file, "it")


FILES = {
    "PNG": saved(RNG.integers(0, 255, (9, 9, 3), dtype=np.uint8), "PNG"),
    "deep PNG": png(sixteen(3)),
    "JPEG": jpeg_or_png(RNG.integers(0, 255, (9, 9, 3), dtype=np.uint8), "JPEG", 6),
    "GIF": saved(RNG.integers(0, 255, (9, 9), dtype=np.uint8), "GIF"),
    "TIFF": saved(RNG.integers(0, 255, (9, 9, 3), dtype=np.uint8), "TIFF", compression="tiff_lzw"),
    "deep TIFF": tiff(sixteen(3)),
    "WEBP": saved(RNG.integers(0, 255, (9, 9, 3), dtype=np.uint8), "WEBP"),
    "BMP": saved(RNG.integers(0, 255, (9, 9), dtype=np.uint8), "BMP"),
    "PPM": saved(RNG.integers(0, 255, (9, 9, 3), dtype=np.uint8), "PPM"),
}


@pytest.mark.parametrize("name", FILES)
def test_damaged_files_are_read_or_refused_in_one_line_and_nothing_else(name, capfd):
    rng = np.random.default_rng(len(name))
    whole, refusals = FILES[name], []
    with quietly():
        for number in range(80):
            file = bytearray(whole)
            if number % 4:
                for _ in range(rng.integers(1, 4)):
                    file[rng.integers(len(file))] = rng.integers(256)
            else:
                del file[rng.integers(len(file)) :]
            for read in (read_header, values):
                try:
                    read(bytes(file), "it")
                except InputError as error:
                    refusals.append(str(error))
    assert refusals
    assert all(re.fullmatch(r"it (is|has) .+", line) for line in refusals)
    shown = capfd.readouterr()
    assert (shown.out, shown.err) == ("", "")
