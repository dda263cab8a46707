"""Matching of training trajectories: DDPP (Li et al., 2024), and MTT where nothing is pruned."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Int

from ddpp_jax._types import (
    AugmentFn,
    DistanceFn,
    Images,
    MaskFn,
    OptimizerFn,
    OptState,
    Params,
    PRNGKey,
    Scalar,
    ScalarLike,
    Targets,
    Vector,
)
from ddpp_jax.core import (
    flatten_params,
    kept_fraction,
    named_key,
    prune_mask,
    trajectory_loss,
    unroll,
)
from ddpp_jax.methods.draws import Draws, draw, draw_start
from ddpp_jax.methods.method import (
    Feed,
    Info,
    Method,
    Metric,
    all_finite,
    finite_or_same,
    on_device,
    steps_key,
)
from ddpp_jax.methods.pairs import Pair, Plan
from ddpp_jax.networks import Network
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import cross_entropy

LEAST_SHARE_OF_ALPHA = 0.5
"""What at least remains of alpha after a step, so that it stays above 0."""

LEAST_ALPHA = 1e-8
"""Where that ends."""

LEAST_KEPT = 0.5
"""A share of kept parameters below this is warned of."""

METRICS = (
    Metric("loss", "matching loss (equation 8)"),
    Metric(
        "kept_fraction",
        "share of parameters kept",
        least=LEAST_KEPT,
        warning="step {step} keeps {value:.3g} of the parameters, less than "
        f"{LEAST_KEPT:g}: pruning too many makes training crash; lower --threshold",
        counted=f"kept less than {LEAST_KEPT:g} of the parameters",
    ),
    Metric("alpha", "alpha, the student's learning rate"),
    Metric(
        "alpha_held",
        "alpha held above 0",
        most=0,
        warning="alpha is held above 0 at step {step}; --alpha-rate may be too high",
        counted="had alpha held above 0",
    ),
    Metric("student_loss", "student's cross-entropy at its last step, nats"),
    Metric("kept_by_layer", "share of each tensor's parameters kept"),
)

ADVICE = "lower --pixel-rate, --alpha-rate or --alpha, or the --threshold where little is kept"

PairsFn: TypeAlias = Callable[[int, Plan], Feed]
"""`pairs_fn(seed, plan)`: starts and targets, step by step, from the teachers of a seed."""

_MATCHING = 11
"""Passes over a network that a student step takes, with all that differentiating it takes."""


class Variables(NamedTuple):
    """What is trained: the images, normalised, and the student's learning rate."""

    images: Images
    alpha: Scalar


class State(NamedTuple):
    """What the next step needs; the labels stay as they are."""

    variables: Variables
    labels: Targets
    opt_state: OptState


class HParams(NamedTuple):
    """What may differ between distillations in one program.

    Attributes:
        threshold: the pruning ratio; 0 prunes nothing.
        pixel_rate: learning rate of the pixels.
        alpha_rate: learning rate of alpha.
    """

    threshold: ScalarLike
    pixel_rate: ScalarLike
    alpha_rate: ScalarLike


class Schedule(NamedTuple):
    """How long students are trained, and what they are compared with.

    Attributes:
        student_steps: SGD steps of a student (J).
        target_epochs: teacher epochs between start and target (K).
        start_epochs: start epochs are drawn from 0 up to, not including, this one (I+).
        student_batch: distilled images in a student step; all of them are taken in order.
        teachers: how many there are to choose from.
        steps: of the distillation.
    """

    student_steps: int
    target_epochs: int
    start_epochs: int
    student_batch: int
    teachers: int
    steps: int


def by_ratio(
    key: PRNGKey, student: Vector, target: Vector, threshold: ScalarLike
) -> Bool[Array, " parameters"]:
    """The paper's own mask, equations 5 to 7; the key is left unused."""
    del key
    return prune_mask(student, target, threshold=threshold)


def as_they_are(key: PRNGKey, images: Images) -> Images:
    """No augmentation."""
    del key
    return images


