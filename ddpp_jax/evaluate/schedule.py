"""The published schedule of training on a small set, an epoch at a time."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Int

from ddpp_jax._types import (
    AugmentFn,
    Images,
    OptState,
    Params,
    PRNGKey,
    Scalar,
    Targets,
)
from ddpp_jax.configs import EvaluateConfig
from ddpp_jax.networks import Network
from ddpp_jax.training import Training, train_epoch

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4


class State(NamedTuple):
    """What the next epoch needs."""

    params: Params
    opt_state: OptState


class Info(NamedTuple):
    """What a person wants to see of an epoch: the mean training loss, in nats."""

    loss: Scalar


def make_optimizer(rate: float | Scalar) -> optax.GradientTransformation:
    """SGD with momentum 0.9; weight decay 5e-4 is added to the gradient."""
    return optax.chain(optax.add_decayed_weights(WEIGHT_DECAY), optax.sgd(rate, MOMENTUM))


def init(key: PRNGKey, *, network: Network) -> State:
    """A freshly initialised network."""
    return start_from(network.init_fn(key))


def start_from(params: Params) -> State:
    """The state before the first epoch of a network with these parameters."""
    return State(params, make_optimizer(0.0).init(params))


def step(
    key: PRNGKey,
    state: State,
    epoch: Int[Array, ""],
    small: tuple[Images, Targets, Scalar],
    *,
    network: Network,
    config: EvaluateConfig,
    augment_fn: AugmentFn,
) -> tuple[State, Info]:
    """The network after one epoch of the published schedule.

    Epochs run from 0 to `eval_epochs` inclusive. After epoch `eval_epochs // 2 + 1` the rate falls
    tenfold and the momentum starts again from zero.

    Args:
        key: this epoch's own.
        state: the network before it.
        epoch: its number.
        small: the set: images, labels (a class for each image, or a row with the probability of
            each class), and the learning rate at first.
        network: the architecture.
        config: the last epoch's number and the size of a minibatch.
        augment_fn: applied to each minibatch.
    """
    images, labels, alpha = small
    fall = config.eval_epochs // 2 + 1
    optimizer = make_optimizer(jnp.where(epoch > fall, alpha * 0.1, alpha))
    opt_state = jax.tree.map(
        lambda fresh, old: jnp.where(epoch == fall + 1, fresh, old),
        optimizer.init(state.params),
        state.opt_state,
    )
    training = Training(network.apply_fn, optimizer, config.eval_batch, augment_fn, network.parts)
    params, opt_state, loss = train_epoch(key, state.params, opt_state, images, labels, training)
    return State(params, opt_state), Info(loss)
