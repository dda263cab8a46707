"""Stage 2: the settings that every method of distillation has, and those of trajectory matching.

The defaults are the paper's for CIFAR-10 at one image per class, filled from MTT where the paper is
silent.
"""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal, NamedTuple

from ddpp_jax._types import MaskName
from ddpp_jax.configs.checks import SMALLEST, above_zero, at_least, zero_or_more
from ddpp_jax.errors import InputError

_MOST_MOMENTUM = 0.9999  # Nearer to 1, float32 and any number of steps make it 1.


class Searched(NamedTuple):
    """A number that is found by trying, where nobody has settings for the data.

    Attributes:
        name: of the setting.
        low: the lowest value that is tried.
        high: the highest.
        tried: how many values are tried, evenly spaced by their logarithms.
        whole: only whole numbers are tried.
        gains: a higher value gains with the steps of a run, so that of values that are equal within
            the error the highest is taken.
    """

    name: str
    low: float
    high: float
    tried: int
    whole: bool = False
    gains: bool = False

    def values(self, most: int | float | None = None) -> tuple[int | float, ...]:
        """The values to try, none above `most`."""
        if most is not None and most < self.low:
            return (most,)
        high = self.high if most is None else min(self.high, most)
        spread = (high / self.low) ** (1 / max(1, self.tried - 1))
        found = [self.low * spread**place for place in range(self.tried)]
        rounded = [round(value) if self.whole else float(f"{value:.2g}") for value in found]
        return tuple(sorted(set(rounded)))


