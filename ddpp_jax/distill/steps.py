"""Distillation steps: Algorithm 1 of Li et al. (2024), one at a time or many in one program."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ddpp_jax._types import (
    AugmentFn,
    Images,
    Labels,
    OptState,
    PRNGKey,
    Scalar,
    ScalarLike,
    Vector,
)
from ddpp_jax.configs import DistillConfig
from ddpp_jax.core import named_key
from ddpp_jax.distill.objective import Distilled, Match, objective
from ddpp_jax.methods import draw
from ddpp_jax.networks import Network
from ddpp_jax.training import over_members

LEAST_SHARE_OF_ALPHA = 0.5
"""What at least remains of alpha after a step, so that it stays above 0."""

LEAST_ALPHA = 1e-8
"""Where that ends."""


class State(NamedTuple):
    """What the next distillation step needs."""

    distilled: Distilled
    opt_state: OptState


class Info(NamedTuple):
    """What a person wants to see of a distillation step.

    Attributes:
        match: the loss before the update, and how student and target compare.
        alpha: the learning rate before the update.
        skipped: the loss, the gradient or what it would have led to was not finite, and the
            distilled set was left as it was.
        alpha_held: alpha would have fallen to less than `LEAST_SHARE_OF_ALPHA` of itself.
    """

    match: Match
    alpha: Scalar
    skipped: Bool[Array, ""]
    alpha_held: Bool[Array, ""]


class Varied(NamedTuple):
    """What may differ between distillations in one program.

    Attributes:
        threshold: the pruning ratio; 0 prunes nothing.
        pixel_rate: learning rate of the pixels.
        alpha_rate: learning rate of alpha.
    """

    threshold: ScalarLike
    pixel_rate: ScalarLike
    alpha_rate: ScalarLike


def varied(config: DistillConfig) -> Varied:
    """The settings of one distillation among several, as numbers."""
    return Varied(config.threshold or 0.0, config.pixel_rate, config.alpha_rate)


def make_optimizer(
    config: DistillConfig, rates: Varied | None = None
) -> optax.GradientTransformation:
    """Momentum SGD with one rate for the pixels and one for alpha.

    Args:
        config: the momentum, and the rates.
        rates: in place of those of the config.
    """
    rates = rates or varied(config)

    def descend(velocity: Any, _: Any) -> Distilled:
        return Distilled(-rates.pixel_rate * velocity.images, -rates.alpha_rate * velocity.alpha)

    return optax.chain(optax.trace(config.momentum), optax.stateless(descend))


def init(images: Images, *, alpha: ScalarLike, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step, from real images and a learning rate."""
    distilled = Distilled(images, jnp.asarray(alpha, images.dtype))
    return State(distilled, optimizer.init(distilled))


def step(
    key: PRNGKey,
    state: State,
    labels: Labels,
    start: Vector,
    target: Vector,
    *,
    network: Network,
    optimizer: optax.GradientTransformation,
    config: DistillConfig,
    augment_fn: AugmentFn,
    threshold: ScalarLike | None = None,
    mask_fn: Callable[[PRNGKey, Vector, Vector], Bool[Array, " parameters"]] | None = None,
    **seams: Any,
) -> tuple[State, Info]:
    """The state after one pass through the loop of Algorithm 1.

    A step whose loss or gradient is not finite changes nothing but is reported.

    Args:
        key: this step's own.
        state: the distilled set before it.
        labels: one for each distilled image.
        start: the parameters, at the drawn epoch, of the teacher that was drawn for it.
        target: the same teacher's parameters K epochs later.
        network: the architecture.
        optimizer: for pixels and alpha, as `make_optimizer` returns it.
        config: J, the threshold and the size of a minibatch.
        augment_fn: applied to each minibatch of the student.
        threshold: in place of that of the config, where given; 0 prunes nothing.
        mask_fn: `mask_fn(key, student, target)`, another mask in place of that of the threshold,
            with a key of the step's own.
        seams: `distance_fn` and `optimizer_fn`, as `objective` takes them.
    """
    if mask_fn is not None:
        seams["mask_fn"] = partial(mask_fn, named_key(key, "mask"))
    draws = draw(key, num_images=labels.shape[0], config=config)
    gradient, match = jax.grad(objective, has_aux=True)(
        state.distilled,
        labels,
        start,
        target,
        draws,
        network=network,
        threshold=config.threshold if threshold is None else threshold,
        augment_fn=augment_fn,
        **seams,
    )
    updated, held = update(state, gradient, optimizer=optimizer)
    finite = jnp.isfinite(match.loss) & _all_finite(gradient) & _all_finite(updated)
    info = Info(
        match=match,
        alpha=state.distilled.alpha,
        skipped=~finite,
        alpha_held=held & finite,
    )
    return jax.tree.map(lambda new, old: jnp.where(finite, new, old), updated, state), info


