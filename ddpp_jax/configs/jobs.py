"""What a command is asked for: the settings of every stage that it runs, and a seed."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, is_dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar, cast, get_type_hints

from ddpp_jax.configs.checks import above_zero, at_least, check_architecture, check_seed, has_type
from ddpp_jax.configs.distillation import DistillConfig, TrajectoryConfig
from ddpp_jax.configs.methods import METHODS, check_method, check_settings
from ddpp_jax.configs.stages import (
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    SelectConfig,
    TeachConfig,
    check_contrast,
)
from ddpp_jax.errors import InputError

Config = TypeVar("Config", bound=DistillConfig)

Reading = Literal["auto", "device", "stream"]
"""Where what is large is read from: held on the device, streamed from disk, or as it fits."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachersJob:
    """All that decides what the teachers are."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    teaching: TeachConfig = field(default_factory=TeachConfig)

    seed: int = 0
    """Decides every random draw."""

    @property
    def teaching_seed(self) -> int:
        """What decides the draws of the teachers."""
        own = self.teaching.teacher_seed
        return self.seed if own is None else own

    def __post_init__(self) -> None:
        """Check the seed and the whitening."""
        check_seed(seed=self.seed)
        check_contrast(zca=self.data.zca, contrast=self.data.contrast)


def check_reach(settings: DistillConfig, teaching: TeachConfig) -> None:
    """Refuse a distillation that reads epochs of the teachers that are not kept.

    Raises:
        InputError: it does.
    """
    last = settings.last_epoch
    if last is not None and last > teaching.last_kept:
        name = "epochs" if teaching.keep_epochs is None else "keep-epochs"
        raise InputError(
            f"--{name} {teaching.last_kept} is too few: --max-start-epoch and --target-epochs "
            f"reach epoch {last}"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillJob(TeachersJob, Generic[Config]):
    """All that decides what a whole run computes; nothing about where it is written or shown."""

    method: str = "ddpp"
    """Of distillation: ddpp (the paper's), mtt (no pruning), dc, dsa, dm, cafe, kip or bptt."""

    distillation: Config = field(default_factory=cast(Callable[[], Config], TrajectoryConfig))
    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)

    baselines: bool = True
    """Also evaluate random real images and, beside DDPP, distil by MTT from the same teachers."""

    random_draws: int = 5
    """Draws of random real images for that, each with its own networks."""

    real_rate: float = 0.01
    """Learning rate on real images, random or selected, which come with no alpha of their own."""

    def __post_init__(self) -> None:
        """Check what spans several stages."""
        TeachersJob.__post_init__(self)
        at_least(0, random_draws=self.random_draws)
        above_zero(real_rate=self.real_rate)
        check_settings(self.method, self.distillation, self.data.operations)
        check_reach(self.distillation, self.teaching)
        which = self.evaluation.which
        if which != "last" and not self.distillation.eval_every:
            raise InputError(f"--which {which} needs --eval-every above 0")
        if which == "best-held-out" and self.data.held_out is None:
            raise InputError(
                "--which best-held-out needs training images that are kept apart; give "
                "--held-out 0.1"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectJob(TeachersJob):
    """All that decides which real images are chosen, and how they are to be evaluated."""

    selection: SelectConfig = field(default_factory=SelectConfig)
    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)

    real_rate: float = 0.01
    """Learning rate that goes with the images, for networks that are trained on them."""

    def __post_init__(self) -> None:
        """Check the seed and the rate."""
        TeachersJob.__post_init__(self)
        above_zero(real_rate=self.real_rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateJob:
    """All that decides how good a small set is found to be."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)

    architectures: str = "convnet"
    """Joined by commas: convnet (or with its depth, convnet5), alexnet, vgg11, resnet18(-ap)."""

    rate: float | None = None
    """Learning rate at first; none takes the alpha that comes with each set."""

    normalised: bool = False
    """Images whose file does not say it are normalised, or whitened, as the data settings say."""

    seed: int | None = None
    """Decides every random draw; none takes the seed that each set was made with, or 0."""

    def __post_init__(self) -> None:
        """Check the seed, the rate and the names."""
        if self.seed is not None:
            check_seed(seed=self.seed)
        if self.rate is not None:
            above_zero(rate=self.rate)
        for name in self.names:
            check_architecture(name)
        if len(set(self.names)) < len(self.names):
            raise InputError(f"--architectures {self.architectures!r} names one twice")

    @property
    def names(self) -> tuple[str, ...]:
        """The architectures, one by one."""
        return tuple(self.architectures.split(","))


@dataclass(frozen=True, kw_only=True, slots=True)
class Places:
    """Where things are kept, and how what is large is read; figures differ by rounding at most."""

    teachers_dir: Path = Path("runs/teachers")
    """Folder of all teachers; each setting has a subfolder of its own."""

    cache_dir: Path = Path("runs/cache")
    """Folder for what was fitted to the data and can be fitted again (ZCA)."""

    read: Reading = "auto"
    """Hold the teachers on the device, stream them from disk, or decide by what fits."""

    images: Reading = "auto"
    """Hold all real images in memory, stream them from disk, or decide by what fits."""


def evaluate_job(settings: Mapping[str, Any]) -> EvaluateJob:
    """The evaluation that belongs to a job's settings, as plain values.

    Raises:
        InputError: they are not the settings of a job of this version.
    """
    try:
        return EvaluateJob(
            data=DataConfig(**settings["data"]),
            model=ModelConfig(**settings["model"]),
            evaluation=EvaluateConfig(**settings["evaluation"]),
        )
    except (KeyError, TypeError) as error:
        raise InputError(
            f"the settings kept with the set are not of this version ({error}); give --setting"
        ) from error


def job_of(values: Mapping[str, Any]) -> DistillJob:
    """A job from its settings as plain values, of which some may be left out.

    Raises:
        InputError: a name is unknown, or a value cannot be taken.
    """
    method = values.get("method", "ddpp")
    if not isinstance(method, str):
        raise InputError(f"the settings have method {method!r}; wanted a name")
    kinds: dict[str, type] = {
        "data": DataConfig,
        "model": ModelConfig,
        "teaching": TeachConfig,
        "distillation": METHODS[check_method(method)],
        "evaluation": EvaluateConfig,
    }
    stages: dict[str, Any] = {}
    for name, value in values.items():
        if name not in kinds:
            stages[name] = value
        elif isinstance(value, Mapping):
            stages[name] = _checked(kinds[name], cast(Mapping[str, Any], value))
        else:
            raise InputError(f"the settings have {name} {value!r}; wanted an object")
    return _checked(DistillJob, stages)


def _checked(kind: type, values: Mapping[str, Any]) -> Any:
    """A dataclass of values whose names and types are its own."""
    hints = get_type_hints(kind)
    for name, value in values.items():
        if name not in hints:
            raise InputError(f"settings are not of this version: there is no {name!r}")
        if is_dataclass(value) or has_type(value, hints[name]):
            continue
        raise InputError(f"the settings have {name} {value!r}, which cannot be")
    whole = {n: float(v) if hints[n] is float else v for n, v in values.items()}
    return kind(**whole)


def digest(values: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change whenever any of the values does."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
