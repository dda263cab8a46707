"""Normalisation on the device, of images that reach it as they came."""

from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from ddpp_jax.data.transforms import Contrast, PerChannel, Transform, least_length, unit


class Levels(NamedTuple):
    """What normalises uint8 pixels per channel: the number that each of the 256 levels becomes."""

    values: Float[Array, "256 channels"]


class Ready(NamedTuple):
    """Nothing, since the images are normalised before they reach the device."""


class Whitened(NamedTuple):
    """What whitens images as vectors: the levels of uint8 from 0 to 1, the mean, the matrix."""

    levels: Float[Array, " 256"]
    mean: Float[Array, " pixels"]
    matrix: Float[Array, "pixels pixels"]


class Contrasted(NamedTuple):
    """What whitens images of mean 0 and length 1: the standardised levels of uint8, the matrix."""

    levels: Float[Array, "256 channels"]
    matrix: Float[Array, "pixels pixels"]


Numbers: TypeAlias = Levels | Whitened | Contrasted | Ready
"""What the device needs in order to normalise images."""


def numbers_of(transform: Transform | None, pixel: np.dtype) -> Numbers:
    """What the device needs in order to do what `apply` does to uint8 images.

    Args:
        transform: None brings pixels to the scale from 0 to 1.
        pixel: uint8; floats are to be normalised before, since they are no smaller as they came.
    """
    if pixel != np.uint8:
        return Ready()
    levels = unit(np.arange(256, dtype=np.uint8))
    if isinstance(transform, PerChannel | Contrast):
        standardised = jnp.asarray((levels[:, None] - transform.mean) / transform.std)
        if isinstance(transform, PerChannel):
            return Levels(standardised)
        return Contrasted(standardised, jnp.asarray(np.asarray(transform.matrix, np.float32)))
    if transform is None:
        return Levels(jnp.asarray(levels[:, None]))
    mean, matrix = (np.asarray(part, np.float32) for part in (transform.mean, transform.matrix))
    return Whitened(jnp.asarray(levels), jnp.asarray(mean), jnp.asarray(matrix))


def numbers_like(
    pixel: np.dtype, shape: tuple[int, ...], *, zca: bool, contrast: bool = False
) -> Numbers:
    """The shapes of what `numbers_of` gives, as `jax.ShapeDtypeStruct`.

    Args:
        pixel: uint8 or float32, the type of a pixel.
        shape: of an image: (height, width, channels).
        zca: whitening; otherwise normalisation per channel.
        contrast: KIP's whitening, which goes with `zca` alone.
    """
    if pixel != np.uint8:
        return Ready()
    size = int(np.prod(shape))
    if zca and contrast:
        axes = ((256, shape[-1]), (size, size))
        return Contrasted(*(cast(Any, _floats(*one)) for one in axes))
    if zca:
        return Whitened(*(cast(Any, _floats(*axes)) for axes in ((256,), (size,), (size, size))))
    return Levels(cast(Any, _floats(256, shape[-1])))


def _floats(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def normalise(
    numbers: Numbers, pixels: Shaped[Array, "*images height width channels"]
) -> Float[Array, "*images height width channels"]:
    """Images as networks see them.

    Per channel these are the bits that `apply` gives, on any device, since uint8 pixels are looked
    up; whitened ones are equal to rounding.

    Args:
        numbers: by `numbers_of`, for this type of pixels.
        pixels: uint8 from 0 to 255, or floats that are normalised already.
    """
    if isinstance(numbers, Ready):
        return pixels
    if isinstance(numbers, Levels):
        return _looked_up(numbers.values, pixels)
    if isinstance(numbers, Contrasted):
        flat = _contrasted(_looked_up(numbers.levels, pixels).reshape(*pixels.shape[:-3], -1))
    else:
        values = numbers.levels[pixels.astype(jnp.int32)]
        flat = values.reshape(*pixels.shape[:-3], -1)
        flat -= jnp.broadcast_to(numbers.mean, flat.shape)
    found = jnp.matmul(flat, numbers.matrix, precision=lax.Precision.HIGHEST)
    return found.reshape(pixels.shape)


def _looked_up(
    levels: Float[Array, "256 _channels"], pixels: Shaped[Array, "*images height width channels"]
) -> Float[Array, "*images height width channels"]:
    channels = jnp.arange(pixels.shape[-1]) % levels.shape[1]
    return levels[pixels.astype(jnp.int32), channels]


def _contrasted(flat: Float[Array, "*images pixels"]) -> Float[Array, "*images pixels"]:
    """What `transforms.contrasted` makes of vectors, up to rounding."""
    # Less their first number, images that are the same everywhere are 0 before any rounding.
    found = flat - flat[..., :1]
    found -= found.mean(axis=-1, keepdims=True)
    lengths = jnp.sqrt(jnp.square(found).sum(axis=-1, keepdims=True))
    there = lengths > least_length(flat.shape[-1])
    return jnp.where(there, found / jnp.where(there, lengths, 1), 0)
