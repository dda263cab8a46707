"""The networks that are distilled for and evaluated on, in Flax Linen."""

from ddpp_jax.networks.alexnet import AlexNet
from ddpp_jax.networks.convnet import ConvNet, switched
from ddpp_jax.networks.infinite import Infinite, Variances, among, between
from ddpp_jax.networks.named import make_model
from ddpp_jax.networks.network import Network, make_network
from ddpp_jax.networks.norms import Statistics, pooled
from ddpp_jax.networks.resnet import ResNet18
from ddpp_jax.networks.vgg import VGG11

__all__ = [
    "VGG11",
    "AlexNet",
    "ConvNet",
    "Infinite",
    "Network",
    "ResNet18",
    "Statistics",
    "Variances",
    "among",
    "between",
    "make_model",
    "make_network",
    "pooled",
    "switched",
]