class Parts(NamedTuple):
    """What may be replaced in the method; each is the paper's own by default.

    Attributes:
        augment_fn: applied to each minibatch of the student.
        mask_fn: `mask_fn(key, student, target, threshold)`, True where a parameter is kept.
        distance_fn: `distance_fn(student, target, start, *, mask)`, as `trajectory_loss` is one.
        optimizer_fn: `optimizer_fn(alpha)`, the student's optimiser; None is plain SGD.
    """

    augment_fn: AugmentFn = as_they_are
    mask_fn: MaskFn = by_ratio
    distance_fn: DistanceFn = trajectory_loss
    optimizer_fn: OptimizerFn | None = None

    @property
    def replaced(self) -> dict[str, str]:
        """What was put in place of the paper's own parts; the augmentation has settings."""
        own = self._field_defaults
        return {
            name: _qualified(part)
            for name, part in self._asdict().items()
            if name != "augment_fn" and part is not own[name]
        }


PAPERS = Parts()
"""The paper's own parts, without augmentation."""


def _qualified(part: Any) -> str:
    """A function by its module and name."""
    return f"{getattr(part, '__module__', '')}.{getattr(part, '__qualname__', repr(part))}"


def match_trajectories(
    network: Network,
    pairs_fn: PairsFn,
    schedule: Schedule,
    *,
    momentum: float,
    operations: float = 0.0,
    parts: Parts = PAPERS,
) -> Method:
    """The method of matching training trajectories, Algorithm 1 of Li et al. (2024).

    Args:
        network: the architecture of teachers and students.
        pairs_fn: gives the starts and targets of the steps, by the seed of the teachers.
        schedule: how long students are trained, and what they are compared with.
        momentum: of the SGD on pixels and alpha.
        operations: of a forward pass of one image, floating-point; 0 where nobody asks.
        parts: what is put in place of the paper's own parts.
    """

    def init(key: PRNGKey, start: DistilledSet) -> State:
        del key  # The images to start from are drawn already.
        images = jnp.asarray(start.images)
        variables = Variables(images, jnp.asarray(start.alpha, images.dtype))
        return State(variables, jnp.asarray(start.labels), optax.trace(momentum).init(variables))

    def step(key: PRNGKey, state: State, pair: Pair, hparams: HParams) -> tuple[State, Info]:
        draws = draw(
            key,
            images=len(state.labels),
            steps=schedule.student_steps,
            batch=schedule.student_batch,
        )
        gradient, metrics = jax.grad(objective, has_aux=True)(
            state.variables,
            state.labels,
            pair,
            draws,
            hparams.threshold,
            network=network,
            mask_key=named_key(key, "mask"),
            parts=parts,
        )
        updated, held = update(state, gradient, hparams, momentum=momentum)
        finite = jnp.isfinite(metrics["loss"]) & all_finite(gradient, updated)
        seen = {
            **metrics,
            "alpha": state.variables.alpha,
            "teacher": pair.teacher,
            "start_epoch": pair.epoch,
            "alpha_held": held & finite,
        }
        return finite_or_same(finite, updated, state), Info(seen, ~finite)

    def feed(seed: int, done: int) -> Feed:
        return pairs_fn(seed, plan(seed, schedule, done))

    def distilled(state: State) -> DistilledSet:
        return on_device(state.variables.images, state.labels, state.variables.alpha)

    vector = jax.ShapeDtypeStruct((network.num_params,), jnp.float32)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    return Method(
        init,
        step,
        feed,
        distilled,
        batch=Pair(*cast(Any, (vector, vector, number, number))),
        metrics=METRICS,
        advice=ADVICE,
        parts=parts.replaced,
        operations=_MATCHING * operations * schedule.student_steps * schedule.student_batch,
        least_memory=(schedule.student_steps + 2) * network.num_params,
        held=f"{schedule.student_steps} student steps",
    )


