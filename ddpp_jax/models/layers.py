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

Kernel: TypeAlias = Float[Array, "3 3 channels features"]
Features: TypeAlias = Float[Array, "images height width features"]


def conv3x3(images: Images, kernel: Kernel) -> Features:
    """The 3x3 convolution of the images, stride 1, zero-padded by 1, on any platform.

    The choice is made when a program is lowered: slices and one matrix product for the CPU, where a
    convolution inside `lax.scan` or under second-order gradients runs an order of magnitude slower;
    `lax.conv` elsewhere. The two agree to rounding.

    Args:
        images: shape (images, height, width, channels).
        kernel: shape (3, 3, channels, features).
    """
    return lax.platform_dependent(images, kernel, cpu=conv3x3_slices, default=conv3x3_native)


def conv3x3_slices(images: Images, kernel: Kernel) -> Features:
    """The convolution as nine shifted slices side by side, times the kernel as one matrix."""
    _, height, width, _ = images.shape
    padded = jnp.pad(images, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=3) @ kernel.reshape(-1, kernel.shape[3])


def conv3x3_native(images: Images, kernel: Kernel) -> Features:
    """The convolution as XLA's own."""
    return lax.conv_general_dilated(
        images, kernel, (1, 1), "SAME", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )


def average_pool(images: Images) -> Float[Array, "images rows cols channels"]:
    """Means over 2x2 windows; an odd last row or column is dropped, as PyTorch does."""
    count, height, width, channels = images.shape
    rows, cols = height // 2, width // 2
    windows = images[:, : 2 * rows, : 2 * cols].reshape(count, rows, 2, cols, 2, channels)
    return windows.mean(axis=(2, 4))


def uniform_within(fan_in: int) -> nn.initializers.Initializer:
    """PyTorch's default for weights and biases: uniform within 1 / sqrt(fan_in) of zero."""
    bound = 1 / float(np.sqrt(fan_in))

    def initialise(key: PRNGKey, shape: tuple[int, ...], dtype: Any = jnp.float32) -> Array:
        return jax.random.uniform(key, shape, dtype, -bound, bound)

    return initialise


class Conv3x3(nn.Module):
    """A 3x3 convolution with bias, stride 1, padding 1, initialised as PyTorch's."""

    features: int

    @nn.compact
    def __call__(self, images: Images) -> Features:
        """The images' features, shape (images, height, width, features)."""
        channels = images.shape[3]
        initialiser = uniform_within(9 * channels)
        kernel = self.param("kernel", initialiser, (3, 3, channels, self.features))
        bias = self.param("bias", initialiser, (self.features,))
        images, kernel, bias = promote_dtype(images, kernel, bias)
        return conv3x3(images, kernel) + _per_channel(bias)


class InstanceNorm(nn.Module):
    """Each channel of each image to zero mean and unit variance, then a learned scale and shift."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, images: Images) -> Images:
        """The images, normalised, in the same shape."""
        channels = images.shape[3]
        scale = self.param("scale", nn.initializers.ones, (channels,))
        shift = self.param("shift", nn.initializers.zeros, (channels,))
        centred = images - images.mean(axis=(1, 2), keepdims=True)
        variance = jnp.square(centred).mean(axis=(1, 2), keepdims=True)
        inverse = lax.rsqrt(variance + self.epsilon)
        return centred * (inverse * _per_channel(scale)) + _per_channel(shift)


def linear(inputs: Float[Array, "images inputs"], features: int) -> Float[Array, "images features"]:
    """The inputs through a dense layer of the calling module, initialised as PyTorch's."""
    initialiser = uniform_within(inputs.shape[1])
    return nn.Dense(features, kernel_init=initialiser, bias_init=initialiser)(inputs)


def _per_channel(values: Float[Array, " channels"]) -> Float[Array, "1 1 1 channels"]:
    return values[None, None, None, :]
