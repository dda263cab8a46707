"""What a method of distillation is: a few pure functions, as an optimiser of optax is two."""

import math
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol, TypeAlias, cast, runtime_checkable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, PyTree

from ddpp_jax._types import Images, PRNGKey, Scalar, Targets
from ddpp_jax.core import named_key
from ddpp_jax.sets import DistilledSet

State: TypeAlias = PyTree
"""What the next step needs, and only that."""

Batch: TypeAlias = PyTree
"""What one step reads besides."""

HParams: TypeAlias = PyTree
"""Numbers that may differ between distillations in one program."""


class Info(NamedTuple):
    """What a person wants to see of a step.

    Attributes:
        metrics: numbers, truth values, or mappings of names to numbers, by the names that files,
            tables and pages show.
        skipped: the step was not finite, and left the state as it was.
    """

    metrics: Mapping[str, Any]
    skipped: Bool[Array, ""]


class Metric(NamedTuple):
    """How a metric is shown, and where it means trouble.

    Attributes:
        name: of the metric.
        label: what it is, for the axis of a picture.
        least: a person is warned where it is below.
        most: or above.
        warning: with `{step}` and `{value}` to be filled in; what it means and what to do.
        counted: what such steps did, for the sum at the end, as in "3 steps ...".
    """

    name: str
    label: str
    least: float = -math.inf
    most: float = math.inf
    warning: str = ""
    counted: str = ""

    def troubles(self, value: Any) -> bool:
        """Whether a value means trouble; only numbers and truth values can."""
        return isinstance(value, int | float) and not self.least <= value <= self.most


@runtime_checkable
class Feed(Protocol):
    """Where the steps get what they read from."""

    waited: float
    """Seconds that the steps have waited for it."""

    def take(self, count: int, *, rows: int) -> Batch:
        """What the next `count` steps read, along a leading axis that is padded to `rows`.

        Of a method whose steps share what they read: that, without such an axis.
        """
        ...

    def check(self) -> None:
        """Raise what went wrong with what the steps so far have read; after each call of them."""
        ...

    def close(self) -> None:
        """Let go of threads and memory."""
        ...


class Method(NamedTuple):
    """A method of distillation.

    Attributes:
        init: `init(key, start) -> state`, from a set to start from.
        step: `step(key, state, batch, hparams) -> (state, info)`, pure. A step whose result would
            not be finite leaves the state as it was.
        feed: `feed(seed, done)`, what each step reads after the first `done`.
        distilled: `distilled(state)`: images, labels and the learning rate, as arrays of JAX.
        batch: the shapes and dtypes of what one step reads, as `jax.ShapeDtypeStruct`.
        shared: whether all steps, and all distillations, read the same, such as the whole training
            set; it is then held once, and each step draws from it by its own key.
        metrics: those of `Info` that a person is shown first, in order.
        advice: what to do where steps are not finite.
        parts: what was put in place of the method's own parts, by their names.
        operations: of a step, floating-point, about; by this the time that is left is told.
        least_memory: numbers that a step holds at the least.
        held: what these are, as in "50 student steps of 320,010 parameters".
        remedy: what to do where they are too many; empty lowers the width.
    """

    init: Callable[[PRNGKey, DistilledSet], State]
    step: Callable[[PRNGKey, State, Batch, HParams], tuple[State, Info]]
    feed: Callable[[int, int], Feed]
    distilled: Callable[[State], DistilledSet]
    batch: Batch
    shared: bool = False
    metrics: tuple[Metric, ...] = ()
    advice: str = "lower the learning rates"
    parts: Mapping[str, str] = {}
    operations: float = 0.0
    least_memory: int = 0
    held: str = "a distillation step"
    remedy: str = ""


def on_device(images: Images, labels: Targets, alpha: Scalar) -> DistilledSet:
    """A set whose arrays are JAX's."""
    return DistilledSet(*cast(Any, (images, labels, alpha)))


def all_finite(*trees: PyTree) -> Bool[Array, ""]:
    """Whether every number in some trees is finite."""
    leaves = [leaf for leaf in jax.tree.leaves(trees) if jnp.issubdtype(leaf.dtype, jnp.floating)]
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()


def finite_or_same(finite: Bool[Array, ""], updated: State, state: State) -> State:
    """The updated state where the step was finite, or the state as it was."""
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state)


def steps_key(seed: int) -> PRNGKey:
    """The key of all steps of a distillation; each folds its own number in."""
    return named_key(jax.random.key(seed), "distillation")
