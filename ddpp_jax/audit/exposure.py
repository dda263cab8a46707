"""What networks that were trained on a small set show of real images."""

import math
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import ApplyFn, FloatArray, Images, IntArray, Labels, Logits, Params, PRNGKey
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Evaluation, Procedure, evaluation_of, train
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import Checkpoints
from ddpp_jax.training import over_members, predictions

_BATCH = 500


class Exposure(NamedTuple):
    """What networks show.

    Attributes:
        confidences: log p / (1 - p) of each real image's true class, by each network.
        evaluation: on the test set.
    """

    confidences: Float[np.ndarray, "networks images"]
    evaluation: Evaluation


def expose(
    key: PRNGKey,
    procedure: Procedure,
    network: Network,
    small: DistilledSet,
    audited: tuple[FloatArray, IntArray],
    test: tuple[FloatArray, IntArray],
    report: Report,
    checkpoints: Checkpoints | None = None,
) -> Exposure:
    """Train fresh networks on a set, and ask them about real images.

    Args:
        key: of all draws.
        procedure: how many networks, and their schedule.
        network: the architecture.
        small: what they are trained on.
        audited: the real images that are asked about, seen as the set's are, and their classes.
        test: the test set, likewise.
        report: told as it goes on.
        checkpoints: where to keep the state of a long training; None keeps none.

    Raises:
        InputError: a network diverged, so that it shows nothing.
    """
    states, losses = train(
        key, procedure, network, small, report, name="train", checkpoints=checkpoints
    )
    guesses = predictions(
        states.params,
        jnp.asarray(test[0], jnp.float32),
        apply_fn=network.apply_fn,
        parts_fn=network.parts,
    )
    lost = int((~np.isfinite(losses)).sum())
    labels = np.asarray(test[1])
    evaluation = evaluation_of(np.asarray(guesses), labels, procedure.classes, diverged=lost)
    found = confidences_of(states.params, *audited, network=network)
    if not np.isfinite(found).all():
        raise InputError(
            f"{lost or 'some'} of {len(found)} networks diverged, and what they show means "
            f"nothing; lower the rate, which is {float(small.alpha):g}"
        )
    if checkpoints is not None:
        checkpoints.remove()
    return Exposure(found, evaluation)


def confidences_of(
    params: Params, images: FloatArray, labels: IntArray, *, network: Network
) -> Float[np.ndarray, "networks images"]:
    """How sure each of several networks is of each image's class: log p / (1 - p).

    Args:
        params: of the networks, stacked along a leading axis.
        images: as the networks see them; they are taken in batches.
        labels: a class for each.
        network: the architecture.
    """
    count = len(labels)
    size = min(_BATCH, count)
    size //= network.parts(size)
    steps = math.ceil(count / size)
    order = jnp.pad(jnp.arange(count), (0, steps * size - count)).reshape(steps, size)
    piece = (jnp.asarray(images, jnp.float32), jnp.asarray(labels, jnp.int32), order)
    found = _ask(params, [piece], network.apply_fn)
    return np.asarray(found).reshape(-1, steps * size)[:, :count]


def scaled(logits: Logits, labels: Labels) -> Float[Array, " images"]:
    """Log p / (1 - p) of each image's class, worked out from the logits so that no p is 1.

    It is the logit of the class less the log of the sum of the others' exponentials (Carlini et
    al., 2022, section VI.A).

    Args:
        logits: of each image.
        labels: the class of each.
    """
    own = jnp.arange(logits.shape[1])[None] == labels[:, None]
    others = jax.nn.logsumexp(jnp.where(own, -jnp.inf, logits), axis=1)
    return jnp.where(own, logits, 0.0).sum(axis=1) - others


@partial(over_members, donate=False)
def _ask(
    params: Params,
    piece: tuple[Images, Labels, Int[Array, "steps size"]],
    apply_fn: ApplyFn,
) -> Float[Array, "steps size"]:
    images, labels, order = piece
    return lax.map(lambda batch: scaled(apply_fn(params, images[batch]), labels[batch]), order)
