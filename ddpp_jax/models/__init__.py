"""The networks that are distilled for and evaluated on, in Flax Linen."""

from ddpp_jax.models.alexnet import AlexNet
from ddpp_jax.models.convnet import ConvNet
from ddpp_jax.models.named import make_model
from ddpp_jax.models.network import Network, make_network
from ddpp_jax.models.resnet import ResNet18
from ddpp_jax.models.vgg import VGG11

__all__ = ["VGG11", "AlexNet", "ConvNet", "Network", "ResNet18", "make_model", "make_network"]