@dataclass(frozen=True, kw_only=True, slots=True)
class DistillConfig:
    """What every method is told."""

    ipc: int = 1
    """Distilled images per class."""

    steps: int = 5000
    """Distillation steps; 5,000 in the paper (T)."""

    pixel_rate: float = 100.0
    """Learning rate of the pixels, in normalised units."""

    optimizer: Literal["sgd", "adam"] = "sgd"
    """Of the pixels and what else is trained but labels: SGD with momentum, as published, or Adam.

    With Adam the pixel rate is about how far a pixel moves in a step, in deviations of the data,
    and --alpha-rate by which part alpha changes.
    """

    momentum: float = 0.5
    """Momentum of the SGD, or the first decay rate of Adam."""

    alpha: float = 0.01
    """The learning rate that goes with the images; where it is trained, at the start."""

    eval_every: int = 200
    """Distillation steps between evaluations, for the curve and the best sets; 0 for none."""

    SWEPT: ClassVar[tuple[str, ...]] = ("pixel-rate", "alpha")
    """What may differ between distillations that go through one program."""

    FED: ClassVar[tuple[str, ...]] = ()
    """What decides what the steps read alone, and is no part of their program."""

    SEARCHED: ClassVar[tuple[Searched, ...]] = ()
    """What is found by trying, with Adam, where nobody has settings for the data."""

    @property
    def title(self) -> str:
        """What tables call the method."""
        raise NotImplementedError

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings that nothing follows from, as the others are."""
        return ()

    @property
    def soft_labels(self) -> str | None:
        """Whose soft labels random real images are given beside a set with learned ones, if any."""
        return None

    @property
    def last_epoch(self) -> int | None:
        """The last epoch of the teachers that is read; None where no teachers are needed."""
        return None

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(1, ipc=self.ipc, steps=self.steps)
        at_least(0, eval_every=self.eval_every)
        above_zero(alpha=self.alpha)
        zero_or_more(pixel_rate=self.pixel_rate)
        if self.momentum != 0 and not SMALLEST <= self.momentum <= _MOST_MOMENTUM:
            raise InputError(
                f"--momentum is {self.momentum:g}; wanted 0 or more and at most {_MOST_MOMENTUM}"
            )


TEACHERS_LABELS = "teachers' labels"
"""Where learned labels begin in trajectory matching."""


@dataclass(frozen=True, kw_only=True, slots=True)
class TrajectoryConfig(DistillConfig):
    """Algorithm 1, matching the teachers' trajectories: DDPP, or MTT where nothing is pruned."""

    student_steps: int = 50
    """SGD steps of the student on the distilled images (J)."""

    target_epochs: int = 2
    """Teacher epochs between the start and the target (K)."""

    max_start_epoch: int = 2
    """Start epochs are drawn from 0 up to, not including, this one (I+)."""

    min_start_epoch: int = 0
    """Start epochs are drawn from this one on."""

    early_start_epoch: int | None = None
    """In the first step start epochs are below this one; the bound grows to --max-start-epoch."""

    growth_steps: int = 1000
    """Distillation steps over which that bound grows."""

    mask: MaskName = "ratio"
    """Which parameters are pruned: those of ratio in the paper; none is MTT.

    With --threshold, ratio and ratio-magnitude prune by their own rule; difference-largest,
    difference-smallest, depth and random prune as many as ratio would. signs prunes those whose
    signs differ. learned prunes none: each parameter has a weight, trained with the images.
    """

    threshold: float | None = 0.1
    """Prune where student/target or target/student is below this (epsilon); none is MTT."""

    prune_share: float | None = None
    """In place of a threshold, the share of the parameters that the mask prunes, from 0 to 1."""

    weight_rate: float = 0.01
    """Learning rate of the parameters' weights, with --mask learned; --momentum is theirs too."""

    student_batch: int | None = None
    """Distilled images in a student step; a divisor of their number, or none for all of them."""

    alpha_rate: float = 1e-7
    """Learning rate of alpha."""

    learn_labels: bool = False
    """Train the labels too, as probabilities that start from what the teachers say (DATM)."""

    label_rate: float = 2.0
    """Learning rate of the labels' logits, where they are trained; momentum 0.9."""

    match: Literal["last", "nearest"] = "last"
    """After which of its steps a student is compared: the last, or the nearest (ATT)."""

    start_images: Literal["any", "correct"] = "any"
    """Real images to start from: any, or those that most teachers put into their class (DATM)."""

    image_average: float = 0.0
    """The set is a running mean of the images that keeps this of itself in a step; 0 is none."""

    segments: int = 1
    """Segments of trajectories in a step, their gradients averaged; the devices share them."""

    skip_above: float | None = None
    """A step whose loss is above this changes nothing; none takes every finite step."""

    SWEPT: ClassVar[tuple[str, ...]] = (
        "threshold",
        "mask",
        "prune-share",
        "weight-rate",
        "pixel-rate",
        "alpha",
        "alpha-rate",
        "label-rate",
        "image-average",
    )
    FED: ClassVar[tuple[str, ...]] = (
        "max_start_epoch",
        "min_start_epoch",
        "early_start_epoch",
        "growth_steps",
        "target_epochs",
    )
    SEARCHED: ClassVar[tuple[Searched, ...]] = (
        Searched("max_start_epoch", 2, 16, 3, whole=True, gains=True),
        Searched("pixel_rate", 0.03, 0.3, 3),
    )

    @property
    def title(self) -> str:
        """What tables call the method."""
        more = ", labels learned" if self.learn_labels else ""
        more += ", nearest step" if self.match == "nearest" else ""
        more += ", images averaged" if self.image_average else ""
        return self._named + more

    @property
    def _named(self) -> str:
        if not self.prunes:
            return "MTT (no pruning)"
        if self.mask in ("signs", "learned"):
            return f"mask {self.mask}"
        if self.prune_share is not None:
            return f"mask {self.mask} (share {self.prune_share:g})"
        name = "DDPP" if self.mask == "ratio" else f"mask {self.mask}"
        return f"{name} (threshold {self.threshold:g})"

    @property
    def prunes(self) -> bool:
        """Whether parameters are pruned or weighted; MTT does neither."""
        return self.mask != "none" and self.threshold is not None

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings that nothing follows from, as the others are."""
        found = () if self.mask == "learned" and self.prunes else ("weight_rate",)
        found += () if self.learn_labels else ("label_rate",)
        found += () if self.early_start_epoch is not None else ("growth_steps",)
        chosen = self.prune_share is not None or self.mask in ("signs", "learned", "none")
        return found + (("threshold",) if chosen else ())

    @property
    def grows_too_slowly(self) -> bool:
        """Whether the last step comes before the bound of the start epochs has grown up."""
        early = self.early_start_epoch
        if early is None or early >= self.max_start_epoch:
            return False
        return self.growth_steps >= self.steps

    @property
    def soft_labels(self) -> str | None:
        """Whose soft labels random real images are given beside a set with learned ones, if any."""
        return TEACHERS_LABELS if self.learn_labels else None

    def without_mask(self) -> "TrajectoryConfig":
        """MTT with the same settings."""
        return dataclasses.replace(self, mask="ratio", threshold=None, prune_share=None)

    @property
    def last_epoch(self) -> int:
        """The last teacher epoch that a student is compared with: I+ - 1 + K."""
        return self.max_start_epoch - 1 + self.target_epochs

    def __post_init__(self) -> None:
        """Check the ranges."""
        DistillConfig.__post_init__(self)
        at_least(
            1,
            student_steps=self.student_steps,
            target_epochs=self.target_epochs,
            max_start_epoch=self.max_start_epoch,
            segments=self.segments,
        )
        if self.student_batch is not None:
            at_least(1, student_batch=self.student_batch)
        zero_or_more(alpha_rate=self.alpha_rate, label_rate=self.label_rate)
        self._check_starts()
        if self.image_average != 0 and not SMALLEST <= self.image_average < 1:
            raise InputError(
                f"--image-average is {self.image_average:g}; wanted 0 or more and below 1, such as "
                "0.999"
            )
        if self.skip_above is not None:
            above_zero(skip_above=self.skip_above)
        if self.threshold is not None and not SMALLEST <= self.threshold <= 1:
            raise InputError(
                f"--threshold is {self.threshold:g}; wanted a ratio above 0 and at most 1, or none"
            )
        self._check_mask()

    def _check_mask(self) -> None:
        zero_or_more(weight_rate=self.weight_rate)
        if self.threshold is None and self.mask not in ("ratio", "none"):
            raise InputError(
                f"--mask {self.mask} has no use without pruning, which --threshold none and "
                "--method mtt ask for; leave one out"
            )
        share = self.prune_share
        if share is None:
            return
        if not SMALLEST <= share < 1:
            raise InputError(
                f"--prune-share is {share:g}; wanted a share above 0 and below 1, or none"
            )
        if not self.prunes or self.mask in ("signs", "learned"):
            said = "--threshold none" if self.threshold is None else f"--mask {self.mask}"
            raise InputError(f"--prune-share {share:g} has no use with {said}; leave one out")

    def _check_starts(self) -> None:
        at_least(0, min_start_epoch=self.min_start_epoch)
        at_least(1, growth_steps=self.growth_steps)
        if self.early_start_epoch is not None:
            at_least(1, early_start_epoch=self.early_start_epoch)
        low, most, early = self.min_start_epoch, self.max_start_epoch, self.early_start_epoch
        if low >= most:
            raise InputError(
                f"--min-start-epoch is {low}; wanted one below --max-start-epoch, which is {most}; "
                "give both"
            )
        if early is not None and not low < early <= most:
            raise InputError(
                f"--early-start-epoch is {early}; wanted one above --min-start-epoch {low} and at "
                f"most --max-start-epoch {most}, or none; give all of them"
            )
