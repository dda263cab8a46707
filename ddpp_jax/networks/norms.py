"""Normalisation over the batch, over whole images and over groups of channels.

As PyTorch's, in the forms that the ConvNets of Zhao et al. (ICLR 2021) have: layer norm has a scale
and a shift for every feature of every place, the others have one for every channel.
"""

from typing import TypeAlias

import flax.linen as nn
import jax
import jax.numpy as jnp
from jaxtyping import Array, Float, PyTree

from ddpp_jax._types import Images
from ddpp_jax.errors import InputError
from ddpp_jax.networks.layers import InstanceNorm, normalised

STATISTICS = "statistics"
"""The collection of the means and variances that batch norm takes in place of a batch's own."""

GROUPS = 4
"""Of group norm, as in the code of Zhao et al. (ICLR 2021)."""

Statistics: TypeAlias = PyTree[Float[Array, "..."]]
"""A `mean` and a `variance` of each channel for each batch norm of a network; or none at all."""


def norm_layer(name: str) -> nn.Module | None:
    """The normalisation of that name; None for `none`.

    Raises:
        InputError: there is none of that name.
    """
    made = {
        "none": lambda: None,
        "batch": BatchNorm,
        "layer": LayerNorm,
        "instance": InstanceNorm,
        "group": GroupNorm,
    }
    if name not in made:
        raise InputError(f"there is no normalisation {name!r}; wanted {', '.join(made)}")
    return made[name]()


class BatchNorm(nn.Module):
    """Each channel to zero mean and unit variance over all images, then a scale and a shift.

    A call normalises by the batch that it is given, and leaves what it found in the collection
    `STATISTICS`, if asked. Where that collection is given, it is taken in place of the batch.
    """

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, images: Images) -> Images:
        """The images, normalised, in the same shape and dtype; worked out in float32 or better."""
        channels = images.shape[3]
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        shift = self.param("shift", nn.initializers.zeros, (channels,), jnp.float32)
        if not self.has_variable(STATISTICS, "mean"):
            exact = images.astype(jnp.promote_types(images.dtype, jnp.float32))
            if self.is_mutable_collection(STATISTICS):
                self.put_variable(STATISTICS, "mean", exact.mean(axis=(0, 1, 2)))
                self.put_variable(STATISTICS, "variance", exact.var(axis=(0, 1, 2)))
            return normalised(images, scale, shift, axes=(0, 1, 2), epsilon=self.epsilon)
        mean = self.get_variable(STATISTICS, "mean")
        variance = self.get_variable(STATISTICS, "variance")
        factor = scale * jax.lax.rsqrt(variance + self.epsilon)
        found = images * factor[None, None, None, :] + (shift - mean * factor)[None, None, None, :]
        return found.astype(images.dtype)


class LayerNorm(nn.Module):
    """Each image to zero mean and unit variance over all features, each of which is then scaled."""

    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, images: Images) -> Images:
        """The images, normalised, in the same shape and dtype; worked out in float32 or better."""
        shape = images.shape[1:]
        scale = self.param("scale", nn.initializers.ones, shape, jnp.float32)
        shift = self.param("shift", nn.initializers.zeros, shape, jnp.float32)
        return normalised(images, scale, shift, axes=(1, 2, 3), epsilon=self.epsilon)


class GroupNorm(nn.Module):
    """Each group of neighbouring channels of each image to zero mean and unit variance.

    Then a scale and a shift of each channel follow. Wu and He, ECCV 2018.

    Attributes:
        groups: how many, of equally many channels.

    Raises:
        InputError: on a call, if the channels cannot be divided so.
    """

    groups: int = GROUPS
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, images: Images) -> Images:
        """The images, normalised, in the same shape and dtype; worked out in float32 or better."""
        channels = images.shape[3]
        if channels % self.groups:
            raise InputError(
                f"{channels} channels make no {self.groups} equal groups for group norm; use a "
                f"width that {self.groups} divides"
            )
        scale = self.param("scale", nn.initializers.ones, (channels,), jnp.float32)
        shift = self.param("shift", nn.initializers.zeros, (channels,), jnp.float32)
        grouped = (self.groups, channels // self.groups)
        found = normalised(
            images.reshape(*images.shape[:3], *grouped),
            scale.reshape(grouped),
            shift.reshape(grouped),
            axes=(1, 2, 4),
            epsilon=self.epsilon,
        )
        return found.reshape(images.shape)


def pooled(statistics: Statistics) -> Statistics:
    """The statistics of several equally large batches taken together.

    Args:
        statistics: of each batch, along a leading axis of every leaf.
    """
    found = {}
    for name, value in statistics.items():
        if "variance" not in value:
            found[name] = pooled(value)
            continue
        mean = value["mean"].mean(axis=0)
        between = jnp.square(value["mean"] - mean[None]).mean(axis=0)
        found[name] = {"mean": mean, "variance": value["variance"].mean(axis=0) + between}
    return found