def update(
    state: State, gradient: Distilled, *, optimizer: optax.GradientTransformation
) -> tuple[State, Bool[Array, ""]]:
    """The state after a step of momentum SGD on pixels and alpha, and whether alpha was held.

    Alpha keeps at least `LEAST_SHARE_OF_ALPHA` of itself, and never falls below `LEAST_ALPHA`.
    """
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.distilled)
    distilled = cast(Distilled, optax.apply_updates(cast(optax.Params, state.distilled), updates))
    least = jnp.maximum(LEAST_SHARE_OF_ALPHA * state.distilled.alpha, LEAST_ALPHA)
    held = distilled.alpha < least
    distilled = distilled._replace(alpha=jnp.where(held, least, distilled.alpha))
    return State(distilled, opt_state), held


def advance(
    key: PRNGKey,
    state: State,
    labels: Labels,
    first: Int[Array, ""],
    count: Int[Array, ""],
    starts: Float[Array, "rows parameters"],
    targets: Float[Array, "rows parameters"],
    **settings: Any,
) -> tuple[State, Info]:
    """The state after steps `first` to `first + count - 1`, and the Info of each, in one program.

    How the steps are cut into calls has no influence on the bits, since the number of turns is no
    part of the program.

    Args:
        key: of all steps; each folds its own number in.
        state: before the first of them.
        labels: one for each distilled image.
        first: the number of the first step.
        count: how many; at most `rows`. The Info of the rows beyond is zero.
        starts: what `step` takes, a row for each step.
        targets: likewise.
        settings: what else `step` takes.
    """

    def one(index: Int[Array, ""], state: State) -> tuple[State, Info]:
        own = jax.random.fold_in(key, first + index)
        return step(own, state, labels, starts[index], targets[index], **settings)

    def turn(index: Int[Array, ""], carry: tuple[State, Info]) -> tuple[State, Info]:
        state, info = one(index, carry[0])
        return state, jax.tree.map(lambda rows, row: rows.at[index].set(row), carry[1], info)

    _, shape = jax.eval_shape(one, count, state)
    rows = jax.tree.map(lambda x: jnp.zeros((starts.shape[0], *x.shape), x.dtype), shape)
    return lax.fori_loop(0, count, turn, (state, rows))


@partial(over_members, static=("config", "network", "augment_fn"), donate=False)
def advance_all(
    member: tuple[PRNGKey, State, Varied, tuple[Array, Array]],
    piece: tuple[Labels, Int[Array, ""], Int[Array, ""]],
    *,
    config: DistillConfig,
    network: Network,
    augment_fn: AugmentFn,
) -> tuple[State, Info]:
    """What `advance` gives for each of several distillations (`together.over_members`).

    Args:
        member: the key of all its steps, the state before the first, what differs, and the starts
            and targets, a row for each step.
        piece: the labels, which all share; the number of the first step; how many.
        config: what is shared.
        network: the architecture.
        augment_fn: applied to each minibatch of the students.
    """
    key, state, own, pairs = member
    return advance(
        key,
        state,
        *piece,
        *pairs,
        config=config,
        network=network,
        augment_fn=augment_fn,
        optimizer=make_optimizer(config, own),
        threshold=own.threshold,
    )


def _all_finite(tree: Any) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()
