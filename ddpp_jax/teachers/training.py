"""Stage 1: teachers, networks trained on the real data and kept after every epoch."""

import time
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ddpp_jax import cluster
from ddpp_jax._types import (
    Images,
    Labels,
    OptState,
    Params,
    PRNGKey,
    PRNGKeys,
    Scalar,
)
from ddpp_jax.configs import TeachConfig, TeachersJob
from ddpp_jax.core import augment, flatten_params, named_key
from ddpp_jax.data import Dataset, balanced
from ddpp_jax.errors import InputError
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report, versions
from ddpp_jax.storage import Leases, TeacherStore, require_space
from ddpp_jax.training import (
    Sharpness,
    Training,
    accuracies,
    everywhere,
    over_members,
    train_epoch,
    workers,
)

GROUP = 10
"""The most teachers trained at a time on a device; these are lost when the process is killed."""


_SECONDS_BETWEEN_LOOKS = 2.0
"""At what other processes train."""


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
    key: PRNGKey, state: State, images: Images, labels: Labels, training: Training
) -> tuple[State, Info]:
    """The teacher after one epoch.

    Args:
        key: this epoch's own.
        state: the teacher before it.
        images: the real training set, on the device.
        labels: one for each image.
        training: the network, its optimiser, the minibatches and the augmentation.
    """
    *after, loss = train_epoch(key, state.params, state.opt_state, images, labels, training)
    return State(*after), Info(loss)


def run(
    config: TeachersJob, dataset: Dataset, network: Network, store: TeacherStore, report: Report
) -> None:
    """Train the teachers that the store lacks, and keep each one's snapshots there.

    Several processes may do so at once, also on several machines: each takes teachers that no other
    one is at work on, and all end when all teachers are there. A teacher's draws depend on the seed
    and on its own number alone, so a store can grow. A teacher whose files are damaged is set aside
    and trained again.

    Args:
        config: how many teachers, how they are trained, and which epochs are kept.
        dataset: the real data.
        network: their architecture.
        store: where they are kept; its folder belongs to this config.
        report: told of every epoch.

    Raises:
        InputError: the disk has less room than the missing teachers need, or a teacher diverged.
        OSError: it may not be written to, or is full all the same.
    """
    teaching = config.teaching
    needed = cluster.agreed(lambda: lacking(teaching, store, report))
    if not needed:
        return
    total = len(needed) * teaching.epochs
    require = partial(
        require_space,
        store.folder,
        len(needed) * stored_bytes(teaching, network),
        what=f"{len(needed)} teachers of {teaching.last_kept + 1} snapshots",
    )
    cluster.agreed(require)
    optimizer = optax.sgd(config.teaching.teacher_rate)
    root = named_key(jax.random.key(config.teaching_seed), "teachers")
    shown = balanced(dataset) if teaching.balance else dataset
    images, labels = everywhere((shown.x_train, shown.y_train))
    x_test, y_test = jax.device_put((dataset.x_test, dataset.y_test))
    epochs = teaching.epochs
    with (
        Leases(store.folder) as leases,
        report.progress("teachers", total, unit="epoch") as tick,
    ):
        accuracy: dict[str, float] = {}
        while group := cluster.agreed(lambda: _take(needed, leases, store, report)):
            done = total - len(needed) * epochs
            keys = jax.vmap(partial(jax.random.fold_in, root))(jnp.asarray(group))
            states = begin_all(keys, network, optimizer)
            snapshots, losses, kept = [_snapshot(states)], [], cluster.leads()
            for epoch in range(epochs):
                keys, states, info = advance_all(
                    (keys, states, Info(jnp.zeros(len(group), jnp.float32))),
                    [(jnp.asarray(epoch), images, labels)],
                    network=network,
                    optimizer=optimizer,
                    batch_size=config.teaching.teacher_batch,
                    operations=config.data.operations,
                    sharpness=sharpness_of(teaching),
                )
                losses.append(np.asarray(info.loss))
                if kept and epoch < teaching.last_kept:
                    snapshots.append(_snapshot(states))
                done += len(group)
                tick(done, {"loss": float(losses[-1].mean())} | accuracy)
            cluster.agreed(partial(_require_finite, group, snapshots, losses))
            found = accuracies(
                states.params,
                x_test,
                y_test,
                apply_fn=network.apply_fn,
                parts_fn=network.parts,
            )
            accuracy = {"accuracy": float(found.mean())}
            for place, index in enumerate(group):
                needed.pop(index)
                if not kept or not leases.hold(_lease(index)):
                    continue  # Whoever took it over in the meantime trains it.
                store.write(
                    index,
                    np.stack([snapshot[place] for snapshot in snapshots]),
                    {
                        "accuracy": float(found[place]),
                        "losses": [float(loss[place]) for loss in losses],
                        "tensors": network.tensors,
                        "versions": versions(),
                    },
                )
            cluster.agreed(partial(_give_back, group, leases))


