"""Matching of training trajectories: DDPP (Li et al., 2024), and MTT where nothing is pruned."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool

from ddpp_jax._types import MaskFn, PRNGKey, Scalar
from ddpp_jax.core import named_key
from ddpp_jax.methods.draws import draw
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
)
from ddpp_jax.methods.pairs import Pair, Plan
from ddpp_jax.methods.schedules import Schedule, plan
from ddpp_jax.methods.segments import Segmented, segment_keys
from ddpp_jax.methods.updates import HParams, State, update
from ddpp_jax.networks import Network
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import mean_over

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
    Metric("kept_by_layer", "share of each tensor's parameters kept, or their mean weight"),
)

ADVICE = "lower --pixel-rate, --alpha-rate or --alpha, or the --threshold where little is kept"

PairsFn: TypeAlias = Callable[[int, Plan], Feed]
"""`pairs_fn(seed, plan)`: starts and targets, step by step, from the teachers of a seed."""

_Gradients: TypeAlias = tuple[Variables, Array | None]
"""Of the loss, in what is trained and in the labels' logits."""

_MATCHING = 11
"""Passes over a network that a student step takes, with all that differentiating it takes."""


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


class _Setting(NamedTuple):
    """What is the same in all steps; see `match_trajectories`."""

    network: Network
    schedule: Schedule
    optimizer: optax.GradientTransformation
    relative_alpha: bool
    parts: Parts
    extended: Extensions


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
    setting = _Setting(network, schedule, optimizer, relative_alpha, parts, extended)

    def feed(seed: int, done: int) -> Feed:
        pairs = pairs_fn(seed, plan(seed, schedule, done))
        return pairs if schedule.segments == 1 else Segmented(pairs, schedule.segments)

    images = schedule.student_steps * schedule.student_batch * schedule.segments
    return Method(
        partial(_begin, setting),
        partial(_step, setting),
        feed,
        _distilled,
        batch=_batch_of(setting),
        metrics=METRICS,
        advice=ADVICE,
        parts=parts.replaced,
        operations=_MATCHING * operations * images,
        least_memory=(schedule.student_steps + 2) * network.num_params,
        held=f"{schedule.student_steps} student steps of {network.num_params:,} parameters",
    )


def _begin(setting: _Setting, key: PRNGKey, start: DistilledSet) -> State:
    """The state before the first step."""
    del key  # The images to start from are drawn already.
    network, extended = setting.network, setting.extended
    images = jnp.asarray(start.images)
    weights = jnp.ones(network.num_params, images.dtype) if extended.weighted else None
    variables = Variables(images, jnp.asarray(start.alpha, images.dtype), weights)
    opt_state = setting.optimizer.init(cast(optax.Params, variables))
    state = State(variables, jnp.asarray(start.labels), opt_state)
    state = state._replace(average=images) if extended.averaged else state
    if extended.label_optimizer is None:
        return state
    logits = logits_of(state.labels, network, images)
    return state._replace(logits=logits, label_state=extended.label_optimizer.init(logits))


def _step(
    setting: _Setting, key: PRNGKey, state: State, pair: Pair, hparams: HParams
) -> tuple[State, Info]:
    """The state after a step, or as it was where that is not finite or is passed over."""
    gradients, metrics = _mean_gradients(setting, key, state, pair, hparams)
    updated, held = _updated(setting, state, gradients, hparams)
    finite = jnp.isfinite(metrics["loss"]) & all_finite(*gradients, updated)
    passed_over = finite & (metrics["loss"] > hparams.skip_above)
    shown = pair if setting.schedule.segments == 1 else jax.tree.map(lambda leaf: leaf[0], pair)
    seen = {
        **metrics,
        "alpha": state.variables.alpha,
        "teacher": shown.teacher,
        "start_epoch": shown.epoch,
        "alpha_held": held & finite & ~passed_over,
        "passed_over": passed_over,
    }
    return finite_or_same(finite & ~passed_over, updated, state), Info(seen, ~finite)


def _mean_gradients(
    setting: _Setting, key: PRNGKey, state: State, pair: Pair, hparams: HParams
) -> tuple[_Gradients, dict[str, Any]]:
    """The gradients and the metrics of a step, means over its segments."""
    of_one = partial(_gradients_of_segment, setting, state, hparams)
    if setting.schedule.segments == 1:
        return of_one((key, pair))
    return mean_over(of_one, (segment_keys(key, setting.schedule.segments), pair))


def _gradients_of_segment(
    setting: _Setting, state: State, hparams: HParams, segment: tuple[PRNGKey, Pair]
) -> tuple[_Gradients, dict[str, Any]]:
    """The gradients and the metrics of one student, who trains on the set as it is."""
    key, pair = segment
    schedule, masks = setting.schedule, setting.extended.masks
    draws = draw(
        key,
        images=len(state.labels),
        steps=schedule.student_steps,
        batch=schedule.student_batch,
    )
    mask_fn = choose_mask(masks, hparams.mask) if masks else setting.parts.mask_fn

    def loss_fn(variables: Variables, logits: Array | None) -> tuple[Scalar, dict[str, Any]]:
        return objective(
            variables,
            state.labels if logits is None else jax.nn.softmax(logits),
            pair,
            draws,
            hparams.threshold,
            network=setting.network,
            mask_key=named_key(key, "mask"),
            parts=setting.parts._replace(mask_fn=mask_fn),
        )

    return jax.grad(loss_fn, (0, 1), has_aux=True)(state.variables, state.logits)


def _updated(
    setting: _Setting, state: State, gradients: _Gradients, hparams: HParams
) -> tuple[State, Bool[Array, ""]]:
    """The state after a step of all optimisers, and whether alpha was held."""
    gradient, by_logits = gradients
    updated, held = update(
        state,
        gradient,
        hparams,
        optimizer=setting.optimizer,
        relative_alpha=setting.relative_alpha,
    )
    if setting.extended.label_optimizer is not None:
        logits, label_state = descend_logits(
            cast(Array, state.logits),
            state.label_state,
            cast(Array, by_logits),
            rate=hparams.label_rate,
            optimizer=setting.extended.label_optimizer,
        )
        updated = updated._replace(logits=logits, label_state=label_state)
    if state.average is not None:
        kept = hparams.average
        mean = kept * state.average + (1 - kept) * updated.variables.images
        updated = updated._replace(average=mean)
    return updated, held


def _distilled(state: State) -> DistilledSet:
    """The set of a state."""
    labels = state.labels if state.logits is None else jax.nn.softmax(state.logits)
    images = state.variables.images if state.average is None else state.average
    return on_device(images, labels, state.variables.alpha)


def _batch_of(setting: _Setting) -> Pair:
    """The shapes of what a step reads."""
    segments = setting.schedule.segments
    axis = () if segments == 1 else (segments,)
    vector = jax.ShapeDtypeStruct((*axis, setting.network.num_params), jnp.float32)
    number = jax.ShapeDtypeStruct(axis, jnp.int32)
    return Pair(*cast(Any, (vector, vector, number, number)))
