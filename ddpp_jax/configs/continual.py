"""Class-incremental learning: the settings of how the classes arrive, and of the networks' rate."""

from dataclasses import dataclass

from ddpp_jax.configs.checks import above_zero, at_least


@dataclass(frozen=True, kw_only=True, slots=True)
class ContinualConfig:
    """How the classes of a dataset arrive, and how networks are trained on what is kept of them."""

    class_steps: int = 5
    """Steps in which the classes arrive, as many in each as can be; 5 and 10 are usual."""

    orders: int = 5
    """Orders of the classes, drawn by the seeds 0, 1, ...; 5 are usual."""

    rate: float | None = None
    """Learning rate on the memory at first; none takes the mean of what comes with its images."""

    def __post_init__(self) -> None:
        """Check the ranges."""
        at_least(1, class_steps=self.class_steps, orders=self.orders)
        if self.rate is not None:
            above_zero(rate=self.rate)
