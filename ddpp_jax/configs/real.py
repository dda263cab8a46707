"""Stage 2: the settings of the methods that read real images and need no teachers.

The defaults are the published ones for CIFAR-10 at one image per class.
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from ddpp_jax._types import OPERATIONS, Placement
from ddpp_jax.configs.checks import above_zero, at_least, zero_or_more
from ddpp_jax.configs.distillation import DistillConfig, Searched
from ddpp_jax.errors import InputError

LOOPS = {1: (1, 1), 10: (10, 50), 20: (20, 25), 30: (30, 20), 40: (40, 15), 50: (50, 10)}
"""Updates of the images for each network and epochs between them, by images per class.

Zhao, Mopuri and Bilen (ICLR 2021), `get_loops` of their code, which has no others.
"""


@dataclass(frozen=True, kw_only=True, slots=True)
class RealConfig(DistillConfig):
    """What every method is told that reads real images."""

    real_batch: int = 256
    """Real images of each class in an update, or as many as the smallest class has."""

    start: Literal["real", "noise"] = "real"
    """What the distilled images start from: random real images, or Gaussian noise."""

    SEARCHED: ClassVar[tuple[Searched, ...]] = (Searched("pixel_rate", 0.003, 0.3, 5),)

    def __post_init__(self) -> None:
        """Check the ranges."""
        DistillConfig.__post_init__(self)
        at_least(1, real_batch=self.real_batch)


@dataclass(frozen=True, kw_only=True, slots=True)
class AugmentedConfig(RealConfig):
    """What a method is told that augments real and distilled images alike."""

    siamese: str = "augment"
    """DSA operations, as for --augment, for all images of a class alike; augment takes its own."""

    def operations(self, augment: tuple[str, ...]) -> tuple[str, ...]:
        """The operations.

        Args:
            augment: those of `--augment`.
        """
        if self.siamese == "augment":
            return augment
        if self.siamese == "none":
            return ()
        return OPERATIONS if self.siamese == "all" else tuple(self.siamese.split(","))

    def __post_init__(self) -> None:
        """Check the ranges and the names of the operations."""
        RealConfig.__post_init__(self)
        named = self.operations(())
        unknown = [name for name in named if name not in OPERATIONS]
        if unknown or len(set(named)) < len(named):
            raise InputError(
                f"--siamese is {self.siamese!r}; wanted some of {','.join(OPERATIONS)}, each once, "
                "or all, none or augment"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class DistributionConfig(AugmentedConfig):
    """DM: matching the mean features of each class in random networks."""

    steps: int = 20000
    """Distillation steps; 20,000 as published."""

    pixel_rate: float = 1.0
    """Learning rate of the pixels, in normalised units; 1 as published."""

    eval_every: int = 2000
    """Distillation steps between evaluations, for the curve and the best sets; 0 for none."""

    @property
    def title(self) -> str:
        """What tables call the method."""
        return "DM"


@dataclass(frozen=True, kw_only=True, slots=True)
class NetworkConfig(AugmentedConfig):
    """What a method is told whose networks are trained on the distilled images."""

    network_rate: float = 0.01
    """Learning rate of the networks, plain SGD."""

    network_batch: int = 256
    """Distilled images in a minibatch of theirs."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        AugmentedConfig.__post_init__(self)
        at_least(1, network_batch=self.network_batch)
        zero_or_more(network_rate=self.network_rate)


@dataclass(frozen=True, kw_only=True, slots=True)
class GradientConfig(NetworkConfig):
    """DSA: matching the gradients of each class's loss, real and distilled images augmented."""

    steps: int = 1000
    """Distillation steps, each with a network of its own; 1,000 as published."""

    pixel_rate: float = 0.1
    """Learning rate of the pixels, in normalised units; 0.1 as published."""

    updates: int | None = None
    """Updates of the images for each network; none takes what is published for this --ipc."""

    network_epochs: int | None = None
    """Epochs on the distilled images between two updates; none takes what is published."""

    @property
    def title(self) -> str:
        """What tables call the method."""
        return "DSA"

    @property
    def loops(self) -> tuple[int, int]:
        """Updates for each network and epochs between them: as given, or of the nearest IPC."""
        updates, epochs = LOOPS[min(LOOPS, key=lambda known: abs(known - self.ipc))]
        return self.updates or updates, self.network_epochs or epochs

    def __post_init__(self) -> None:
        """Check the ranges."""
        NetworkConfig.__post_init__(self)
        at_least(1, updates=self.loops[0], network_epochs=self.loops[1])


