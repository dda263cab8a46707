"""The learning rate of teachers: the largest at which a trajectory is still smooth.

A student is to follow the teacher's trajectory. Where the rate is too high the trajectory turns at
random from one epoch to the next, and where it is low it hardly moves. What tells the two apart, on
any data and at any size, is the cosine between what an epoch changes and what the next one changes:
near 1 on a straight path, near 0 on a random walk.
"""

import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import Images, Labels, Params, PRNGKey, Scalar
from ddpp_jax.core import augment, flatten_params
from ddpp_jax.data import Dataset
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report
from ddpp_jax.training import Sharpness, Training, accuracies, over_members, train_epoch

SMOOTH = 0.8
"""The least mean cosine between the changes of neighbouring epochs."""

LEARNT = 0.9
"""The least part of the best accuracy that a rate reaches."""

_FIRST_RATE, _RATIO = 0.05, 10**0.5
_LOWEST, _HIGHEST = 1e-4, 1.0
_NETWORKS, _EPOCHS = 2, 3


class Rate(NamedTuple):
    """What a learning rate gave.

    Attributes:
        rate: of the SGD.
        losses: the mean training loss of each epoch, nats.
        accuracy: on the held-out images after the last epoch, from 0 to 1.
        smoothness: the mean cosine between the changes of neighbouring epochs.
    """

    rate: float
    losses: tuple[float, ...]
    accuracy: float
    smoothness: float


class RangeTest(NamedTuple):
    """The rate that was chosen, what others gave, and seconds of a teacher's epoch."""

    rate: float
    tried: tuple[Rate, ...]
    seconds: float


class _How(NamedTuple):
    """What is the same in all epochs, and compiled in.

    Attributes:
        network: the architecture.
        batch_size: of the SGD.
        operations: of the augmentation.
        sharpness: of steps towards flat minima; None for plain SGD.
    """

    network: Network
    batch_size: int
    operations: tuple[str, ...]
    sharpness: Sharpness | None


def range_test(
    key: PRNGKey,
    network: Network,
    dataset: Dataset,
    *,
    batch_size: int,
    operations: tuple[str, ...],
    report: Report,
    epochs: int = 1,
    sharpness: Sharpness | None = None,
) -> RangeTest:
    """The largest learning rate with a smooth trajectory, by short trainings at some rates.

    Rates go up or down by half a decade until the mean cosine crosses `SMOOTH`; the crossing is
    found between two neighbours by the logarithm of the rate. Where minibatches are noisy, or the
    task is hard, so low a rate may learn nothing; then the lowest is taken that reaches `LEARNT` of
    the best accuracy on held-out images, found in the same way.

    Args:
        key: decides initialisations and minibatches, which all rates share.
        network: the architecture.
        dataset: real images, with some held out.
        batch_size: of the SGD.
        operations: of the augmentation.
        report: told of every rate.
        epochs: so many count as one here, where an epoch is a few SGD steps.
        sharpness: of the teachers' steps towards flat minima; None for plain SGD.
    """
    given = (jnp.asarray(dataset.x_train), jnp.asarray(dataset.y_train))
    train = partial(_unit, _How(network, batch_size, operations, sharpness), epochs)
    seconds: list[float] = []

    def tried(rate: float) -> Rate:
        return _try(key, rate, network, dataset, train, given, seconds)

    found = {_FIRST_RATE: tried(_FIRST_RATE)}
    up = found[_FIRST_RATE].smoothness >= SMOOTH
    rate = _FIRST_RATE
    with report.progress("try rates of teachers", 4, unit="rate", done=1) as tick:
        while True:
            rate = rate * _RATIO if up else rate / _RATIO
            if not _LOWEST <= rate <= _HIGHEST:
                break
            found[rate] = tried(rate)
            tick(min(4, len(found)), {"rate": rate, "smoothness": found[rate].smoothness})
            if (found[rate].smoothness >= SMOOTH) != up:
                break
    rates = tuple(found[rate] for rate in sorted(found))
    return RangeTest(_chosen(rates), rates, min(seconds))


def _chosen(tried: tuple[Rate, ...]) -> float:
    """Where the cosine falls below `SMOOTH`, or above that where a network learns enough."""
    return max(_crossing(tried), _learning(tried))


