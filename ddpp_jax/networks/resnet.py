"""The ResNets of the field's comparisons across architectures."""

import flax.linen as nn

from ddpp_jax._types import Images
from ddpp_jax.networks.layers import (
    Conv,
    Features,
    Flat,
    InstanceNorm,
    average_pool,
    flat,
    linear,
    require_side,
    scaled,
)

_STAGES = ((64, 1), (128, 2), (256, 2), (512, 2))
_BLOCKS_A_STAGE = 2
_LAST_POOL = 4


class ResNet18(nn.Module):
    """A 3x3 stem and four stages of two residual blocks with instance norm, then a linear layer.

    He et al., CVPR 2016, in the 32x32 form of Zhao et al., ICLR 2021: no pooling after the stem,
    and instance norm.

    Attributes:
        classes: how many logits come out.
        width: 128 as published; other widths scale every layer.
        average: halve by 2x2 average pools in place of strides, and give the linear layer every
            feature of the last stage in place of their 4x4 means (ResNet18-AP).

    Raises:
        InputError: on a call, if the images have fewer than 25 pixels a side, or 8 with `average`.
    """

    classes: int
    width: int = 128
    average: bool = False

    @nn.compact
    def __call__(self, images: Images, *, head: bool = True) -> Flat:
        """The logits, shape (images, classes), or without the `head` the features before them."""
        if self.average:
            require_side(images, 8, "ResNet18-AP")
        else:
            require_side(images, 25, "ResNet18")
        images = Conv(scaled(_STAGES[0][0], self.width), use_bias=False)(images)
        images = nn.relu(InstanceNorm()(images))
        for features, first in _STAGES:
            for block in range(_BLOCKS_A_STAGE):
                stride = 1 if block else first
                images = _Block(scaled(features, self.width), stride, self.average)(images)
        images = images if self.average else average_pool(images, _LAST_POOL)
        return linear(flat(images), self.classes) if head else flat(images)


class _Block(nn.Module):
    """Two convolutions beside a shortcut, which is a 1x1 convolution where the shape changes."""

    features: int
    stride: int
    average: bool

    @nn.compact
    def __call__(self, images: Images) -> Features:
        pooled = self.average and self.stride > 1
        stride = 1 if pooled else self.stride
        inner = Conv(self.features, stride=stride, use_bias=False)(images)
        inner = nn.relu(InstanceNorm()(inner))
        inner = average_pool(inner) if pooled else inner
        inner = InstanceNorm()(Conv(self.features, use_bias=False)(inner))
        if self.stride > 1 or images.shape[3] != self.features:
            images = Conv(self.features, 1, stride=stride, use_bias=False)(images)
            images = average_pool(images) if pooled else images
            images = InstanceNorm()(images)
        return nn.relu(inner + images)
