"""Stage 1: teachers, networks trained on the real data and kept after every epoch."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import (
    ApplyFn,
    AugmentFn,
    Images,
    Labels,
    OptState,
    Params,
    PRNGKey,
    PRNGKeys,
    Scalar,
)
from ddpp_jax.augment import augment
from ddpp_jax.configs import TeachersJob
from ddpp_jax.data import Dataset
from ddpp_jax.keys import named_key
from ddpp_jax.models import Network
from ddpp_jax.report import Report
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
    config: TeachersJob, dataset: Dataset, network: Network, store: TeacherStore, report: Report
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
    start, advance = _compiled(config, network)
    root = named_key(jax.random.key(config.seed), "teachers")
    images, labels = jnp.asarray(dataset.x_train), jnp.asarray(dataset.y_train)
    with report.progress("teachers", len(groups) * epochs, unit="epoch") as tick:
        for number, group in enumerate(groups):
            keys = jax.vmap(partial(jax.random.fold_in, root))(jnp.asarray(group))
            states, vectors = start(keys)
            snapshots = [np.asarray(vectors)]
            for epoch in range(epochs):
                states, vectors, loss = advance(keys, states, jnp.asarray(epoch), images, labels)
                snapshots.append(np.asarray(vectors))
                tick(number * epochs + epoch + 1, {"loss": float(loss)})
            for index, trajectory in zip(group, np.stack(snapshots, axis=1), strict=True):
                store.write(index, trajectory)


def _compiled(config: TeachersJob, network: Network) -> tuple[Callable[..., Any], ...]:
    """The start and an epoch of a group, each with the parameters as vectors beside the states."""
    optimizer = optax.sgd(config.teaching.teacher_rate)
    teacher_step = partial(
        step,
        apply_fn=network.apply_fn,
        optimizer=optimizer,
        batch_size=config.teaching.teacher_batch,
        augment_fn=partial(augment, operations=config.data.operations),
    )

    def vectors(states: State) -> Float[Array, "teachers parameters"]:
        return jax.vmap(lambda params: flatten_params(params)[0])(states.params)

    def start(keys: PRNGKeys) -> tuple[State, Float[Array, "teachers parameters"]]:
        def one(key: PRNGKey) -> State:
            return init(named_key(key, "init"), network=network, optimizer=optimizer)

        states = over_networks(one)(keys)
        return states, vectors(states)

    def advance(
        keys: PRNGKeys, states: State, epoch: Int[Array, ""], images: Images, labels: Labels
    ) -> tuple[State, Float[Array, "teachers parameters"], Scalar]:
        def one(key: PRNGKey, state: State) -> tuple[State, Info]:
            epoch_key = jax.random.fold_in(named_key(key, "epochs"), epoch)
            return teacher_step(epoch_key, state, images, labels)

        states, info = over_networks(one)(keys, states)
        return states, vectors(states), info.loss.mean()

    return jax.jit(start), jax.jit(advance)


if __name__ == "__main__":
    from ddpp_jax import cli

    cli.teachers()
