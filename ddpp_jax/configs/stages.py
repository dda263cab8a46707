"""The settings of each stage: their defaults, units and checks.

The defaults are the paper's for CIFAR-10 at one image per class, filled from MTT where the paper is
silent.
"""

import re
from dataclasses import dataclass
from typing import Literal

from ddpp_jax._types import OPERATIONS, Precision
from ddpp_jax.configs.checks import (
    LARGEST,
    SMALLEST,
    above_zero,
    at_least,
    check_seed,
    share,
    shown,
    zero_or_more,
)
from ddpp_jax.errors import InputError

DECIDE_IMAGES = (
    "image_size",
    "crop",
    "channels",
    "range",
    "per_class",
    "test_share",
    "held_out",
    "split_seed",
)
"""Settings of a dataset that decide which images there are, and how they look."""


def check_contrast(*, zca: bool, contrast: bool) -> None:
    """Refuse contrast without whitening; jobs that read given sets may have either from these.

    Raises:
        InputError: it is.
    """
    if contrast and not zca:
        raise InputError(
            "--contrast is of KIP's ZCA whitening and goes with --zca alone; give --zca too, or "
            "--no-contrast"
        )


@dataclass(frozen=True, kw_only=True, slots=True)
class DataConfig:
    """The real data, and how images are augmented in all three stages."""

    dataset: str = "digits"
    """digits; a name TFDS knows, such as cifar10; a folder of images; or an .npz file."""

    data_dir: str | None = None
    """Folder with TFDS's prepared datasets, or with the folder that --dataset names."""

    image_size: int | None = None
    """Resize to this many pixels a side, antialiased; none keeps the images as they are."""

    crop: bool = False
    """Cut images to the square in their middle before they are resized, instead of stretching."""

    channels: int | None = None
    """1 for grey, 3 for colour; none keeps the images as they are."""

    range: str | None = None
    """LOW,HIGH, the pixels that are black and white; none takes those of the format, or data."""

    zca: bool = False
    """ZCA whitening, fitted on the training images; without it, normalisation per channel."""

    contrast: bool = False
    """Bring each image to mean 0 and length 1 before whitening, as KIP has it; with --zca alone."""

    per_class: int | None = None
    """Use only this many training images of each class, drawn at random; none uses all."""

    test_share: float = 0.2
    """Share of each class to test on, where the data come without a test set."""

    held_out: float | None = None
    """Share of each class's training images that is kept from all training, to choose by."""

    split_seed: int = 0
    """Decides these splits and the draw of --per-class."""

    augment: str = "all"
    """DSA operations joined by commas (color,crop,cutout,flip,scale,rotate), or all, or none."""

    def __post_init__(self) -> None:
        """Check the ranges and the names of the operations."""
        if not self.dataset:
            raise InputError("--dataset is empty; wanted a name, a folder or an .npz file")
        if self.image_size is not None:
            at_least(1, image_size=self.image_size)
        if self.per_class is not None:
            at_least(1, per_class=self.per_class)
        if self.channels not in (None, 1, 3):
            raise InputError(f"--channels is {shown(self.channels)}; wanted 1, 3 or none")
        share("a share", test_share=self.test_share)
        if self.held_out is not None:
            share("a share", none=True, held_out=self.held_out)
        if self.range is not None and self.low_high is None:
            raise InputError(
                f"--range is {self.range!r}; wanted LOW,HIGH, two finite numbers, the first below "
                "the second, such as 0,4095, or none"
            )
        check_seed(split_seed=self.split_seed)
        if len(set(self.operations)) < len(self.operations):
            raise InputError(f"--augment {self.augment!r} names an operation twice; name it once")
        unknown = [name for name in self.operations if name not in OPERATIONS]
        if unknown:
            raise InputError(
                f"--augment names {unknown[0]!r}; "
                f"wanted some of {','.join(OPERATIONS)}, or all, or none"
            )

    @property
    def low_high(self) -> tuple[float, float] | None:
        """The two numbers of `range`; none where it is none, or is not two such numbers."""
        try:
            low, high = map(float, (self.range or "").split(","))
        except ValueError:
            return None
        whole = -LARGEST <= low < high <= LARGEST and high - low >= SMALLEST
        return (low, high) if whole else None

    @property
    def operations(self) -> tuple[str, ...]:
        """The operations that `augment` names, in its order."""
        if self.augment == "none":
            return ()
        return OPERATIONS if self.augment == "all" else tuple(self.augment.split(","))


