"""The architectures by the names that commands and files call them."""

import flax.linen as nn

from ddpp_jax.configs import ModelConfig, check_architecture
from ddpp_jax.networks.alexnet import AlexNet
from ddpp_jax.networks.convnet import ConvNet
from ddpp_jax.networks.resnet import ResNet18
from ddpp_jax.networks.vgg import VGG11


def make_model(
    name: str, config: ModelConfig, *, classes: int, image_size: int, channels: int
) -> nn.Module:
    """The model of that name.

    Args:
        name: one of `ARCHITECTURES`, or `convnet` with a depth, such as `convnet5`.
        config: its width, and the depth of a ConvNet whose name has none.
        classes: how many logits come out.
        image_size: height and width of the images, pixels.
        channels: 1 for grey, 3 for colour.

    Raises:
        InputError: there is no such architecture.
    """
    check_architecture(name)
    if name == "alexnet":
        return AlexNet(classes, config.width)
    if name == "vgg11":
        return VGG11(classes, config.width)
    if name.startswith("resnet18"):
        return ResNet18(classes, config.width, average=name.endswith("-ap"))
    depth = int(name.removeprefix("convnet") or config.depth)
    return ConvNet(classes, config.width, depth, image_size, channels)