def objective(
    variables: Variables,
    labels: Targets,
    pair: Pair,
    draws: Draws,
    threshold: ScalarLike,
    *,
    network: Network,
    mask_key: PRNGKey,
    parts: Parts,
) -> tuple[Scalar, dict[str, Any]]:
    """Lines 5 to 12 of Algorithm 1: the matching loss of a student trained on the distilled set.

    Args:
        variables: what to differentiate.
        labels: one for each distilled image, fixed.
        pair: the teacher's parameters that the student starts from, and those some epochs later.
        draws: the minibatches and the augmentation.
        threshold: the pruning ratio; 0 prunes nothing.
        network: the architecture.
        mask_key: for a mask that is drawn.
        parts: the parts of the method.

    Returns:
        The loss, and the metrics: `loss`, equation 8 or another distance; `kept_fraction`, the
        share of all parameters that the mask keeps, and `kept_by_layer`, the same within each
        tensor; `sign_flips`, the share of the pruned parameters whose signs differ;
        `numerator_removed` and `denominator_removed`, the shares of |student - target|^2 and
        |start - target|^2 that lie on pruned parameters; `student_loss`, the cross-entropy of the
        student at its last step, nats.

    Raises:
        ValueError: the mask has not a boolean for each parameter.
    """

    def batch_fn(x: tuple[Array, PRNGKey]) -> tuple[Images, Targets]:
        batch, key = x
        with jax.named_scope("augmentation"):
            return parts.augment_fn(key, variables.images[batch]), labels[batch]

    def loss_fn(params: Params, batch: tuple[Images, Targets]) -> Scalar:
        inputs, targets = batch
        return cross_entropy(network.apply_fn(params, inputs), targets).mean()

    params, losses = unroll(
        loss_fn,
        network.unflatten(pair.start),
        (draws.batches, draws.augment_keys),
        lr=variables.alpha,
        batch_fn=batch_fn,
        optimizer_fn=parts.optimizer_fn,
        parts=network.parts(draws.batches.shape[1]),
    )
    student, _ = flatten_params(params)
    mask = parts.mask_fn(mask_key, student, pair.target, threshold)
    if mask.dtype != bool or mask.shape != student.shape:
        raise ValueError(
            f"mask_fn gave {mask.dtype} of shape {mask.shape}; wanted a boolean for each of "
            f"{student.size} parameters, True where it is kept"
        )
    loss = parts.distance_fn(student, pair.target, pair.start, mask=mask)
    return loss, {"loss": loss} | _shares(student, pair, mask, network) | {
        "student_loss": losses[-1]
    }


def _shares(
    student: Vector, pair: Pair, mask: Bool[Array, " parameters"], network: Network
) -> dict[str, Any]:
    """What the mask keeps, and what it takes out of the loss."""
    to_target, from_start = jnp.square(student - pair.target), jnp.square(pair.start - pair.target)
    flipped = jnp.sign(student) * jnp.sign(pair.target) < 0
    by_layer = jax.tree.leaves(network.unflatten(mask.astype(student.dtype)))
    return {
        "kept_fraction": kept_fraction(mask),
        "sign_flips": _share(flipped & ~mask, of=~mask),
        "numerator_removed": _share(jnp.where(mask, 0, to_target), of=to_target),
        "denominator_removed": _share(jnp.where(mask, 0, from_start), of=from_start),
        "kept_by_layer": {
            name: leaf.mean() for name, leaf in zip(network.names, by_layer, strict=True)
        },
    }


def _share(part: Array, *, of: Array) -> Scalar:
    total = of.sum(dtype=jnp.float32)
    return part.sum(dtype=jnp.float32) / jnp.where(total > 0, total, 1)


def update(
    state: State, gradient: Variables, hparams: HParams, *, momentum: float
) -> tuple[State, Bool[Array, ""]]:
    """The state after a step of momentum SGD on pixels and alpha, and whether alpha was held.

    Alpha keeps at least `LEAST_SHARE_OF_ALPHA` of itself, and never falls below `LEAST_ALPHA`.

    Args:
        state: before the step.
        gradient: of the loss in the pixels and in alpha.
        hparams: the rates of both.
        momentum: of the SGD.
    """
    velocity, opt_state = optax.trace(momentum).update(
        cast(optax.Updates, gradient), state.opt_state
    )
    velocity = cast(Variables, velocity)
    before = state.variables
    images = before.images - hparams.pixel_rate * velocity.images
    alpha = before.alpha - hparams.alpha_rate * velocity.alpha
    least = jnp.maximum(LEAST_SHARE_OF_ALPHA * before.alpha, LEAST_ALPHA)
    held = alpha < least
    variables = Variables(images, jnp.where(held, least, alpha))
    return state._replace(variables=variables, opt_state=opt_state), held


def plan(seed: int, schedule: Schedule, done: int = 0) -> Plan:
    """The teacher and the start epoch of every step after the first `done`."""
    key = steps_key(seed)

    def one(index: Int[Array, ""]) -> Any:
        own = jax.random.fold_in(key, index)
        return draw_start(own, teachers=schedule.teachers, epochs=schedule.start_epochs)

    starts = jax.jit(jax.vmap(one))(jnp.arange(done, schedule.steps))
    return Plan(np.asarray(starts.teacher), np.asarray(starts.epoch), schedule.target_epochs)
