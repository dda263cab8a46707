"""What an audit is asked for: what a small set gives away about the real images behind it."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar, cast

from ddpp_jax.configs.checks import above_zero, at_least, check_seed, shown
from ddpp_jax.configs.distillation import DistillConfig
from ddpp_jax.configs.jobs import TeachersJob, check_reach
from ddpp_jax.configs.methods import METHODS, check_settings
from ddpp_jax.configs.stages import EvaluateConfig
from ddpp_jax.errors import InputError

SELECTIONS = {
    "random": "random real images",
    "herding": "herding",
    "forgetting": "forgetting (most forgotten)",
    "forgetting-least": "forgetting (least forgotten)",
    "k-centre": "k-centre",
}
"""Ways to choose real images per class, and what tables call them."""

CHOSEN = SELECTIONS | {"real": "all members"}
"""Ways to release real images as they are, and what tables call them; `real` releases all."""

ATTACKS = ("loss", "lira")
"""Attacks by membership inference."""

LEAST_FOR_LIRA = 16
"""Shadows below which the distributions of LiRA are not fitted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenConfig:
    """Real images as they are, in place of distilled ones."""

    ipc: int = 1
    """Images per class."""

    def __post_init__(self) -> None:
        """Check the range."""
        at_least(1, ipc=self.ipc)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackConfig:
    """How an attack by membership inference is made."""

    shadows: int = 16
    """How often the training images are halved and a set made from the one half; an even number."""

    attacks: str = "loss,lira"
    """Joined by commas: loss (Yeom et al. 2018), lira (Carlini et al. 2022; 16 shadows or more)."""

    worst: int = 20
    """The most vulnerable images, reported apart where there are 8 shadows or more."""

    def __post_init__(self) -> None:
        """Check the ranges and the names."""
        at_least(4, shadows=self.shadows)  # A target needs others to learn from.
        at_least(1, worst=self.worst)
        if self.shadows % 2:
            raise InputError(
                f"--shadows is {shown(self.shadows)}; wanted an even number, since each half of "
                "the images has another half beside it"
            )
        names = self.names
        unknown = [name for name in names if name not in ATTACKS]
        if unknown or len(set(names)) < len(names):
            raise InputError(
                f"--attacks is {self.attacks!r}; wanted some of {','.join(ATTACKS)}, each once"
            )
        if "lira" in names and self.shadows < LEAST_FOR_LIRA:
            raise InputError(
                f"--shadows is {self.shadows}, too few to fit LiRA's distributions; wanted "
                f"{LEAST_FOR_LIRA} or more, or give --attacks loss"
            )

    @property
    def names(self) -> tuple[str, ...]:
        """The attacks, one by one."""
        return tuple(self.attacks.split(","))


@dataclass(frozen=True, kw_only=True, slots=True)
class CopiesJob(TeachersJob):
    """All that decides what is found near the images of a set."""

    features: bool = True
    """Also compare features of a network trained on the training images, not pixels alone."""

    def __post_init__(self) -> None:
        """Check the seed alone, since other settings may be those of a set, not yet read."""
        check_seed(seed=self.seed)


Released = TypeVar("Released", bound=DistillConfig | ChosenConfig)


@dataclass(frozen=True, kw_only=True, slots=True)
class AttackJob(TeachersJob, Generic[Released]):
    """All that decides what an attack on the sets of a method finds."""

    method: str = "random"
    """One of distill (ddpp, mtt, dc, dsa, dm, cafe, kip, bptt), of select, or real: all images."""

    distillation: Released = field(default_factory=cast(Callable[[], Released], ChosenConfig))
    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)
    attack: AttackConfig = field(default_factory=AttackConfig)

    real_rate: float = 0.01
    """Learning rate on real images, which come with no alpha of their own."""

    def __post_init__(self) -> None:
        """Check what spans several stages."""
        TeachersJob.__post_init__(self)
        above_zero(real_rate=self.real_rate)
        settings = self.distillation
        if isinstance(settings, ChosenConfig):
            if self.method not in CHOSEN:
                raise InputError(f"--method {self.method} has no settings of its own")
            return
        check_settings(self.method, settings, self.data.operations)
        check_reach(settings, self.teaching)
        if self.teaching.imported is not None:
            raise InputError(
                "--imported teachers have seen all images, members or not; leave it out, and each "
                "shadow trains its own"
            )
        if self.evaluation.which != "last":
            raise InputError(
                f"--which {self.evaluation.which} is not audited; leave it out: each shadow "
                "releases its last set"
            )

    @property
    def title(self) -> str:
        """What tables call the method."""
        settings = self.distillation
        return CHOSEN[self.method] if isinstance(settings, ChosenConfig) else settings.title


def check_audited(method: str) -> str:
    """The name of a method whose sets can be audited.

    Raises:
        InputError: there is none of that name.
    """
    known = (*METHODS, *CHOSEN)
    if method not in known:
        raise InputError(f"--method is {method!r}; wanted one of {', '.join(known)}")
    return method
