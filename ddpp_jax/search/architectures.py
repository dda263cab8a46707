"""The grid of ConvNets that is searched, and each of them as a network."""

import itertools
from collections.abc import Sequence
from typing import NamedTuple

from ddpp_jax._types import Precision
from ddpp_jax.configs import SearchConfig, numbers
from ddpp_jax.errors import InputError
from ddpp_jax.networks import ConvNet, Network, make_network
from ddpp_jax.networks.convnet import Activation

_GROUPS = 4  # Of group norm, which must divide the width.
_KERNEL = 9


class Architecture(NamedTuple):
    """A ConvNet of the grid.

    Attributes:
        width: features of every convolution.
        depth: how many blocks there are.
        activation: `sigmoid`, `relu` or `leaky-relu`.
        pooling: `none`, `max` or `average`.
        norm: `none`, `batch`, `layer`, `instance` or `group`.
    """

    width: int
    depth: int
    activation: str
    pooling: str
    norm: str

    @property
    def name(self) -> str:
        """What tables and files call it.

        >>> Architecture(32, 3, "relu", "average", "instance").name
        'w32-d3-relu-average-instance'
        """
        return f"w{self.width}-d{self.depth}-{self.activation}-{self.pooling}-{self.norm}"

    @property
    def program(self) -> "Architecture":
        """What shares its compiled programs: those that differ in the activation alone do."""
        return self._replace(activation="any")

    def fits(self, side: int) -> bool:
        """Whether images of so many pixels a side can be halved as often as it halves them."""
        return self.pooling == "none" or side >> self.depth >= 1


def grid(config: SearchConfig) -> list[Architecture]:
    """Every ConvNet of the settings: widths outermost, then depths, activations, pooling and norms.

    >>> len(grid(SearchConfig()))
    720

    Raises:
        InputError: group norm is asked for at a width that it cannot divide.
    """
    listed = numbers(1, width=config.widths, depth=config.depths)
    found = [
        Architecture(width, depth, activation, pooling, norm)
        for width, depth in itertools.product(listed["width"], listed["depth"])
        for activation in config.activations.split(",")
        for pooling in config.poolings.split(",")
        for norm in config.norms.split(",")
    ]
    for one in found:
        if one.norm == "group" and one.width % _GROUPS:
            raise InputError(
                f"--widths has {one.width}, which makes no {_GROUPS} equal groups for group norm; "
                f"give widths that {_GROUPS} divides, or --norms without group"
            )
    return found


def fitting(architectures: Sequence[Architecture], side: int) -> list[Architecture]:
    """Those that can take images of so many pixels a side.

    Raises:
        InputError: fewer than two can, so that there is nothing to search.
    """
    found = [one for one in architectures if one.fits(side)]
    if len(found) < 2:
        raise InputError(
            f"{len(found)} of the {len(architectures)} networks can take images of {side}x{side}; "
            "wanted 2 or more: give more --widths, --depths, --activations, --poolings or --norms"
        )
    return found


def network_of(
    architecture: Architecture,
    shape: tuple[int, ...],
    classes: int,
    *,
    precision: Precision = "default",
    activation: Activation | None = None,
) -> Network:
    """An architecture as pure functions of its parameters.

    Args:
        architecture: of the grid.
        shape: of the images: (height, width, channels).
        classes: how many logits come out.
        precision: as `make_network` takes it.
        activation: a function in place of its own.
    """
    width, depth, own, pooling, norm = architecture
    side, _, channels = shape
    model = ConvNet(classes, width, depth, side, channels, activation or own, pooling, norm)
    return make_network(model, shape, precision=precision)


def operations(architecture: Architecture, shape: tuple[int, ...], classes: int) -> float:
    """Floating-point operations of its products on one image, forward."""
    side, _, channels = shape
    total = 0
    for _ in range(architecture.depth):
        total += 2 * _KERNEL * channels * architecture.width * side**2
        channels = architecture.width
        side = side if architecture.pooling == "none" else side // 2
    return total + 2.0 * side**2 * channels * classes


def parameters(architecture: Architecture, shape: tuple[int, ...], classes: int) -> int:
    """How many parameters it has.

    Args:
        architecture: of the grid.
        shape: of the images: (height, width, channels).
        classes: how many logits come out.
    """
    width, depth, _, pooling, norm = architecture
    side, _, channels = shape
    total = 0
    for _ in range(depth):
        total += (_KERNEL * channels + 1) * width
        if norm != "none":
            total += 2 * width * (side**2 if norm == "layer" else 1)
        channels = width
        side = side if pooling == "none" else side // 2
    return total + (side**2 * channels + 1) * classes
