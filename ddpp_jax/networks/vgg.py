"""The VGG of the field's comparisons across architectures."""

import flax.linen as nn

from ddpp_jax._types import Images
from ddpp_jax.networks.layers import (
    Conv,
    Flat,
    InstanceNorm,
    flat,
    linear,
    max_pool,
    require_side,
    scaled,
)

_BLOCKS = ((64,), (128,), (256, 256), (512, 512), (512, 512))


class VGG11(nn.Module):
    """Five blocks of 3x3 convolutions with instance norm and ReLU, a max pool after each.

    Simonyan and Zisserman, ICLR 2015, in the 32x32 form of Zhao et al., ICLR 2021: one linear
    layer in place of three.

    Attributes:
        classes: how many logits come out.
        width: 128 as published; other widths scale every layer.

    Raises:
        InputError: on a call, if the images have fewer than 32 pixels a side.
    """

    classes: int
    width: int = 128

    @nn.compact
    def __call__(self, images: Images, *, head: bool = True) -> Flat:
        """The logits, shape (images, classes), or without the `head` the features before them."""
        require_side(images, 32, "VGG11")
        for block in _BLOCKS:
            for features in block:
                images = Conv(scaled(features, self.width))(images)
                images = nn.relu(InstanceNorm()(images))
            images = max_pool(images)
        return linear(flat(images), self.classes) if head else flat(images)
