"""Images of any kind brought to the channels and the size that are wanted."""

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import cache
from typing import NamedTuple, TypeVar

import numpy as np
from jaxtyping import Int32, Integer, Shaped
from PIL import Image

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.checks import ByIndex, Pixels, shape_words
from ddpp_jax.data.dataset import Indices, Part
from ddpp_jax.data.depth import EIGHT_BITS, Extent, Scale, extent, fit_scale, joined, to_unit
from ddpp_jax.data.pictures import Encoded, Header, quietly, unit_values, values
from ddpp_jax.errors import InputError
from ddpp_jax.storage import cores

Result = TypeVar("Result")

_THREADS_FROM = 200 * 200
"""Pixels of an image from which on threads pay; below, they hinder one another."""
_BILINEAR = Image.Resampling.BILINEAR
_BLOCK = 64
"""Images that a pool of threads may hold at once."""


class Picture(NamedTuple):
    """An image file, its label, and its name for a message."""

    file: Encoded
    label: int
    what: str


class Pictures(NamedTuple):
    """Image files that are not read yet.

    Attributes:
        length: how many.
        get: the one at an index.
    """

    length: int
    get: Callable[[int], Picture]


def grey(images: Pixels) -> Pixels:
    """Grey images from colour ones, by the luma of ITU-R 601 as Pillow has it."""
    if images.dtype == np.uint8:
        shape = (*images.shape[1:3], 1)
        return _each(images, shape, lambda image: np.asarray(Image.fromarray(image).convert("L")))
    weights = np.array([0.299, 0.587, 0.114], np.float32)
    return np.clip(images @ weights, 0, 1)[..., None]


def colour(images: Pixels) -> Pixels:
    """Colour images whose three channels are all the grey one."""
    return np.repeat(images, 3, axis=-1)


def resized(images: Pixels, size: int) -> Pixels:
    """Square images, stretched by Pillow's antialiased bilinear filter."""
    return _each(images, (size, size, images.shape[-1]), lambda image: _stretched(image, size))


def middle(images: Pixels) -> Pixels:
    """The largest square in the middle of each image."""
    height, width = images.shape[1:3]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return images[:, top : top + side, left : left + side]


def converted(images: Pixels, config: DataConfig) -> Pixels:
    """The images in the channels, cut and of the size that are wanted; otherwise as they are."""
    channels, size = config.channels, config.image_size
    if channels is not None and channels != images.shape[-1]:
        images = grey(images) if channels == 1 else colour(images)
    if config.crop:
        images = middle(images)
    if size is not None and images.shape[1:3] != (size, size):
        images = resized(images, size)
    return images


def converted_shape(shape: tuple[int, int, int], config: DataConfig) -> tuple[int, int, int]:
    """The height, width and channels of images after their conversion."""
    height, width, channels = shape
    if config.crop:
        height = width = min(height, width)
    size = config.image_size
    return (size or height, size or width, config.channels or channels)


def array_part(
    images: ByIndex,
    labels: Integer[np.ndarray, " images"],
    config: DataConfig,
    scale: Scale | None = None,
) -> Part:
    """A part of a source that is an array, in memory or in a file.

    Args:
        images: uint8, floats from 0 to 1, or any numbers with a scale.
        labels: one for each.
        config: the channels and the size.
        scale: brings pixels to the scale from 0 to 1, if anything does.
    """

    def read(chosen: Indices) -> tuple[Pixels, Integer[np.ndarray, " chosen"]]:
        every = isinstance(images, np.ndarray) and len(chosen) == len(images)
        found = np.asarray(images if every else images[chosen])
        if scale is not None:
            found = to_unit(found, scale)
        elif found.dtype != np.uint8:
            found = found.astype(np.float32, copy=False)
        return converted(found, config), labels[chosen]

    return Part(length=len(labels), labels=lambda: labels, read=read)


