"""Normalisation on the device, of images that reach it as they came."""

from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from ddpp_jax.data.transforms import PerChannel, Transform, unit


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


Numbers: TypeAlias = Levels | Whitened | Ready
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
    if isinstance(transform, PerChannel):
        return Levels(jnp.asarray((levels[:, None] - transform.mean) / transform.std))
    if transform is None:
        return Levels(jnp.asarray(levels[:, None]))
    mean, matrix = (np.asarray(part, np.float32) for part in (transform.mean, transform.matrix))
    return Whitened(jnp.asarray(levels), jnp.asarray(mean), jnp.asarray(matrix))


def numbers_like(pixel: np.dtype, shape: tuple[int, ...], *, zca: bool) -> Numbers:
    """The shapes of what `numbers_of` gives, as `jax.ShapeDtypeStruct`.

    Args:
        pixel: uint8 or float32, the type of a pixel.
        shape: of an image: (height, width, channels).
        zca: whitening; otherwise normalisation per channel.
    """
    if pixel != np.uint8:
        return Ready()
    size = int(np.prod(shape))
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
        channels = jnp.arange(pixels.shape[-1]) % numbers.values.shape[1]
        return numbers.values[pixels.astype(jnp.int32), channels]
    values = numbers.levels[pixels.astype(jnp.int32)]
    flat = values.reshape(*pixels.shape[:-3], -1)
    flat -= jnp.broadcast_to(numbers.mean, flat.shape)
    found = jnp.matmul(flat, numbers.matrix, precision=lax.Precision.HIGHEST)
    return found.reshape(pixels.shape)
