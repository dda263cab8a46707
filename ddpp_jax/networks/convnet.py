"""The ConvNet that the dataset-distillation literature compares on."""

import flax.linen as nn

from ddpp_jax._types import Images
from ddpp_jax.errors import InputError
from ddpp_jax.networks.layers import Conv, Flat, InstanceNorm, average_pool, flat, linear

BLOCKS = "blocks"
"""The collection in which a call leaves each block's features before they are pooled, if asked."""


class ConvNet(nn.Module):
    """Blocks of 3x3 convolution, instance norm, ReLU and 2x2 average pooling, then a linear layer.

    Gidaris and Komodakis, CVPR 2018, as used by Li et al. (2024): width 128, depth 3 for 32x32 and
    depth 5 for 112x112. Initialised as PyTorch does, so that results compare with published ones.

    Attributes:
        classes: how many logits come out.
        width: features of every convolution.
        depth: how many blocks; each halves the side, rounding down.
        image_size: height and width of the images, pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        InputError: on a call, if the images are too small for the depth or not of the stated shape.
    """

    classes: int
    width: int = 128
    depth: int = 3
    image_size: int = 32
    channels: int = 3

    @nn.compact
    def __call__(self, images: Images, *, head: bool = True) -> Flat:
        """The logits, shape (images, classes), of images shaped (images, size, size, channels).

        Without the `head` they are the features that the linear layer would take.
        """
        if self.image_size < 2:
            raise InputError(
                f"images of {self.image_size}x{self.image_size} are too small for a ConvNet, whose "
                "blocks halve them; give --image-size 2 or more"
            )
        if self.image_size >> self.depth < 1:
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
            images = InstanceNorm()(images)
            images = nn.relu(images)
            self.sow(BLOCKS, "relu", images)
            images = average_pool(images)
        return linear(flat(images), self.classes) if head else flat(images)
