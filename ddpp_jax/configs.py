"""Every setting of the three stages: its default, its unit and its check.

The defaults are those of the main job on the handwritten digits.
"""

import hashlib
import json
import math
from dataclasses import dataclass, field
from typing import Any

from ddpp_jax._types import OPERATIONS
from ddpp_jax.errors import InputError


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The real data, and how images are augmented in all three stages."""

    dataset: str = "digits"
    """Which data: digits (1,797 grey 8x8 images that ship with scikit-learn)."""

    data_dir: str | None = None
    """Folder that holds prepared datasets; the digits need none."""

    augment: str = "crop,scale,rotate"
    """DSA operations joined by commas (color,crop,cutout,flip,scale,rotate), or all, or none."""

    def __post_init__(self) -> None:
        """Check the names of the operations."""
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown:
            raise InputError(
                f"--augment names {unknown[0]!r}; "
                f"wanted some of {','.join(OPERATIONS)}, or all, or none"
            )

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that `augment` names, in its order."""
        if self.augment == "none":
            return ()
        return OPERATIONS if self.augment == "all" else tuple(self.augment.split(","))


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The ConvNet of teachers, students and evaluation."""

    width: int = 32
    """Features of every convolution; the paper takes 128."""

    depth: int = 2
    """Blocks, each of which halves the image; the paper takes 3 for 32x32 images."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _at_least(1, width=self.width, depth=self.depth)


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachingConfig:
    """Stage 1: networks trained on the real data, kept after every epoch."""

    teachers: int = 10
    """How many networks (the paper's N; 200 for CIFAR)."""

    epochs: int = 20
    """Passes over the real training set for each teacher."""

    teacher_rate: float = 0.1
    """Learning rate of the teachers' plain SGD."""

    teacher_batch: int = 256
    """Real images in a teacher's minibatch."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _at_least(1, teachers=self.teachers, epochs=self.epochs, teacher_batch=self.teacher_batch)
        _above_zero(teacher_rate=self.teacher_rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """Stage 2: Algorithm 1, matching the teachers' trajectories."""

    ipc: int = 1
    """Distilled images per class."""

    student_steps: int = 20
    """SGD steps of the student on the distilled images (J)."""

    target_epochs: int = 2
    """Teacher epochs between the start and the target (K)."""

    max_start_epoch: int = 10
    """Start epochs are drawn from 0 up to, not including, this one (I+)."""

    threshold: float | None = 0.1
    """Prune where student/target or target/student is below this (epsilon); none is MTT."""

    student_batch: int | None = None
    """Distilled images in a student step; a divisor of their number, or none for all of them."""

    pixel_rate: float = 10.0
    """Learning rate of the pixels, in normalised units."""

    alpha: float = 0.04
    """The student's learning rate at the start; it is trained."""

    alpha_rate: float = 1e-4
    """Learning rate of alpha."""

    momentum: float = 0.5
    """Momentum of the SGD on pixels and alpha."""

    steps: int = 1000
    """Distillation steps (T; 5,000 in the paper)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _at_least(
            1,
            ipc=self.ipc,
            student_steps=self.student_steps,
            target_epochs=self.target_epochs,
            max_start_epoch=self.max_start_epoch,
            steps=self.steps,
        )
        _above_zero(alpha=self.alpha)
        if self.student_batch is not None:
            _at_least(1, student_batch=self.student_batch)
        for name in ("pixel_rate", "alpha_rate"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise InputError(f"{_flag(name)} is {value:g}; wanted a finite rate of 0 or more")
        if not 0 <= self.momentum < 1:
            raise InputError(f"--momentum is {self.momentum:g}; wanted 0 or more and below 1")
        if self.threshold is not None and not 0 < self.threshold <= 1:
            raise InputError(
                f"--threshold is {self.threshold:g}; wanted a ratio above 0 and at most 1, or none"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluateConfig:
    """Stage 3: fresh networks trained on a small set, by the published schedule."""

    networks: int = 5
    """Networks trained from scratch; mean and standard deviation are over them."""

    eval_epochs: int = 1000
    """Index of the last epoch; the rate falls tenfold half way."""

    eval_batch: int = 256
    """Images in a minibatch."""

    random_draws: int = 5
    """Draws of random real images for the baseline, each with its own networks."""

    eval_every: int = 200
    """Distillation steps between evaluations for the accuracy curve; 0 for none."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _at_least(1, networks=self.networks, eval_batch=self.eval_batch)
        _at_least(1, eval_epochs=self.eval_epochs)
        _at_least(0, eval_every=self.eval_every, random_draws=self.random_draws)


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachersConfig:
    """All that decides what the teachers are."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    teaching: TeachingConfig = field(default_factory=TeachingConfig)

    seed: int = 0
    """Decides every random draw."""

    def __post_init__(self) -> None:
        """Check the seed."""
        _at_least(0, seed=self.seed)


@dataclass(frozen=True, kw_only=True, slots=True)
class RunConfig(TeachersConfig):
    """All that decides what a whole run computes; nothing about where it is written or shown."""

    distillation: DistillConfig = field(default_factory=DistillConfig)
    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)

    baselines: bool = True
    """Also judge random real images, and distil by MTT from the same teachers."""

    def __post_init__(self) -> None:
        """Check what spans several stages."""
        TeachersConfig.__post_init__(self)
        last_target = self.distillation.max_start_epoch - 1 + self.distillation.target_epochs
        if last_target > self.teaching.epochs:
            raise InputError(
                f"--epochs {self.teaching.epochs} is too few: --max-start-epoch "
                f"{self.distillation.max_start_epoch} and --target-epochs "
                f"{self.distillation.target_epochs} reach epoch {last_target}"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class EvaluationConfig:
    """All that decides how good a small set is found to be."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    evaluation: EvaluateConfig = field(default_factory=EvaluateConfig)

    seed: int = 0
    """Decides every random draw."""

    def __post_init__(self) -> None:
        """Check the seed."""
        _at_least(0, seed=self.seed)


def digest(values: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change whenever any of the values does."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def _at_least(least: int, **values: int) -> None:
    for name, value in values.items():
        if value < least:
            raise InputError(f"{_flag(name)} is {value}; wanted {least} or more")


def _above_zero(**values: float) -> None:
    for name, value in values.items():
        if not 0 < value < math.inf:
            raise InputError(f"{_flag(name)} is {value:g}; wanted a finite number above 0")
