"""Stage 3: fresh networks trained on a small set, and their accuracy on the real test set."""

import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import (
    ApplyFn,
    AugmentFn,
    FloatArray,
    Images,
    IntArray,
    Labels,
    OptState,
    Params,
    PRNGKey,
    PRNGKeys,
    Scalar,
    ScalarLike,
)
from ddpp_jax.augment import augment
from ddpp_jax.configs import EvaluateConfig
from ddpp_jax.keys import named_key
from ddpp_jax.models import Network
from ddpp_jax.report import Report
from ddpp_jax.storage import Checkpoints
from ddpp_jax.training import accuracies, over_networks, train_epoch

MOMENTUM = 0.9
WEIGHT_DECAY = 5e-4
_EPOCHS_A_CALL = 100
_SECONDS_BETWEEN_CHECKPOINTS = 20.0


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
    images: Images,
    labels: Labels,
    alpha: Scalar,
    *,
    apply_fn: ApplyFn,
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
        images: the small set.
        labels: one for each image.
        alpha: the learning rate at first.
        apply_fn: the network.
        config: the last epoch's number and the size of a minibatch.
        augment_fn: applied to each minibatch.
    """
    fall = config.eval_epochs // 2 + 1
    optimizer = make_optimizer(jnp.where(epoch > fall, alpha * 0.1, alpha))
    opt_state = jax.tree.map(
        lambda fresh, old: jnp.where(epoch == fall + 1, fresh, old),
        optimizer.init(state.params),
        state.opt_state,
    )
    params, opt_state, loss = train_epoch(
        key,
        state.params,
        opt_state,
        images,
        labels,
        apply_fn=apply_fn,
        optimizer=optimizer,
        batch_size=config.eval_batch,
        augment_fn=augment_fn,
    )
    return State(params, opt_state), Info(loss)


def run(
    key: PRNGKey,
    config: EvaluateConfig,
    test: tuple[FloatArray, IntArray],
    network: Network,
    images: FloatArray,
    labels: IntArray,
    alpha: ScalarLike,
    report: Report,
    *,
    operations: tuple[str, ...] = (),
    name: str = "evaluate",
    checkpoints: Checkpoints | None = None,
) -> Float[np.ndarray, " networks"]:
    """The test accuracy, from 0 to 1, of each of several fresh networks trained on a small set.

    Args:
        key: decides the initialisations and all draws.
        config: how many networks, and their schedule.
        test: the whole test set, images and labels, that they are judged on.
        network: the architecture.
        images: the small set, normalised as the test set is.
        labels: one for each image.
        alpha: the learning rate at first.
        report: told as it goes on.
        operations: the DSA operations of the augmentation.
        name: what the report calls it.
        checkpoints: where to keep the state of a long evaluation now and then, and to go on from;
            None keeps none.
    """
    keys = jax.random.split(key, config.networks)
    small = (jnp.asarray(images), jnp.asarray(labels), jnp.asarray(alpha, jnp.float32))
    states, done = _init_all(keys, network), 0
    if checkpoints is not None:
        resumed = checkpoints.resume(states)
        for line in resumed.warnings:
            report.warn(line)
        if resumed.step:
            states, done = jax.tree.map(jnp.asarray, resumed.state), resumed.step
    total = config.eval_epochs + 1
    kept = time.monotonic()
    with report.progress(name, total, unit="epoch", done=done) as tick:
        for low in range(done, total, _EPOCHS_A_CALL):
            high = min(low + _EPOCHS_A_CALL, total)
            states, info = _train_all(keys, states, low, high, *small, network, config, operations)
            tick(high, {"loss": float(info.loss.mean())})
            if checkpoints is not None and time.monotonic() - kept > _SECONDS_BETWEEN_CHECKPOINTS:
                checkpoints.save(high, states)
                kept = time.monotonic()
    x_test, y_test = jax.device_put(test)
    found = np.asarray(accuracies(states.params, x_test, y_test, apply_fn=network.apply_fn))
    if checkpoints is not None:
        checkpoints.remove()
    return found


@partial(jax.jit, static_argnums=1)
def _init_all(keys: PRNGKeys, network: Network) -> State:
    return over_networks(lambda key: init(named_key(key, "init"), network=network))(keys)


@partial(jax.jit, static_argnums=(7, 8, 9))
def _train_all(
    keys: PRNGKeys,
    states: State,
    low: Int[Array, ""],
    high: Int[Array, ""],
    images: Images,
    labels: Labels,
    alpha: Scalar,
    network: Network,
    config: EvaluateConfig,
    operations: tuple[str, ...],
) -> tuple[State, Info]:
    augment_fn = partial(augment, operations=operations)

    def one(key: PRNGKey, state: State) -> tuple[State, Info]:
        def epoch(index: Int[Array, ""], carry: tuple[State, Info]) -> tuple[State, Info]:
            epoch_key = jax.random.fold_in(named_key(key, "epochs"), index)
            return step(
                epoch_key,
                carry[0],
                index,
                images,
                labels,
                alpha,
                apply_fn=network.apply_fn,
                config=config,
                augment_fn=augment_fn,
            )

        return lax.fori_loop(low, high, epoch, (state, Info(jnp.zeros((), images.dtype))))

    return over_networks(one)(keys, states)


if __name__ == "__main__":
    from ddpp_jax import cli

    cli.evaluate()
