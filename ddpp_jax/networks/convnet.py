"""The ConvNet that the dataset-distillation literature compares on."""

from collections.abc import Callable, Mapping
from functools import partial
from typing import TypeAlias, TypeVar

import flax.linen as nn
from jax import lax
from jaxtyping import Array, Int

from ddpp_jax._types import Images
from ddpp_jax.configs import ACTIVATIONS
from ddpp_jax.errors import InputError
from ddpp_jax.networks.layers import Conv, Flat, average_pool, flat, linear, max_pool
from ddpp_jax.networks.norms import norm_layer

BLOCKS = "blocks"
"""The collection in which a call leaves each block's features before they are pooled, if asked."""

_Entry = TypeVar("_Entry")
Activation: TypeAlias = Callable[[Images], Images]
"""A function of each feature."""

_ACTIVATIONS: Mapping[str, Activation] = {
    "sigmoid": nn.sigmoid,
    "relu": nn.relu,
    "leaky-relu": partial(nn.leaky_relu, negative_slope=0.01),
}
_POOLING: Mapping[str, Activation | None] = {"none": None, "max": max_pool, "average": average_pool}


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling, then a linear layer.

    Gidaris and Komodakis, CVPR 2018, as used by Li et al. (2024): width 128, depth 3 for 32x32 and
    depth 5 for 112x112. Initialised as PyTorch does, so that results compare with published ones.
    Norm, activation and pooling may be others, those that Zhao et al. (ICLR 2021) search among.

    Attributes:
        classes: how many logits come out.
        width: features of every convolution.
        depth: how many blocks; each halves the side, rounding down, unless nothing is pooled.
        image_size: height and width of the images, pixels.
        channels: 1 for grey, 3 for colour.
        activation: `sigmoid`, `relu`, or `leaky-relu`, which is 0.01 x below zero; or a function.
        pooling: `none`, `max` or `average`, over 2x2.
        norm: `none`, `batch`, `layer`, `instance` or `group`, before the activation.

    Raises:
        InputError: on a call, if the images are too small for the depth or not of the stated shape.
    """

    classes: int
    width: int = 128
    depth: int = 3
    image_size: int = 32
    channels: int = 3
    activation: str | Activation = "relu"
    pooling: str = "average"
    norm: str = "instance"

    @nn.compact
    def __call__(self, images: Images, *, head: bool = True) -> Flat:
        """The logits, shape (images, classes), of images shaped (images, size, size, channels).

        Without the `head` they are the features that the linear layer would take.
        """
        pool, activate = _named(_POOLING, self.pooling), self.activation
        activate = _named(_ACTIVATIONS, activate) if isinstance(activate, str) else activate
        if self.image_size < 2 and pool is not None:
            raise InputError(
                f"images of {self.image_size}x{self.image_size} are too small for a ConvNet, whose "
                "blocks halve them; give --image-size 2 or more"
            )
        if self.image_size >> self.depth < 1 and pool is not None:
            raise InputError(
                f"images of {self.image_size}x{self.image_size} are too small for depth "
                f"{self.depth}: each block halves them; use --depth "
                f"{self.image_size.bit_length() - 1} or less, or a name with that depth"
            )
        expected = (self.image_size, self.image_size, self.channels)
        if images.shape[1:] != expected:
            raise InputError(f"images are {images.shape[1:]}, but this ConvNet takes {expected}")
        for block in range(self.depth):
            images = Conv(self.width, name=f"Conv3x3_{block}")(images)
            norm = norm_layer(self.norm)
            images = images if norm is None else norm(images)
            images = activate(images)
            self.sow(BLOCKS, "relu", images)
            images = images if pool is None else pool(images)
        return linear(flat(images), self.classes) if head else flat(images)


def switched(place: Int[Array, ""]) -> Activation:
    """The activation at a place of `configs.ACTIVATIONS`, which a program need not know."""
    return lambda images: lax.switch(place, [_ACTIVATIONS[name] for name in ACTIVATIONS], images)


def _named(table: Mapping[str, _Entry], name: str) -> _Entry:
    if name not in table:
        raise InputError(f"a ConvNet has no {name!r}; wanted {', '.join(table)}")
    return table[name]