def picture_parts(
    sides: Sequence[Pictures],
    header: Header,
    channels: int,
    config: DataConfig,
    *,
    what: str,
    place: str,
    scale: Scale | None = None,
) -> tuple[list[Part], Scale | None, list[str]]:
    """The parts of a source of image files, their scale, and what was assumed, in lines.

    Args:
        sides: the files of each part.
        header: of one of them.
        channels: 1 for grey, 3 for colour.
        config: the size and the range.
        what: where the pixels are, for an error.
        place: where they are, for a line.
        scale: of the pixels, if it is known.

    Raises:
        InputError: a file cannot be read, or its pixels have no scale.
    """
    kind, given, lines = header.depth, config.low_high, list[str]()
    pixels = header.size[0] * header.size[1]

    def measure() -> Extent:
        with quietly():
            return joined(found for side in sides for found in _extents(side, given, pixels))

    if scale is None:
        scale, lines = fit_scale(kind, measure, given, what=f"the pixels of {what}", place=place)
    if scale is None and kind != EIGHT_BITS:
        scale = Scale(kind, 0.0, 1.0)  # Floats from 0 to 1.
    config = replace(config, channels=channels)
    parts = [_picture_part(side, config, scale, pixels) for side in sides]
    return parts, scale, lines


def _picture_part(pictures: Pictures, config: DataConfig, scale: Scale | None, pixels: int) -> Part:
    @cache
    def labels() -> Int32[np.ndarray, " images"]:
        return np.array([pictures.get(n).label for n in range(pictures.length)], np.int32)

    def one(index: int) -> tuple[Picture, Shaped[np.ndarray, "height width channels"]]:
        picture = pictures.get(index)
        return picture, _pixels_of(picture, config, scale)

    def read(chosen: Indices) -> tuple[Pixels, Int32[np.ndarray, " chosen"]]:
        images, labels = np.empty((0,), np.uint8), np.empty(len(chosen), np.int32)
        first = None
        with quietly():
            for place, (picture, image) in enumerate(_in_order(chosen, one, pixels)):
                if first is None:
                    first, images = picture, np.empty((len(chosen), *image.shape), image.dtype)
                if image.shape != images.shape[1:]:
                    raise InputError(
                        f"{first.what} is {shape_words(images.shape[1:])} and {picture.what} is "
                        f"{shape_words(image.shape)}; give --image-size"
                    )
                images[place], labels[place] = image, picture.label
        return images, labels

    return Part(length=pictures.length, labels=labels, read=read)


def _pixels_of(
    picture: Picture, config: DataConfig, scale: Scale | None
) -> Shaped[np.ndarray, "height width channels"]:
    """The pixels of an image file: uint8, or float32 from 0 to 1 if there is a scale."""
    file, _, what = picture
    found = values(file, what, config.channels if scale is None else None)
    eight, kind = found.dtype == np.uint8, EIGHT_BITS if scale is None else scale.kind
    if eight != (kind == EIGHT_BITS):
        depth = EIGHT_BITS if eight else "deeper"
        raise InputError(f"{what} is {depth}, and others are {kind}; convert it")
    found = found if scale is None else unit_values(found, scale)
    return converted(found[None], config)[0]


def _extents(
    pictures: Pictures, given: tuple[float, float] | None, pixels: int
) -> Iterator[Extent]:
    def one(index: int) -> Extent:
        picture = pictures.get(index)
        found = values(picture.file, picture.what)
        return extent(found[..., : 3 if found.shape[-1] >= 3 else 1], given)

    return _in_order(np.arange(pictures.length), one, pixels)


def _in_order(chosen: Indices, read: Callable[[int], Result], pixels: int) -> Iterator[Result]:
    """What is read at each index, in threads if images have enough pixels for that to pay."""
    if pixels < _THREADS_FROM:
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
        result[place] = convert(image).reshape(shape)
    return result


def _stretched(image: Shaped[np.ndarray, "..."], size: int) -> Shaped[np.ndarray, "..."]:
    eight = image.dtype == np.uint8  # Of these Pillow stretches all channels at once.
    layers = [image] if eight and image.shape[-1] == 3 else np.moveaxis(image, -1, 0)
    found = [
        np.asarray(Image.fromarray(np.ascontiguousarray(layer)).resize((size, size), _BILINEAR))
        for layer in layers
    ]
    return found[0] if eight else np.clip(np.stack(found, axis=-1), 0, 1)
