"""Stage 1: teachers, networks trained on the real data and kept after every epoch."""

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Float

from ddpp_jax._types import ApplyFn, AugmentFn, Images, Labels, OptState, Params, PRNGKey, Scalar
from ddpp_jax.augment import augment
from ddpp_jax.configs import TeachersConfig
from ddpp_jax.data import Dataset
from ddpp_jax.keys import named_key
from ddpp_jax.models import Network
from ddpp_jax.report import Report, Tick
from ddpp_jax.storage import TeacherStore
from ddpp_jax.training import over_networks, train_epoch
from ddpp_jax.vector import flatten_params

GROUP = 10
"""Teachers trained in one compiled program."""


class State(NamedTuple):
    """What the next epoch needs."""

    params: Params
    opt_state: OptState


class Info(NamedTuple):
    """What a person wants to see of an epoch: the mean training loss, in nats."""

    loss: Scalar


def init(key: PRNGKey, *, network: Network, optimizer: optax.GradientTransformation) -> State:
    """A freshly initialised teacher."""
    params = network.init_fn(key)
    return State(params, optimizer.init(params))


def step(
    key: PRNGKey,
    state: State,
    images: Images,
    labels: Labels,
    *,
    apply_fn: ApplyFn,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    augment_fn: AugmentFn,
) -> tuple[State, Info]:
    """The teacher after one epoch.

    Args:
        key: this epoch's own.
        state: the teacher before it.
        images: the real training set, on the device.
        labels: one for each image.
        apply_fn: the network.
        optimizer: the learning rate included.
        batch_size: images in a minibatch.
        augment_fn: applied to each minibatch.
    """
    params, opt_state, loss = train_epoch(
        key,
        state.params,
        state.opt_state,
        images,
        labels,
        apply_fn=apply_fn,
        optimizer=optimizer,
        batch_size=batch_size,
        augment_fn=augment_fn,
    )
    return State(params, opt_state), Info(loss)


def run(
    config: TeachersConfig, dataset: Dataset, network: Network, store: TeacherStore, report: Report
) -> None:
    """Train the teachers that the store lacks, and keep each one's snapshots there.

    A teacher's draws depend on the seed and on its own number alone, so a store can grow.

    Args:
        config: which teachers.
        dataset: the real data.
        network: the architecture.
        store: where they are kept.
        report: told of every epoch of every group.
    """
    missing = store.missing(config.teaching.teachers)
    groups = [missing[i : i + GROUP] for i in range(0, len(missing), GROUP)]
    if not groups:
        return
    epochs = config.teaching.epochs
    with report.progress("teachers", len(groups) * epochs, unit="epoch") as tick:
        for number, group in enumerate(groups):

            def count_on(done: int, values, behind: int = number * epochs) -> None:
                tick(behind + done, values)

            trajectories = _train_group(config, dataset, network, group, count_on)
            for index, trajectory in zip(group, trajectories, strict=True):
                store.write(index, trajectory)


def _train_group(
    config: TeachersConfig, dataset: Dataset, network: Network, group: Sequence[int], tick: Tick
) -> Float[np.ndarray, "teachers snapshots parameters"]:
    optimizer = optax.sgd(config.teaching.teacher_rate)
    teacher_step = partial(
        step,
        apply_fn=network.apply_fn,
        optimizer=optimizer,
        batch_size=config.teaching.teacher_batch,
        augment_fn=partial(augment, operations=config.data.operations),
    )
    root = named_key(jax.random.key(config.seed), "teachers")
    keys = jax.vmap(partial(jax.random.fold_in, root))(jnp.asarray(group))

    @jax.jit
    def start(keys):
        return over_networks(
            lambda key: init(named_key(key, "init"), network=network, optimizer=optimizer)
        )(keys)

    @jax.jit
    def flatten(params):
        return jax.vmap(lambda tree: flatten_params(tree)[0])(params)

    @jax.jit
    def epoch(keys, states, index, images, labels):
        def one(key, state):
            epoch_key = jax.random.fold_in(named_key(key, "epochs"), index)
            return teacher_step(epoch_key, state, images, labels)

        return over_networks(one)(keys, states)

    images, labels = jnp.asarray(dataset.x_train), jnp.asarray(dataset.y_train)
    states = start(keys)
    snapshots = [np.asarray(flatten(states.params))]
    for index in range(config.teaching.epochs):
        states, info = epoch(keys, states, jnp.asarray(index), images, labels)
        snapshots.append(np.asarray(flatten(states.params)))
        tick(index + 1, {"loss": float(info.loss.mean())})
    return np.stack(snapshots, axis=1)


if __name__ == "__main__":
    from ddpp_jax import cli

    cli.teachers()
