"""The AlexNet of the field's comparisons across architectures."""

import flax.linen as nn

from ddpp_jax._types import Images
from ddpp_jax.networks.layers import Conv, Flat, flat, linear, max_pool, require_side, scaled


class AlexNet(nn.Module):
    """Five convolutions with ReLU, three max pools and a linear layer; nothing is normalised.

    Krizhevsky et al., NeurIPS 2012, in the 32x32 form of Zhao et al., ICLR 2021.

    Attributes:
        classes: how many logits come out.
        width: 128 as published; other widths scale every layer.

    Raises:
        InputError: on a call, if the images have fewer than 8 pixels a side.
    """

    classes: int
    width: int = 128

    @nn.compact
    def __call__(self, images: Images, *, head: bool = True) -> Flat:
        """The logits, shape (images, classes), or without the `head` the features before them."""
        require_side(images, 8, "AlexNet")
        for features, side, pooled in (
            (128, 5, True),
            (192, 5, True),
            (256, 3, False),
            (192, 3, False),
            (192, 3, True),
        ):
            images = nn.relu(Conv(scaled(features, self.width), side)(images))
            images = max_pool(images) if pooled else images
        return linear(flat(images), self.classes) if head else flat(images)
