"""What a command is asked for: the settings of every stage that it runs, and a seed."""

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from ddpp_jax.configs.checks import check_seed
from ddpp_jax.configs.stages import (
    DataConfig,
    DistillConfig,
    EvaluateConfig,
    ModelConfig,
    TeachConfig,
)
from ddpp_jax.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachersJob:
    """All that decides what the teachers are."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    teaching: TeachConfig = field(default_factory=TeachConfig)

    seed: int = 0
    """Decides every random draw."""

    def __post_init__(self) -> None:
        """Check the seed."""
        check_seed(seed=self.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillJob(TeachersJob):
    """All that decides what a whole run computes; nothing about where it is written or shown."""

    distillation: DistillConfig = field(default_factory=DistillConfig)
    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)

    baselines: bool = True
    """Also judge random real images, and distil by MTT from the same teachers."""

    def __post_init__(self) -> None:
        """Check what spans several stages."""
        TeachersJob.__post_init__(self)
        last_target = self.distillation.last_target
        if last_target > self.teaching.last_kept:
            name = "epochs" if self.teaching.keep_epochs is None else "keep-epochs"
            raise InputError(
                f"--{name} {self.teaching.last_kept} is too few: --max-start-epoch "
                f"{self.distillation.max_start_epoch} and --target-epochs "
                f"{self.distillation.target_epochs} reach epoch {last_target}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateJob:
    """All that decides how good a small set is found to be."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)

    seed: int = 0
    """Decides every random draw."""

    def __post_init__(self) -> None:
        """Check the seed."""
        check_seed(seed=self.seed)


def digest(values: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change whenever any of the values does."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]
