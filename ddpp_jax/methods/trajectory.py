"""Matching of training trajectories: DDPP (Li et al., 2024), and MTT where nothing is pruned."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Bool, Float, Int

from ddpp_jax._types import (
    Images,
    MaskFn,
    OptState,
    PRNGKey,
    Scalar,
    ScalarLike,
    Targets,
)
from ddpp_jax.core import (
    named_key,
)
from ddpp_jax.methods.draws import draw, draw_start
from ddpp_jax.methods.labels import descend_logits, logits_of
from ddpp_jax.methods.masks import choose_mask
from ddpp_jax.methods.matching import PAPERS, Parts, Variables, objective
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
from ddpp_jax.methods.segments import Segmented, segment_keys
from ddpp_jax.networks import Network
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import mean_over

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
        f"{LEAST_KEPT:g}: pruning too many makes training crash; lower --threshold or "
        "--prune-share",
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
    Metric(
        "passed_over",
        "steps whose loss is above --skip-above",
        most=0,
        warning="step {step} has a loss above --skip-above and changes nothing",
        counted="had a loss above --skip-above and changed nothing",
    ),
    Metric("student_loss", "student's cross-entropy at its last step, nats"),
    Metric("kept_by_layer", "share of each tensor's parameters kept"),
)

ADVICE = "lower --pixel-rate, --alpha-rate or --alpha, or the --threshold where little is kept"

PairsFn: TypeAlias = Callable[[int, Plan], Feed]
"""`pairs_fn(seed, plan)`: starts and targets, step by step, from the teachers of a seed."""

_MATCHING = 11
"""Passes over a network that a student step takes, with all that differentiating it takes."""


class State(NamedTuple):
    """What the next step needs.

    Attributes:
        variables: images, alpha, and the weights of a learned mask.
        labels: a class for each image, or its probabilities; they stay as they are.
        opt_state: of the variables' optimiser.
        logits: whose softmax are the labels, where they are learned; None where they are not.
        label_state: of the logits' optimiser.
        average: running mean of the images, which is the set then; None where there is none.
    """

    variables: Variables
    labels: Targets
    opt_state: OptState
    logits: Float[Array, "images classes"] | None = None
    label_state: OptState | None = None
    average: Images | None = None


class HParams(NamedTuple):
    """What may differ between distillations in one program.

    Attributes:
        threshold: the pruning ratio, or the share that is pruned; 0 prunes nothing.
        pixel_rate: learning rate of the pixels.
        alpha_rate: learning rate of alpha.
        mask: the place of the mask among those that distillations may choose from.
        weight_rate: learning rate of the parameters' weights; 0 leaves all at 1.
        label_rate: learning rate of the labels' logits.
        skip_above: a step whose loss is above this is passed over, and changes nothing.
        average: what a running mean of the images keeps of itself in a step.
    """

    threshold: ScalarLike
    pixel_rate: ScalarLike
    alpha_rate: ScalarLike
    mask: ScalarLike = 0.0
    weight_rate: ScalarLike = 0.0
    label_rate: ScalarLike = 0.0
    skip_above: ScalarLike = jnp.inf
    average: ScalarLike = 0.0


class Schedule(NamedTuple):
    """How long students are trained, and what they are compared with.

    Attributes:
        student_steps: SGD steps of a student (J).
        target_epochs: teacher epochs between start and target (K).
        start_epochs: start epochs are drawn from 0 up to, not including, this one (I+).
        student_batch: distilled images in a student step; all of them are taken in order.
        teachers: how many there are to choose from.
        steps: of the distillation.
        first_epoch: start epochs are drawn from this one on.
        early_epochs: the bound of the first step, which grows to `start_epochs`; None is no growth.
        growth: distillation steps over which it grows.
        segments: of trajectories in a step, with students of their own, whose gradients are
            averaged; one is Algorithm 1.
    """

    student_steps: int
    target_epochs: int
    start_epochs: int
    student_batch: int
    teachers: int
    steps: int
    first_epoch: int = 0
    early_epochs: int | None = None
    growth: int = 1
    segments: int = 1

    def bound(self, step: int | Int[Array, ""]) -> int | Int[Array, ""]:
        """The epoch below which the start of a step is drawn (DATM, ICLR 2024)."""
        if self.early_epochs is None:
            return self.start_epochs
        more = (self.start_epochs - self.early_epochs) * step // self.growth
        return jnp.minimum(self.early_epochs + more, self.start_epochs)


class Extensions(NamedTuple):
    """What is trained and chosen beside images and alpha; none of it in the paper.

    Attributes:
        masks: those that distillations choose from, by `HParams.mask`; none where all have that of
            the parts.
        weighted: each parameter has a weight, which is trained with the images.
        label_optimizer: of the labels' logits, without its rate: `optax.trace(0.9)` in DATM; None
            leaves the labels as they are.
        averaged: the set is a running mean of the images, by `HParams.average`.
    """

    masks: Sequence[MaskFn] = ()
    weighted: bool = False
    label_optimizer: optax.GradientTransformation | None = None
    averaged: bool = False


AS_PUBLISHED = Extensions()
"""Nothing beside them."""


def match_trajectories(
    network: Network,
    pairs_fn: PairsFn,
    schedule: Schedule,
    *,
    optimizer: optax.GradientTransformation,
    relative_alpha: bool = False,
    operations: float = 0.0,
    parts: Parts = PAPERS,
    extended: Extensions = AS_PUBLISHED,
) -> Method:
    """The method of matching training trajectories, Algorithm 1 of Li et al. (2024).

    Args:
        network: the architecture of teachers and students.
        pairs_fn: gives the starts and targets of the steps, by the seed of the teachers.
        schedule: how long students are trained, and what they are compared with.
        optimizer: of pixels and alpha, without their rates: `optax.trace(0.5)` as published.
        relative_alpha: train the logarithm of alpha in place of alpha.
        operations: of a forward pass of one image, floating-point; 0 where nobody asks.
        parts: what is put in place of the paper's own parts.
        extended: what is trained and chosen beside.
    """
    masks, weighted, label_optimizer, averaged = extended

    def init(key: PRNGKey, start: DistilledSet) -> State:
        del key  # The images to start from are drawn already.
        images = jnp.asarray(start.images)
        weights = jnp.ones(network.num_params, images.dtype) if weighted else None
        variables = Variables(images, jnp.asarray(start.alpha, images.dtype), weights)
        opt_state = optimizer.init(cast(optax.Params, variables))
        state = State(variables, jnp.asarray(start.labels), opt_state)
        state = state._replace(average=images) if averaged else state
        if label_optimizer is None:
            return state
        logits = logits_of(state.labels, network, images)
        return state._replace(logits=logits, label_state=label_optimizer.init(logits))

    def of_segment(state: State, hparams: HParams, segment: tuple[PRNGKey, Pair]) -> Any:
        """The gradients and the metrics of one student, who trains on the set as it is."""
        key, pair = segment
        draws = draw(
            key,
            images=len(state.labels),
            steps=schedule.student_steps,
            batch=schedule.student_batch,
        )
        mask_fn = choose_mask(masks, hparams.mask) if masks else parts.mask_fn

        def loss_fn(variables: Variables, logits: Array | None) -> tuple[Scalar, dict[str, Any]]:
            labels = state.labels if logits is None else jax.nn.softmax(logits)
            return objective(
                variables,
                labels,
                pair,
                draws,
                hparams.threshold,
                network=network,
                mask_key=named_key(key, "mask"),
                parts=parts._replace(mask_fn=mask_fn),
            )

        return jax.grad(loss_fn, (0, 1), has_aux=True)(state.variables, state.logits)

    def step(key: PRNGKey, state: State, pair: Pair, hparams: HParams) -> tuple[State, Info]:
        of_one = partial(of_segment, state, hparams)
        if schedule.segments == 1:
            (gradient, by_logits), metrics = of_one((key, pair))
        else:
            keys = segment_keys(key, schedule.segments)
            (gradient, by_logits), metrics = mean_over(of_one, (keys, pair))
            pair = jax.tree.map(lambda leaf: leaf[0], pair)  # The one that is shown.
        updated, held = update(
            state, gradient, hparams, optimizer=optimizer, relative_alpha=relative_alpha
        )
        if label_optimizer is not None:
            logits, label_state = descend_logits(
                cast(Array, state.logits),
                state.label_state,
                cast(Array, by_logits),
                rate=hparams.label_rate,
                optimizer=label_optimizer,
            )
            updated = updated._replace(logits=logits, label_state=label_state)
        if state.average is not None:
            kept = hparams.average
            mean = kept * state.average + (1 - kept) * updated.variables.images
            updated = updated._replace(average=mean)
        finite = jnp.isfinite(metrics["loss"]) & all_finite(gradient, by_logits, updated)
        passed_over = finite & (metrics["loss"] > hparams.skip_above)
        seen = {
            **metrics,
            "alpha": state.variables.alpha,
            "teacher": pair.teacher,
            "start_epoch": pair.epoch,
            "alpha_held": held & finite & ~passed_over,
            "passed_over": passed_over,
        }
        return finite_or_same(finite & ~passed_over, updated, state), Info(seen, ~finite)

    def feed(seed: int, done: int) -> Feed:
        pairs = pairs_fn(seed, plan(seed, schedule, done))
        return pairs if schedule.segments == 1 else Segmented(pairs, schedule.segments)

    def distilled(state: State) -> DistilledSet:
        labels = state.labels if state.logits is None else jax.nn.softmax(state.logits)
        images = state.variables.images if state.average is None else state.average
        return on_device(images, labels, state.variables.alpha)

    axis = () if schedule.segments == 1 else (schedule.segments,)
    vector = jax.ShapeDtypeStruct((*axis, network.num_params), jnp.float32)
    number = jax.ShapeDtypeStruct(axis, jnp.int32)
    return Method(
        init,
        step,
        feed,
        distilled,
        batch=Pair(*cast(Any, (vector, vector, number, number))),
        metrics=METRICS,
        advice=ADVICE,
        parts=parts.replaced,
        operations=_MATCHING
        * operations
        * schedule.student_steps
        * schedule.student_batch
        * schedule.segments,
        least_memory=(schedule.student_steps + 2) * network.num_params,
        held=f"{schedule.student_steps} student steps of {network.num_params:,} parameters",
    )


def update(
    state: State,
    gradient: Variables,
    hparams: HParams,
    *,
    optimizer: optax.GradientTransformation,
    relative_alpha: bool = False,
) -> tuple[State, Bool[Array, ""]]:
    """The state after a step of the optimiser on pixels and alpha, and whether alpha was held.

    Alpha keeps at least `LEAST_SHARE_OF_ALPHA` of itself, and never falls below `LEAST_ALPHA`. The
    weights, where there are any, stay within 0 and 1.

    Args:
        state: before the step.
        gradient: of the loss in the pixels and in alpha.
        hparams: the rates of both.
        optimizer: of both, without their rates.
        relative_alpha: whether it is the logarithm of alpha that is trained.
    """
    before = state.variables
    if relative_alpha:
        gradient = gradient._replace(alpha=gradient.alpha * before.alpha)
    if gradient.weights is not None:
        # The loss is a mean over the parameters, of which each has so small a part.
        gradient = gradient._replace(weights=gradient.weights * gradient.weights.size)
    velocity, opt_state = optimizer.update(cast(optax.Updates, gradient), state.opt_state)
    velocity = cast(Variables, velocity)
    images = before.images - hparams.pixel_rate * velocity.images
    if relative_alpha:
        alpha = before.alpha * jnp.exp(-hparams.alpha_rate * velocity.alpha)
    else:
        alpha = before.alpha - hparams.alpha_rate * velocity.alpha
    least = jnp.maximum(LEAST_SHARE_OF_ALPHA * before.alpha, LEAST_ALPHA)
    held, weights = alpha < least, before.weights
    if weights is not None and velocity.weights is not None:
        weights = jnp.clip(weights - hparams.weight_rate * velocity.weights, 0, 1)
    variables = Variables(images, jnp.where(held, least, alpha), weights)
    return state._replace(variables=variables, opt_state=opt_state), held


def plan(seed: int, schedule: Schedule, done: int = 0) -> Plan:
    """The teacher and the start epoch of every step after the first `done`.

    Of steps with several segments those of the segments follow one another.
    """
    key = steps_key(seed)

    def one(index: Int[Array, ""]) -> Any:
        keys = segment_keys(jax.random.fold_in(key, index), schedule.segments)
        bound, first = schedule.bound(index), schedule.first_epoch
        start = partial(draw_start, teachers=schedule.teachers, epochs=bound, first=first)
        return jax.vmap(start)(keys)

    starts = jax.jit(jax.vmap(one))(jnp.arange(done, schedule.steps))
    teachers, epochs = (np.asarray(part).ravel() for part in starts)
    return Plan(teachers, epochs, schedule.target_epochs)
