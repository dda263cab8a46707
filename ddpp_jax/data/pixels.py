"""Images of any kind brought to the channels and the size that are wanted."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import numpy as np
from jaxtyping import Float32, Integer, Shaped, UInt8
from PIL import Image

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.depth import EIGHT_BITS, Extent, Scale, extent, joined
from ddpp_jax.data.pictures import Encoded, eight_bits, quietly, unit_values, values
from ddpp_jax.data.raw import Indices, Part, Pixels, shape_words
from ddpp_jax.errors import InputError
from ddpp_jax.storage import cores

Result = TypeVar("Result")

_THREADS_FROM = 200 * 200
"""Pixels of an image from which on threads pay; below, they hinder one another."""
_BLOCK = 64
"""Images that a pool of threads may hold at once."""


def grey(images: Pixels) -> Pixels:
    """Grey images from colour ones, by the luma of ITU-R 601 as Pillow has it."""
    if images.dtype == np.uint8:
        return _each(images, (*images.shape[1:3], 1), _grey_image)
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.clip(images @ weights, 0, 1)[..., None]


def colour(images: Pixels) -> Pixels:
    """Colour images whose three channels are all the grey one."""
    return np.repeat(images, 3, axis=-1)


def resized(images: Pixels, size: int) -> Pixels:
    """Square images, stretched by Pillow's antialiased bilinear filter."""
    return _each(images, (size, size, images.shape[-1]), lambda image: _resize(image, size))


def converted(images: Pixels, config: DataConfig) -> Pixels:
    """The images in the channels and the size that the config asks for."""
    channels, size = config.channels, config.image_size
    if channels is not None and channels != images.shape[-1]:
        images = grey(images) if channels == 1 else colour(images)
    if size is not None and images.shape[1:3] != (size, size):
        images = resized(images, size)
    return images


def converted_shape(shape: tuple[int, int, int], config: DataConfig) -> tuple[int, int, int]:
    """The height, width and channels that `converted` gives."""
    height, width, channels = shape
    size = config.image_size
    return (size or height, size or width, config.channels or channels)


def array_part(images: Pixels, labels: Integer[np.ndarray, " images"], config: DataConfig) -> Part:
    """A part of a source that is already in memory."""

    def read(chosen: Indices) -> tuple[Pixels, Integer[np.ndarray, " chosen"]]:
        whole = len(chosen) == len(images)
        return converted(images if whole else images[chosen], config), labels[chosen]

    return Part(length=len(labels), labels=lambda: labels, read=read)


def pixels_of(
    file: Encoded, *, channels: int, size: int | None, scale: Scale | None, what: str
) -> Shaped[np.ndarray, "height width channels"]:
    """The pixels of an image file: uint8, or float32 from 0 to 1 where there is a scale.

    Args:
        file: the file.
        channels: 1 for grey, 3 for colour.
        size: pixels a side, antialiased; none keeps the image as it is.
        scale: which values are black and white; none takes eight bits as they are.
        what: names it in a message.

    Raises:
        InputError: it cannot be read, or is of another depth than the scale.
    """
    if scale is None:
        return eight_bits(file, channels=channels, size=size, what=what)
    found = values(file, what)
    eight = found.dtype == np.uint8
    if eight != (scale.kind == EIGHT_BITS):
        depth = EIGHT_BITS if eight else "deeper"
        raise InputError(f"{what} is {depth}, and others are {scale.kind}; convert it")
    images = unit_values(found, scale)[None]
    if channels != images.shape[-1]:
        images = grey(images) if channels == 1 else colour(images)
    if size is not None and images.shape[1:3] != (size, size):
        images = resized(images, size)
    return images[0]


def extent_of(
    files: Sequence[int],
    read: Callable[[int], tuple[Encoded, str]],
    given: tuple[float, float] | None,
    *,
    pixels: int,
) -> Extent:
    """Between which values the pixels of image files lie.

    Args:
        files: indices of them, at least one.
        read: the file at an index, and its name for a message.
        given: a range, of which is told what lies beyond.
        pixels: in an image, about.

    Raises:
        InputError: one cannot be read.
    """

    def one(index: int) -> Extent:
        found = values(*read(index))
        solid = found[..., : 3 if found.shape[-1] >= 3 else 1]
        return extent(solid, given)

    with quietly():
        return joined(_in_order(np.asarray(files), one, threads=pixels >= _THREADS_FROM))


def stacked(
    chosen: Indices,
    read: Callable[[int], Shaped[np.ndarray, "height width channels"]],
    *,
    pixels: int,
    what: Callable[[int], str],
) -> Pixels:
    """Images read one by one into one array; in threads where that pays.

    Args:
        chosen: indices of images, at least one.
        read: the image at an index.
        pixels: in an image as it is stored, about.
        what: names the image at an index in a message.

    Raises:
        InputError: images are not of one shape.
    """
    images = np.empty((0,), np.uint8)
    with quietly():
        for place, image in enumerate(_in_order(chosen, read, threads=pixels >= _THREADS_FROM)):
            if place == 0:
                images = np.empty((len(chosen), *image.shape), image.dtype)
            if image.shape != images.shape[1:]:
                raise InputError(
                    f"{what(int(chosen[0]))} is {shape_words(images.shape[1:])} and "
                    f"{what(int(chosen[place]))} is {shape_words(image.shape)}; give --image-size"
                )
            images[place] = image
    return images


def _in_order(chosen: Indices, read: Callable[[int], Result], *, threads: bool) -> Iterator[Result]:
    if not threads:
        yield from (read(int(index)) for index in chosen)
        return
    with ThreadPoolExecutor(min(cores(), _BLOCK)) as pool:
        for start in range(0, len(chosen), _BLOCK):
            yield from pool.map(read, chosen[start : start + _BLOCK].tolist())


def _each(
    images: Pixels,
    shape: tuple[int, int, int],
    convert: Callable[[Shaped[np.ndarray, "..."]], Shaped[np.ndarray, "..."]],
) -> Pixels:
    result = np.empty((len(images), *shape), images.dtype)
    for place, image in enumerate(images):
        result[place] = convert(image)
    return result


def _grey_image(image: UInt8[np.ndarray, "height width 3"]) -> UInt8[np.ndarray, "height width 1"]:
    return np.asarray(Image.fromarray(image).convert("L"))[..., None]


def _resize(image: Shaped[np.ndarray, "..."], size: int) -> Shaped[np.ndarray, "..."]:
    if image.dtype == np.uint8:
        pixels = np.squeeze(image, -1) if image.shape[-1] == 1 else image
        return np.asarray(_stretch(pixels, size)).reshape(size, size, -1)
    layers = [_stretch(np.ascontiguousarray(layer), size) for layer in np.moveaxis(image, -1, 0)]
    return np.clip(np.stack(layers, axis=-1), 0, 1)


def _stretch(
    pixels: UInt8[np.ndarray, "..."] | Float32[np.ndarray, "..."], size: int
) -> Shaped[np.ndarray, "..."]:
    stretched = Image.fromarray(pixels).resize((size, size), Image.Resampling.BILINEAR)
    return np.asarray(stretched)