def _crossing(tried: tuple[Rate, ...]) -> float:
    """The rate at which the cosine falls below `SMOOTH`, to two digits."""
    smooth = [one for one in tried if one.smoothness >= SMOOTH]
    rough = [one for one in tried if one.smoothness < SMOOTH]
    if not smooth or not rough:
        return _rounded((tried[0] if rough else tried[-1]).rate)
    low, high = smooth[-1], rough[0]
    return _between(low, high, (low.smoothness - SMOOTH) / (low.smoothness - high.smoothness))


def _learning(tried: tuple[Rate, ...]) -> float:
    """The lowest rate with `LEARNT` of the best accuracy, to two digits."""
    enough = LEARNT * max(one.accuracy for one in tried)
    first = next(n for n, one in enumerate(tried) if one.accuracy >= enough)
    if first == 0:
        return _rounded(tried[0].rate)
    low, high = tried[first - 1], tried[first]
    return _between(low, high, (enough - low.accuracy) / (high.accuracy - low.accuracy))


def _between(low: Rate, high: Rate, part: float) -> float:
    return _rounded(low.rate * (high.rate / low.rate) ** part)


def _rounded(rate: float) -> float:
    return float(f"{rate:.2g}")


def _try(
    key: PRNGKey,
    rate: float,
    network: Network,
    dataset: Dataset,
    train: Any,
    given: tuple[Images, Labels],
    seconds: list[float],
) -> Rate:
    keys = jax.random.split(key, _NETWORKS)
    params = jax.vmap(network.init_fn)(keys)
    rates = jnp.full(_NETWORKS, rate, jnp.float32)
    members = (keys, rates, params, jnp.zeros(_NETWORKS))
    snapshots, losses = [_vectors(params)], []
    for epoch in range(_EPOCHS):
        began = time.perf_counter()
        members, each = train(members, epoch, given)
        seconds.append((time.perf_counter() - began) / (_NETWORKS * each))
        snapshots.append(_vectors(members[2]))
        losses.append(float(members[3].mean()))
    changes = np.diff(np.stack(snapshots), axis=0)
    found = accuracies(
        members[2],
        dataset.x_held,
        dataset.y_held,
        apply_fn=network.apply_fn,
        parts_fn=network.parts,
    )
    return Rate(rate, tuple(losses), float(found.mean()), smoothness(changes))


def _unit(
    how: _How, epochs: int, members: Any, number: int, given: tuple[Images, Labels]
) -> tuple[Any, int]:
    """The members after so many more epochs, and how many these are."""
    pieces = [(jnp.int32(number * epochs + epoch), *given) for epoch in range(epochs)]
    return jax.block_until_ready(_train(members, pieces, how)), epochs


def smoothness(changes: Float[np.ndarray, "epochs networks parameters"]) -> float:
    """The mean cosine between what neighbouring epochs change; -1 where a number is not finite.

    Args:
        changes: of the parameters of some networks in each of two epochs or more.
    """
    if not np.isfinite(changes).all():
        return -1.0
    along = (changes[1:] * changes[:-1]).sum(-1)
    lengths = np.linalg.norm(changes, axis=-1)
    cosines = along / np.maximum(lengths[1:] * lengths[:-1], 1e-30)
    return float(cosines.mean())


@jax.jit
def _stacked(params: Params) -> Float[Array, "networks parameters"]:
    return jax.vmap(lambda one: flatten_params(one)[0])(params)


def _vectors(params: Params) -> Float[np.ndarray, "networks parameters"]:
    return np.asarray(_stacked(params), np.float64)


@partial(over_members, donate=False)
def _train(
    member: tuple[PRNGKey, Scalar, Params, Scalar],
    piece: tuple[Int[Array, ""], Images, Labels],
    how: _How,
) -> tuple[PRNGKey, Scalar, Params, Scalar]:
    """A network after an epoch at its own rate, which is no part of the program."""
    key, rate, params, _ = member
    number, images, labels = piece
    training = Training(
        how.network.apply_fn,
        optax.sgd(rate),
        how.batch_size,
        augment_fn=partial(augment, operations=how.operations),
        parts_fn=how.network.parts,
        sharpness=how.sharpness,
    )
    params, _, loss = train_epoch(
        jax.random.fold_in(key, number),
        params,
        training.optimizer.init(params),
        images,
        labels,
        training,
    )
    return key, rate, params, loss
