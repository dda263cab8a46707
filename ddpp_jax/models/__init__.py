"""The networks that are distilled for and evaluated on, in Flax Linen."""

from ddpp_jax.models.convnet import ConvNet
from ddpp_jax.models.network import Network, make_network

__all__ = ["ConvNet", "Network", "make_network"]
