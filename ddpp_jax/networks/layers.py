"""What the networks share: convolution, instance norm, pooling, and PyTorch's initialisation."""

from typing import Any, TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.linen.dtypes import promote_dtype
from jax import lax
from jaxtyping import Array, Float

from ddpp_jax._types import Images, PRNGKey
from ddpp_jax.errors import InputError
from ddpp_jax.networks.convolution import Features, convolve

PUBLISHED_WIDTH = 128

Flat: TypeAlias = Float[Array, "images _features"]


def average_pool(images: Images, side: int = 2) -> Features:
    """Means over square windows; rows and columns that fill none are dropped, as PyTorch does."""
    return _windows(images, side).mean(axis=(2, 4))


def max_pool(images: Images, side: int = 2) -> Features:
    """The largest over square windows; rows and columns that fill none are dropped likewise."""
    return _windows(images, side).max(axis=(2, 4))


def uniform_within(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for weights and biases: uniform within 1 / sqrt(fan_in) of zero."""
    bound = 1 / float(np.sqrt(fan_in))

    def initialise(key: PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


class Conv(nn.Module):
    """A convolution that keeps the size, or divides it by the stride; initialised as PyTorch's.

    Attributes:
        features: how many come out.
        side: of the kernel, odd.
        stride: pixels from one place to the next.
        use_bias: whether a number is added to each feature.
    """

    features: int
    side: int = 3
    stride: int = 1
    use_bias: bool = True

    @nn.compact
    def __call__(self, images: Images) -> Features:
        """The images' features, shape (images, height / stride, width / stride, features)."""
        channels = images.shape[3]
        initialiser = uniform_within(self.side**2 * channels)
        shape = (self.side, self.side, channels, self.features)
        kernel = self.param("kernel", initialiser, shape)
        if not self.use_bias:
            return convolve(*promote_dtype(images, kernel), stride=self.stride)
        bias = self.param("bias", initialiser, (self.features,))
        images, kernel, bias = promote_dtype(images, kernel, bias)
        return convolve(images, kernel, stride=self.stride) + _per_channel(bias)


class InstanceNorm(nn.Module):
    """Each channel of each image to zero mean and unit variance, then a learned scale and shift."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, images: Images) -> Images:
        """The images, normalised, in the same shape and dtype; worked out in float32 or better."""
        channels = images.shape[3]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        shift = self.param("shift", nn.initializers.zeros, (channels,), jnp.float32)
        return normalised(images, scale, shift, axes=(1, 2), epsilon=self.epsilon)


def normalised(
    images: Float[Array, "images rows cols *channels"],
    scale: Float[Array, "..."],
    shift: Float[Array, "..."],
    *,
    axes: tuple[int, ...],
    epsilon: float,
) -> Float[Array, "images rows cols *channels"]:
    """The images to zero mean and unit variance over some axes, then scaled and shifted.

    Worked out in float32 or better, and given back in the images' dtype.

    Args:
        images: their channels may be divided into groups.
        scale: for the last axes of the images, as many as it has.
        shift: likewise.
        axes: over which mean and variance go.
        epsilon: added to the variance.
    """
    given = images.dtype
    working = given if jnp.finfo(given).bits > 32 else jnp.float32
    images, scale, shift = (x.astype(working) for x in (images, scale, shift))
    centred = images - images.mean(axis=axes, keepdims=True)
    variance = jnp.square(centred).mean(axis=axes, keepdims=True)
    inverse = lax.rsqrt(variance + epsilon)
    outer = (None,) * (images.ndim - scale.ndim)
    normed = centred * (inverse * scale[outer]) + shift[outer]
    return normed.astype(given)


def linear(inputs: Flat, features: int) -> Flat:
    """The inputs through a dense layer of the calling module, initialised as PyTorch's."""
    initialiser = uniform_within(inputs.shape[1])
    return nn.Dense(features, kernel_init=initialiser, bias_init=initialiser)(inputs)


def flat(images: Images) -> Flat:
    """Each image's features as one row."""
    return images.reshape(images.shape[0], -1)


def scaled(features: int, width: int) -> int:
    """A published number of features, for a network whose published width is 128, at another."""
    return max(1, round(features * width / PUBLISHED_WIDTH))


def require_side(images: Images, least: int, network: str) -> None:
    """Refuse images that are too small for a network.

    Raises:
        InputError: they have fewer than `least` pixels a side.
    """
    _, height, width, _ = images.shape
    if min(height, width) < least:
        raise InputError(
            f"images of {height}x{width} are too small for {network}; it needs {least}x{least} "
            "or more: give --image-size, or another architecture"
        )


def _windows(images: Images, side: int) -> Float[Array, "images rows a cols b channels"]:
    count, height, width, channels = images.shape
    rows, cols = height // side, width // side
    whole = images[:, : side * rows, : side * cols]
    return whole.reshape(count, rows, side, cols, side, channels)


def _per_channel(values: Float[Array, " channels"]) -> Float[Array, "1 1 1 channels"]:
    return values[None, None, None, :]