def _take(
    needed: dict[int, str | None], leases: Leases, store: TeacherStore, report: Report
) -> list[int]:
    """The teachers to train next, for which this process then has the leases; none if all are done.

    While others train what is left it waits. What others have done is removed from `needed`.
    """
    waits = False
    while True:
        group, others = [], 0
        for index in list(needed):
            if len(group) == group_size():
                break
            if not leases.take(_lease(index)):
                others += 1
                continue
            damage = store.damaged(index) if store.has(index) else ""
            if damage is None:  # Others have trained it.
                leases.give_back(_lease(index))
                needed.pop(index)
                continue
            if damage:
                place = store.set_aside(index)
                report.warn(
                    f"{damage}; set aside as {place.name}, teacher {index} is trained again"
                )
            group.append(index)
        if group or not others:
            return group
        if not waits:
            report.say(f"Other processes train the last {others} teachers; waiting for them")
        waits = True
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _give_back(group: list[int], leases: Leases) -> None:
    for index in group:
        leases.give_back(_lease(index))


def _snapshot(states: State) -> Float[np.ndarray, "teachers parameters"]:
    return np.asarray(_vectors(states))


def _lease(index: int) -> str:
    return f"teacher-{index:03d}"


def _require_finite(
    group: list[int], snapshots: list[np.ndarray], losses: list[np.ndarray]
) -> None:
    """Refuse to keep a teacher that diverged."""
    finite = [np.isfinite(loss) for loss in losses]  # Of each epoch, for each of the group.
    for epoch, vectors in enumerate(snapshots[1:]):
        finite[epoch] &= np.isfinite(vectors).all(axis=1)
    for epoch, of_group in enumerate(finite, start=1):
        for index, good in zip(group, of_group, strict=True):
            if not good:
                raise InputError(f"teacher {index} diverged in epoch {epoch}; lower --teacher-rate")


def sharpness_of(teaching: TeachConfig) -> Sharpness | None:
    """How steps of the teachers look for flat minima; None for plain SGD."""
    if teaching.teacher_optimizer == "sgd":
        return None
    alpha = teaching.gsam_alpha if teaching.teacher_optimizer == "gsam" else 0.0
    return Sharpness(teaching.sam_rho, alpha, teaching.sam_adaptive)


def group_size() -> int:
    """How many teachers are trained at a time on the devices there are."""
    devices = jax.device_count()
    return workers(max(GROUP, devices)) if jax.default_backend() == "cpu" else GROUP * devices


def stored_bytes(teaching: TeachConfig, network: Network) -> int:
    """What one teacher takes on disk."""
    return (teaching.last_kept + 1) * network.num_params * 4


def lacking(teaching: TeachConfig, store: TeacherStore, report: Report) -> dict[int, str | None]:
    """The teachers to train: each with what is wrong with its files, or None where it is not there.

    Reads every file that is there.
    """
    missing = store.missing(teaching.teachers)
    needed: dict[int, str | None] = dict.fromkeys(missing)
    found = [index for index in range(teaching.teachers) if index not in needed]
    if found:
        with report.progress("check teachers", len(found), unit="teacher") as tick:
            for number, index in enumerate(found):
                damage = store.damaged(index)
                if damage is not None:
                    needed[index] = damage
                tick(number + 1, {})
    return dict(sorted(needed.items()))


@partial(jax.jit, static_argnums=(1, 2))
def begin_all(keys: PRNGKeys, network: Network, optimizer: optax.GradientTransformation) -> State:
    """Freshly initialised teachers, one for each key."""
    return jax.vmap(lambda key: init(named_key(key, "init"), network=network, optimizer=optimizer))(
        keys
    )


@jax.jit
def _vectors(states: State) -> Float[Array, "teachers parameters"]:
    return jax.vmap(lambda params: flatten_params(params)[0])(states.params)


@partial(over_members, static=("network", "optimizer", "batch_size", "operations", "sharpness"))
def advance_all(
    member: tuple[PRNGKey, State, Info],
    piece: tuple[Int[Array, ""], Images, Labels],
    *,
    network: Network,
    optimizer: optax.GradientTransformation,
    batch_size: int,
    operations: tuple[str, ...],
    sharpness: Sharpness | None = None,
) -> tuple[PRNGKey, State, Info]:
    """A teacher after an epoch."""
    key, state, _ = member
    epoch, images, labels = piece
    training = Training(
        network.apply_fn,
        optimizer,
        batch_size,
        augment_fn=partial(augment, operations=operations),
        parts_fn=network.parts,
        sharpness=sharpness,
    )
    own = jax.random.fold_in(named_key(key, "epochs"), epoch)
    return key, *step(own, state, images, labels, training)