@dataclass(frozen=True, kw_only=True, slots=True)
class PlainGradientConfig(GradientConfig):
    """DC: matching the gradients of each class's loss, nothing augmented."""

    start: Literal["real", "noise"] = "noise"
    """What the distilled images start from: random real images, or Gaussian noise."""

    siamese: str = "none"
    """Nothing is augmented; --method dsa is where something is."""

    @property
    def title(self) -> str:
        """What tables call the method."""
        return "DC"

    def __post_init__(self) -> None:
        """Check the ranges."""
        GradientConfig.__post_init__(self)
        if self.siamese != "none":
            raise InputError(
                f"--siamese is {self.siamese!r}, and --method dc augments nothing; --method dsa is "
                "DC with augmentation"
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class AlignmentConfig(NetworkConfig):
    """CAFE: aligning the features of real and of distilled images, layer by layer."""

    steps: int = 2000
    """Distillation steps, each with a network of its own; 2,000 as published."""

    pixel_rate: float = 0.1
    """Learning rate of the pixels, in normalised units, halved at 60, 80 and 90 % of the steps."""

    start: Literal["real", "noise"] = "noise"
    """What the distilled images start from: random real images, or Gaussian noise."""

    settled: float = 0.04
    """Another network is drawn once its last ten accuracies differ by less than this."""

    moved: float = 0.03
    """A network is trained until its last ten accuracies differ by more than this."""

    @property
    def title(self) -> str:
        """What tables call the method."""
        return "CAFE (no augmentation)" if self.siamese == "none" else "CAFE"

    def __post_init__(self) -> None:
        """Check the ranges."""
        NetworkConfig.__post_init__(self)
        zero_or_more(settled=self.settled, moved=self.moved)


@dataclass(frozen=True, kw_only=True, slots=True)
class KernelConfig(RealConfig):
    """KIP: kernel regression with the tangent kernel of an infinitely wide ConvNet."""

    steps: int = 1000
    """Distillation steps; 1,000 in the published files."""

    optimizer: Literal["sgd", "adam"] = "adam"
    """Of the pixels: Adam, as published, or SGD with momentum."""

    momentum: float = 0.9
    """Momentum of the SGD, or the first decay rate of Adam."""

    pixel_rate: float = 0.04
    """About how far Adam moves a pixel in a step, in normalised units; 0.04 as published."""

    real_batch: int = 500
    """Real images of each class in a step, or as many as the smallest class has."""

    ridge: float = 1e-6
    """What is added to the diagonal of the kernel, as a share of its mean."""

    front: bool = False
    """A further convolution, without pooling, before the first block, as in KIP's own ConvNet."""

    learn_labels: bool = False
    """Train the labels too, as probabilities."""

    SEARCHED: ClassVar[tuple[Searched, ...]] = (Searched("pixel_rate", 0.01, 0.1, 3),)

    @property
    def soft_labels(self) -> str | None:
        """Whose soft labels random real images are given beside a set with learned ones, if any."""
        return f"labels of {self.title}" if self.learn_labels else None

    @property
    def title(self) -> str:
        """What tables call the method."""
        return "KIP (labels learned)" if self.learn_labels else "KIP"

    def __post_init__(self) -> None:
        """Check the ranges."""
        RealConfig.__post_init__(self)
        above_zero(ridge=self.ridge)


@dataclass(frozen=True, kw_only=True, slots=True)
class UnrolledConfig(RealConfig):
    """BPTT: the loss on real images of a network trained on the set, by truncated unrolling."""

    steps: int = 600_000
    """Distillation steps; 60,000 epochs of ten in RaT-BPTT's command."""

    optimizer: Literal["sgd", "adam"] = "adam"
    """Of pixels and labels: Adam, as published, or SGD with momentum."""

    momentum: float = 0.9
    """Momentum of the SGD, or the first decay rate of Adam."""

    pixel_rate: float = 0.001
    """About how far Adam moves a pixel in a step, in normalised units; 0.001 as published."""

    real_batch: int = 500
    """Real images of each class in a step, or as many as the smallest class has."""

    start: Literal["real", "noise"] = "noise"
    """What the images start from: random real ones, or Gaussian noise of length 1 each."""

    window: int = 60
    """Steps of a network's training that are differentiated."""

    horizon: int = 200
    """Steps of the longest training of a network, the window among them."""

    placement: Placement = "random"
    """Where the window lies: at the end, anywhere (RaT-BPTT), or by the gradients."""

    network_optimizer: Literal["sgd", "adam"] = "adam"
    """Trains the networks on the distilled images: Adam, as published, or plain SGD."""

    network_rate: float = 0.001
    """Learning rate of the networks."""

    student_batch: int | None = None
    """Distilled images in a network's step; a divisor of their number, or none for all of them."""

    learn_labels: bool = False
    """Train the labels too, as probabilities."""

    label_rate: float = 0.001
    """Learning rate of the labels, where they are trained."""

    eval_every: int = 5000
    """Distillation steps between evaluations, for the curve and the best sets; 0 for none."""

    SWEPT: ClassVar[tuple[str, ...]] = ("pixel-rate", "label-rate", "alpha")
    SEARCHED: ClassVar[tuple[Searched, ...]] = (Searched("pixel_rate", 0.003, 0.1, 4),)

    @property
    def unused(self) -> tuple[str, ...]:
        """Settings that nothing follows from, as the others are."""
        return () if self.learn_labels else ("label_rate",)

    @property
    def soft_labels(self) -> str | None:
        """Whose soft labels random real images are given beside a set with learned ones, if any."""
        return f"labels of {self.title}" if self.learn_labels else None

    @property
    def title(self) -> str:
        """What tables call the method."""
        names = {placement: f"BPTT ({placement} window)" for placement in ("fixed", "adaptive")}
        name = names.get(self.placement, "RaT-BPTT")
        return f"{name} (labels learned)" if self.learn_labels else name

    def __post_init__(self) -> None:
        """Check the ranges."""
        RealConfig.__post_init__(self)
        at_least(1, window=self.window, horizon=self.horizon)
        if self.student_batch is not None:
            at_least(1, student_batch=self.student_batch)
        above_zero(network_rate=self.network_rate)
        zero_or_more(label_rate=self.label_rate)
        if self.window > self.horizon:
            raise InputError(
                f"--window {self.window} is longer than --horizon {self.horizon}; lower it, or "
                "raise the horizon"
            )
