"""The names of the architectures."""

import re

from ddpp_jax.errors import InputError

ARCHITECTURES = ("convnet", "alexnet", "vgg11", "resnet18", "resnet18-ap")
"""Every architecture; `convnet` may carry its depth, as in `convnet5`."""

_CONVNET = re.compile(r"convnet[1-9]?")


def check_architecture(name: str) -> None:
    """Refuse a name that no architecture has."""
    if name not in ARCHITECTURES and not _CONVNET.fullmatch(name):
        raise InputError(
            f"there is no architecture {name!r}; wanted {', '.join(ARCHITECTURES)}, "
            "or a ConvNet with its depth, such as convnet5"
        )