@dataclass(frozen=True, kw_only=True, slots=True)
class ModelConfig:
    """The ConvNet of teachers and students, and the size of every network that is evaluated."""

    width: int = 128
    """Features of the ConvNet's convolutions; the others are as published at 128, and scale."""

    depth: int = 3
    """Blocks, each of which halves the image; 3 in the paper for 32x32, 5 for 112x112."""

    precision: Precision = "default"
    """Of float32 products: the device's own (TF32 on GPUs) or full; or all but norms bfloat16."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(1, width=self.width, depth=self.depth)


_SHARPNESS = ("sam_rho", "sam_adaptive", "gsam_alpha")
"""Settings of SAM and GSAM."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TeachConfig:
    """Stage 1: networks trained on the real data, kept after every epoch."""

    teachers: int = 200
    """How many networks; 200 in the paper for CIFAR (N)."""

    epochs: int = 50
    """Passes over the real training set for each teacher; 50 in the paper."""

    teacher_rate: float = 0.01
    """Learning rate of the teachers' plain SGD."""

    teacher_optimizer: Literal["sgd", "sam", "gsam"] = "sgd"
    """Plain SGD, as published for MTT; or SAM or GSAM around it, for flat teachers (FTD, DATM).

    These take two gradients a step.
    """

    sam_rho: float = 0.01
    """How far SAM and GSAM look for a sharper point; 0.01 in FTD and DATM."""

    sam_adaptive: bool = True
    """Measure that in units of each parameter, as FTD and DATM do."""

    gsam_alpha: float = 0.3
    """How much GSAM takes away of the gradient across that at the sharper point."""

    teacher_batch: int = 256
    """Real images in a teacher's minibatch."""

    balance: bool = False
    """Show images of rarer classes more often, so that every class is seen equally often."""

    keep_epochs: int | None = None
    """Keep the parameters up to this epoch only; none keeps all of them."""

    teacher_seed: int | None = None
    """Decides the draws of the teachers, so that runs of several seeds share them; none: --seed."""

    imported: str | None = None
    """Take the teachers that `teachers --import` named so; none trains them."""

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings that nothing follows from, as the others are."""
        if self.imported is not None:
            return (
                "teacher_rate",
                "teacher_optimizer",
                "teacher_batch",
                "teacher_seed",
                *_SHARPNESS,
            )
        return {"sgd": _SHARPNESS, "sam": ("gsam_alpha",), "gsam": ()}[self.teacher_optimizer]

    @property
    def last_kept(self) -> int:
        """The last epoch whose parameters are kept."""
        return self.epochs if self.keep_epochs is None else self.keep_epochs

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(1, teachers=self.teachers, epochs=self.epochs, teacher_batch=self.teacher_batch)
        if not 1 <= self.last_kept <= self.epochs:
            raise InputError(
                f"--keep-epochs is {shown(self.keep_epochs)}; "
                f"wanted 1 to --epochs {self.epochs}, or none"
            )
        above_zero(teacher_rate=self.teacher_rate)
        zero_or_more(sam_rho=self.sam_rho, gsam_alpha=self.gsam_alpha)
        if self.teacher_seed is not None:
            check_seed(teacher_seed=self.teacher_seed)
        if self.imported is not None and not re.fullmatch("[0-9a-f]{8}", self.imported):
            raise InputError(
                f"--imported is {self.imported!r}; wanted the eight digits that teachers --import "
                "gave, such as 5d1f03ab, or none"
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

    which: Literal["last", "best-held-out", "best-test"] = "last"
    """Of a run's sets: last, best on --held-out images, or best on the test set (optimistic)."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(1, networks=self.networks, eval_batch=self.eval_batch)
        at_least(1, eval_epochs=self.eval_epochs)


@dataclass(frozen=True, kw_only=True, slots=True)
class SelectConfig:
    """Real images chosen in place of distilled ones."""

    method: Literal["random", "herding", "forgetting", "forgetting-least", "k-centre"] = "herding"
    """How they are chosen; forgetting takes the most forgotten, as published comparisons do."""

    ipc: int = 1
    """Images per class."""

    def __post_init__(self) -> None:
        """Check the range."""
        at_least(1, ipc=self.ipc)
