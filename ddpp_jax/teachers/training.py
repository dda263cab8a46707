"""Stage 1: teachers, networks trained on the real data and kept after every epoch."""

import time
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float

from ddpp_jax import cluster
from ddpp_jax._types import PRNGKeys
from ddpp_jax.configs import TeachConfig, TeachersJob
from ddpp_jax.core import flatten_params, named_key
from ddpp_jax.data import Dataset, on_device
from ddpp_jax.errors import InputError
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report, versions
from ddpp_jax.storage import Leases, TeacherStore, require_space
from ddpp_jax.teachers.epochs import EpochFn, State, begin_all, epochs_of
from ddpp_jax.training import accuracies, workers

GROUP = 10
"""The most teachers trained at a time on a device; these are lost when the process is killed."""


_SECONDS_BETWEEN_LOOKS = 2.0
"""At what other processes train."""


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
    advance, x_test = epochs_of(config, dataset, network, optimizer), on_device(dataset.x_test)
    with (
        Leases(store.folder) as leases,
        report.progress("teachers", total, unit="epoch") as tick,
    ):
        accuracy: dict[str, float] = {}
        while group := cluster.agreed(lambda: _take(needed, leases, store, report)):
            done = total - len(needed) * teaching.epochs
            keys = jax.vmap(partial(jax.random.fold_in, root))(jnp.asarray(group))

            def tell(
                epochs: int, loss: float, *, done: int = done, count: int = len(group)
            ) -> None:
                tick(done + count * epochs, {"loss": loss} | accuracy)  # noqa: B023

            begun = begin_all(keys, network, optimizer)
            trained = _trained(keys, begun, teaching, advance, tell)
            cluster.agreed(partial(_require_finite, group, trained))
            found = accuracies(
                trained.states.params,
                x_test,
                dataset.y_test,
                apply_fn=network.apply_fn,
                parts_fn=network.parts,
            )
            accuracy = {"accuracy": float(found.mean())}
            for place, index in enumerate(group):
                needed.pop(index)
                if not cluster.leads() or not leases.hold(_lease(index)):
                    continue  # Whoever took it over in the meantime trains it.
                known = {"accuracy": float(found[place]), "tensors": network.tensors}
                store.write(index, *trained.of(place, known))
            cluster.agreed(partial(_give_back, group, leases))


class _Trained(NamedTuple):
    """Several teachers after all epochs.

    Attributes:
        states: of them.
        snapshots: their parameters after each epoch that is kept; none but the first in processes
            that do not lead their job.
        losses: the mean training loss of each epoch.
    """

    states: State
    snapshots: list[Float[np.ndarray, "teachers parameters"]]
    losses: list[Float[np.ndarray, " teachers"]]

    def of(
        self, place: int, known: Mapping[str, Any]
    ) -> tuple[Float[np.ndarray, "snapshots parameters"], dict[str, Any]]:
        """The trajectory of one of them, and what is known of it."""
        losses = [float(loss[place]) for loss in self.losses]
        trajectory = np.stack([snapshot[place] for snapshot in self.snapshots])
        return trajectory, {**known, "losses": losses, "versions": versions()}


def _trained(
    keys: PRNGKeys,
    states: State,
    teaching: TeachConfig,
    advance: EpochFn,
    tell: Callable[[int, float], None],
) -> _Trained:
    """Several teachers after all epochs; `tell(epochs, loss)` is called after each of these."""
    snapshots, losses = [_snapshot(states)], []
    for epoch in range(teaching.epochs):
        keys, states, info = advance(keys, states, epoch)
        losses.append(np.asarray(info.loss))
        if cluster.leads() and epoch < teaching.last_kept:
            snapshots.append(_snapshot(states))
        tell(epoch + 1, float(losses[-1].mean()))
    return _Trained(states, snapshots, losses)


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


def _require_finite(group: list[int], trained: _Trained) -> None:
    """Refuse to keep a teacher that diverged."""
    finite = [np.isfinite(loss) for loss in trained.losses]  # Of each epoch, for each of the group.
    for epoch, vectors in enumerate(trained.snapshots[1:]):
        finite[epoch] &= np.isfinite(vectors).all(axis=1)
    for epoch, of_group in enumerate(finite, start=1):
        for index, good in zip(group, of_group, strict=True):
            if not good:
                raise InputError(f"teacher {index} diverged in epoch {epoch}; lower --teacher-rate")


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


@jax.jit
def _vectors(states: State) -> Float[Array, "teachers parameters"]:
    return jax.vmap(lambda params: flatten_params(params)[0])(states.params)
