"""Several fresh networks trained on a small set, and tested."""

import time
from collections.abc import Mapping
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ddpp_jax import cluster
from ddpp_jax._types import (
    FloatArray,
    Images,
    IntArray,
    PRNGKey,
    PRNGKeys,
    Scalar,
    Targets,
)
from ddpp_jax.configs import EvaluateConfig
from ddpp_jax.core import augment, named_key
from ddpp_jax.data import Stored
from ddpp_jax.evaluate.evaluation import Evaluation, evaluation_of
from ddpp_jax.evaluate.schedule import Info, State, init, step
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import Checkpoints
from ddpp_jax.training import PIECES, everywhere, over_members, predictions, workers

_EPOCHS_A_CALL = 100
_SECONDS_A_CALL = 2.0
_LEAST_SECONDS = 0.1  # Of a call, to tell its pace.
_SECONDS_BETWEEN_CHECKPOINTS = 20.0


class Procedure(NamedTuple):
    """How sets are evaluated.

    Attributes:
        config: how many networks, and their schedule.
        operations: the DSA operations of the augmentation.
        classes: how many there are.
    """

    config: EvaluateConfig
    operations: tuple[str, ...]
    classes: int


Tests: TypeAlias = Mapping[str, tuple[FloatArray | Stored, IntArray]]
"""Test sets by name: images and labels."""


def run(
    key: PRNGKey,
    procedure: Procedure,
    network: Network,
    small: DistilledSet,
    tests: Tests,
    report: Report,
    *,
    name: str = "evaluate",
    checkpoints: Checkpoints | None = None,
) -> dict[str, Evaluation]:
    """What several fresh networks, trained on a small set, make of each of some test sets.

    All is worked out in float32, whatever JAX's default is.

    Args:
        key: decides the initialisations and all draws.
        procedure: how many networks, their schedule and their augmentation.
        network: the architecture.
        small: images, normalised as the test sets are; labels, hard or soft; and the learning rate
            at first.
        tests: sets that they are tested on, by name: images and labels.
        report: told as it goes on.
        name: what the report calls it.
        checkpoints: where to keep the state of a long evaluation now and then, and to go on from;
            None keeps none.
    """
    states, losses = train(
        key, procedure, network, small, report, name=name, checkpoints=checkpoints
    )
    lost = int((~np.isfinite(losses)).sum())
    found = {}
    for test, (x_test, y_test) in tests.items():
        guesses = predictions(
            states.params,
            x_test if isinstance(x_test, Stored) else jnp.asarray(x_test, jnp.float32),
            apply_fn=network.apply_fn,
            parts_fn=network.parts,
        )
        found[test] = evaluation_of(
            np.asarray(guesses), np.asarray(y_test), procedure.classes, diverged=lost
        )
    if checkpoints is not None:
        checkpoints.remove()
    return found


def train(
    key: PRNGKey,
    procedure: Procedure,
    network: Network,
    small: DistilledSet,
    report: Report,
    *,
    name: str = "evaluate",
    checkpoints: Checkpoints | None = None,
) -> tuple[State, Float[np.ndarray, " networks"]]:
    """Several fresh networks trained on a small set, and the loss of each one's last epoch.

    Args:
        key: decides the initialisations and all draws.
        procedure: how many networks, their schedule and their augmentation.
        network: the architecture.
        small: as for `run`.
        report: told as it goes on.
        name: what the report calls it.
        checkpoints: as for `run`; what they keep is left to the caller to remove.
    """
    config = procedure.config
    keys = jax.random.split(key, config.networks)
    soft = np.asarray(small.labels).dtype.kind == "f"
    given = everywhere(
        (
            jnp.asarray(small.images, jnp.float32),
            jnp.asarray(small.labels, jnp.float32 if soft else jnp.int32),
            jnp.asarray(small.alpha, jnp.float32),
        )
    )
    begun = (begin_all(keys, network), jnp.zeros(config.networks, jnp.float32))
    (states, losses), done = begun, 0
    if checkpoints is not None:
        (states, losses), done = checkpoints.load_latest(begun, report.warn)
    total = config.eval_epochs + 1
    kept, count, paces = time.monotonic(), 1, dict[int, float]()
    with report.progress(name, total, unit="epoch", done=done) as tick:
        while done < total:
            began, high = time.monotonic(), min(done + count, total)
            at_a_time = _at_a_time(paces, workers(config.networks))
            keys, states, info = advance_all(
                (keys, states, Info(losses)),
                [(*span, given) for span in _pieces(done, high)],
                (network, procedure),
                at_a_time=at_a_time,
            )
            losses = info.loss
            tick(high, {"loss": float(losses.mean())})
            now = time.monotonic()
            # Processes of one job cut the epochs into the same calls.
            pace = cluster.agreed(lambda took=now - began: took) / (high - done)
            if done and now - began > _LEAST_SECONDS:  # The first call compiles.
                paces.setdefault(at_a_time, pace)
            done, count = high, min(_EPOCHS_A_CALL, max(1, int(_SECONDS_A_CALL / pace)))
            if checkpoints is not None and now - kept > _SECONDS_BETWEEN_CHECKPOINTS:
                checkpoints.save(high, (states, losses))
                kept = time.monotonic()
    return states, np.asarray(losses)


def _at_a_time(paces: Mapping[int, float], most: int) -> int:
    """How many networks to train at a time, by the seconds that epochs took.

    Large networks hinder one another, small ones do not; so both are tried, which changes no bit.
    """
    untried = [count for count in (most, 1) if count not in paces]
    return untried[0] if untried else min(paces, key=lambda count: paces[count])


def _pieces(low: int, high: int) -> list[tuple[Int[Array, ""], Int[Array, ""]]]:
    """The first epoch of each piece, and the first after it."""
    step = -(-(high - low) // PIECES)
    firsts = range(low, high, step)
    return [(jnp.int32(first), jnp.int32(min(first + step, high))) for first in firsts]


@partial(jax.jit, static_argnums=1)
def begin_all(keys: PRNGKeys, network: Network) -> State:
    """Freshly initialised networks, one for each key."""
    return jax.vmap(lambda key: init(named_key(key, "init"), network=network))(keys)


@over_members
def advance_all(
    member: tuple[PRNGKey, State, Info],
    piece: tuple[Int[Array, ""], Int[Array, ""], tuple[Images, Targets, Scalar]],
    how: tuple[Network, Procedure],
) -> tuple[PRNGKey, State, Info]:
    """A network after the epochs of a piece."""
    key, state, info = member
    low, high, small = piece
    network, procedure = how

    def epoch(index: Int[Array, ""], carry: tuple[State, Info]) -> tuple[State, Info]:
        return step(
            jax.random.fold_in(named_key(key, "epochs"), index),
            carry[0],
            index,
            small,
            network=network,
            config=procedure.config,
            augment_fn=partial(augment, operations=procedure.operations),
        )

    return key, *lax.fori_loop(low, high, epoch, (state, info))
