"""Every setting of the three stages: its default, its unit and its check.

The defaults of the classes are the paper's for CIFAR-10 at one image per class, filled from MTT
where the paper is silent. `DIGITS` varies them for the main job on the handwritten digits.
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

    augment: str = "all"
    """DSA operations joined by commas (color,crop,cutout,flip,scale,rotate), or all, or none."""

    def __post_init__(self) -> None:
        """Check the names of the operations."""
        if len(set(self.operations)) < len(self.operations):
            raise InputError(f"--augment {self.augment!r} names an operation twice; name it once")
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

    width: int = 128
    """Features of every convolution; 128 in the paper."""

    depth: int = 3
    """Blocks, each of which halves the image; 3 in the paper for 32x32, 5 for 112x112."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        _at_least(1, width=self.width, depth=self.depth)


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachConfig:
    """Stage 1: networks trained on the real data, kept after every epoch."""

    teachers: int = 200
    """How many networks; 200 in the paper for CIFAR (N)."""

    epochs: int = 50
    """Passes over the real training set for each teacher; 50 in the paper."""

    teacher_rate: float = 0.01
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

    student_steps: int = 50
    """SGD steps of the student on the distilled images (J)."""

    target_epochs: int = 2
    """Teacher epochs between the start and the target (K)."""

    max_start_epoch: int = 2
    """Start epochs are drawn from 0 up to, not including, this one (I+)."""

    threshold: float | None = 0.1
    """Prune where student/target or target/student is below this (epsilon); none is MTT."""

    student_batch: int | None = None
    """Distilled images in a student step; a divisor of their number, or none for all of them."""

    pixel_rate: float = 100.0
    """Learning rate of the pixels, in normalised units."""

    alpha: float = 0.01
    """The student's learning rate at the start; it is trained."""

    alpha_rate: float = 1e-7
    """Learning rate of alpha."""

    momentum: float = 0.5
    """Momentum of the SGD on pixels and alpha."""

    steps: int = 5000
    """Distillation steps; 5,000 in the paper (T)."""

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
class TeachersJob:
    """All that decides what the teachers are."""

    data: DataConfig = field(default_factory=DataConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    teaching: TeachConfig = field(default_factory=TeachConfig)

    seed: int = 0
    """Decides every random draw."""

    def __post_init__(self) -> None:
        """Check the seed."""
        _check_seed(self.seed)


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
        last_target = self.distillation.max_start_epoch - 1 + self.distillation.target_epochs
        if last_target > self.teaching.epochs:
            raise InputError(
                f"--epochs {self.teaching.epochs} is too few: --max-start-epoch "
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
        _check_seed(self.seed)


def digest(values: dict[str, Any]) -> str:
    """Eight hexadecimal digits that change whenever any of the values does."""
    text = json.dumps(values, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def _check_seed(seed: int) -> None:
    if not 0 <= seed < 2**32:
        raise InputError(f"--seed is {seed}; wanted a whole number from 0 to {2**32 - 1}")


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


DIGITS = DistillJob(
    data=DataConfig(dataset="digits", augment="crop,scale,rotate"),
    model=ModelConfig(width=32, depth=2),
    teaching=TeachConfig(teachers=10, epochs=20, teacher_rate=0.1),
    distillation=DistillConfig(
        student_steps=20,
        max_start_epoch=10,
        pixel_rate=10.0,
        alpha=0.04,
        alpha_rate=1e-4,
        steps=1000,
    ),
)
"""The main job: 1,797 handwritten digits of 8x8 pixels, one distilled image per class."""
