"""The settings of a search among architectures by small sets in place of the data."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from ddpp_jax.configs.checks import MOST, above_zero, at_least, check_seed, flag
from ddpp_jax.configs.stages import DataConfig, ModelConfig, check_contrast
from ddpp_jax.errors import InputError

ACTIVATIONS = ("sigmoid", "relu", "leaky-relu")
POOLINGS = ("none", "max", "average")
NORMS = ("none", "batch", "layer", "instance", "group")
"""What the ConvNets of the published grid differ in, beside width and depth, in its order."""

_MOST_LISTED = 100


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchConfig:
    """The grid of ConvNets, and how they are trained and compared.

    The defaults are the 720 networks of Zhao et al. (ICLR 2021).
    """

    widths: str = "32,64,128,256"
    """Features of every convolution, joined by commas."""

    depths: str = "1,2,3,4"
    """Blocks, joined by commas; with pooling each halves the image."""

    activations: str = "sigmoid,relu,leaky-relu"
    """Some of sigmoid, relu and leaky-relu, joined by commas."""

    poolings: str = "none,max,average"
    """Some of none, max and average, joined by commas."""

    norms: str = "none,batch,layer,instance,group"
    """Some of none, batch, layer, instance and group, joined by commas."""

    ipc: int | None = None
    """Images per class of random and herding; none takes that of the first set among --proxies."""

    proxy_epochs: int = 200
    """Passes of each network over a proxy set; the rate falls tenfold half way."""

    full_epochs: int = 200
    """Passes of each network over the full data; the rate falls tenfold half way."""

    full: str = "all"
    """Networks trained on the full data: all; or N, the best N by each proxy and N at random."""

    networks: int = 1
    """Initialisations of each network of the grid, over which its accuracy is the mean."""

    eval_batch: int = 256
    """Images in a minibatch."""

    which: Literal["last", "best-held-out", "best-test"] = "last"
    """Of a run's sets: last, best on --held-out images, or best on the test set (optimistic)."""

    def __post_init__(self) -> None:
        """Check the ranges and the names."""
        numbers(1, width=self.widths, depth=self.depths)
        for name, known in (
            ("activations", ACTIVATIONS),
            ("poolings", POOLINGS),
            ("norms", NORMS),
        ):
            _check_names(name, getattr(self, name).split(","), known)
        if self.ipc is not None:
            at_least(1, ipc=self.ipc)
        at_least(2, proxy_epochs=self.proxy_epochs, full_epochs=self.full_epochs)
        at_least(1, networks=self.networks, eval_batch=self.eval_batch)
        if self.full != "all" and not re.fullmatch("[1-9][0-9]{0,5}", self.full):
            raise InputError(
                f"--full is {self.full[:40]!r}; wanted all, or how many networks are taken of each "
                "proxy, such as 10"
            )

    @property
    def full_count(self) -> int | None:
        """How many of each proxy are trained on the full data; None where all are."""
        return None if self.full == "all" else int(self.full)


@dataclass(frozen=True, kw_only=True, slots=True)
class SearchJob:
    """All that decides what a search among architectures finds."""

    data: DataConfig = field(default_factory=lambda: DataConfig(held_out=0.1))
    model: ModelConfig = field(default_factory=ModelConfig)
    search: SearchConfig = field(default_factory=SearchConfig)

    rate: float | None = None
    """Learning rate on the sets that are given; none takes the alpha that comes with each."""

    real_rate: float = 0.01
    """Learning rate on real images: random, herding, early-stop and the full data."""

    seed: int = 0
    """Decides every random draw."""

    def __post_init__(self) -> None:
        """Check the seed, the rates, and that there is something to choose by."""
        check_seed(seed=self.seed)
        check_contrast(zca=self.data.zca, contrast=self.data.contrast)
        above_zero(real_rate=self.real_rate)
        if self.rate is not None:
            above_zero(rate=self.rate)
        if self.data.held_out is None:
            raise InputError(
                "--held-out is none; a search chooses by training images that are kept apart: "
                "give --held-out 0.1"
            )


def numbers(least: int, **lists: str) -> dict[str, tuple[int, ...]]:
    """The whole numbers of some flags that join them by commas.

    Args:
        least: that each may be.
        lists: by the name of one, such as `width` for `--widths`.

    Raises:
        InputError: one is no such number, or stands twice.
    """
    found = {}
    for name, text in lists.items():
        shown, parts = flag(f"{name}s"), text.split(",")
        for part in parts:
            if not re.fullmatch("[0-9]{1,9}", part) or not least <= int(part) <= MOST[name]:
                raise InputError(
                    f"{shown} has {part[:40]!r}; wanted whole numbers from {least} to "
                    f"{MOST[name]}, joined by commas"
                )
        found[name] = tuple(int(part) for part in parts)
        _check_once(shown, found[name])
    return found


def _check_names(name: str, given: Sequence[str], known: Sequence[str]) -> None:
    for one in given:
        if one not in known:
            raise InputError(f"{flag(name)} has {one[:40]!r}; wanted some of {','.join(known)}")
    _check_once(flag(name), given)


def _check_once(shown: str, given: Sequence[object]) -> None:
    if len(set(given)) < len(given):
        twice = next(one for place, one in enumerate(given) if one in given[:place])
        raise InputError(f"{shown} names {twice} twice; name each once")
    if len(given) > _MOST_LISTED:
        raise InputError(f"{shown} names {len(given)}; wanted {_MOST_LISTED} at most")
