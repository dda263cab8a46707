"""Feature alignment: CAFE (Wang et al., CVPR 2022)."""

from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Bool, Float, Int

from ddpp_jax._types import AugmentFn, Params, PRNGKey, Scalar
from ddpp_jax.core import named_key
from ddpp_jax.methods.features import gradient_of
from ddpp_jax.methods.method import Info, Method, Metric, all_finite, finite_or_same
from ddpp_jax.methods.pixels import (
    PixelHParams,
    PixelState,
    begin,
    descend,
    distilled,
    network_training,
)
from ddpp_jax.methods.real import Pool, RealSource, draw_places, in_parts, reading_pool
from ddpp_jax.networks import Network
from ddpp_jax.training import Training, map_over, train_epoch

METRICS = (
    Metric("loss", "what is descended: alignment and discrimination"),
    Metric("alignment", "squared distance of the class means of features, weighted"),
    Metric("discrimination", "cross-entropy of real images by the distilled centres, summed"),
    Metric("updates", "updates of the images for a network"),
    Metric("epochs", "epochs that a network was trained"),
    Metric("query_accuracy", "accuracy of a network on real images, at last"),
)

_WINDOW = 10
"""Accuracies of which the range decides whether a loop ends."""

_MOST_UPDATES = 50
_MOST_EPOCHS = 20
"""Where the loops end whatever the accuracies are; as published they might never.

There an accuracy is told by 1,280 images that are drawn anew each time, so that chance alone moves
ten of them by 0.03 as a rule. Of a small training set they are nearly the same images.
"""

_FALLS = (0.6, 0.8, 0.9)
"""Shares of all steps at which the learning rate is halved: 1,200, 1,600 and 1,800 of 2,000."""

_TRAINING = 3


class AlignmentLoops(NamedTuple):
    """When a network is trained further, and when another one is drawn.

    Attributes:
        settled: another network is drawn once the last ten accuracies differ by less than this.
        moved: the images are updated again once the last ten accuracies differ by more than this.
        rate: learning rate of the network, plain SGD.
        batch: distilled images in a minibatch of it.
        queries: real images of each class by which an accuracy is told.
        steps: of the distillation; the pixel rate is halved at parts of them.
    """

    settled: float = 0.04
    moved: float = 0.03
    rate: float = 0.01
    batch: int = 256
    queries: int = 128
    steps: int = 2000


class State(NamedTuple):
    """What the next step needs: that of the pixels, and how many steps were made."""

    pixels: PixelState
    made: Int[Array, ""]


class _Carry(NamedTuple):
    """Where the loops are."""

    pixels: PixelState
    params: Params
    accuracies: Float[Array, " window"]
    updates: Int[Array, ""]
    epochs: Int[Array, ""]
    losses: Float[Array, " 3"]


class _Setting(NamedTuple):
    """What is the same in all steps; see `align_features`."""

    network: Network
    real_batch: int
    optimizer: optax.GradientTransformation
    loops: AlignmentLoops
    augment_fn: AugmentFn | None
    training: Training


def align_features(
    network: Network,
    source: RealSource,
    *,
    optimizer: optax.GradientTransformation,
    loops: AlignmentLoops,
    augment_fn: AugmentFn | None = None,
) -> Method:
    """The method of aligning the features of real and of distilled images, layer by layer.

    Each step draws a network at random. The images are updated, and the network is trained on them,
    in turn; how often, its accuracy on real images decides.

    Args:
        network: the architecture, a ConvNet.
        source: of real images.
        optimizer: of the pixels, without its rate: `optax.trace(0.5)` as published.
        loops: when the network is trained further, and when another one is drawn.
        augment_fn: one draw for all real and all distilled images of a class in an update, and
            minibatches of the network's training; None is CAFE without DSA.
    """
    setting = _Setting(
        network,
        source.batch,
        optimizer,
        loops,
        augment_fn,
        network_training(network, loops.rate, loops.batch, augment_fn),
    )
    start_fn = begin(optimizer)
    own, classes = source.work.ipc, source.classes
    update_images = classes * (source.batch + (1 + _TRAINING) * own + loops.queries)
    epoch_images = classes * (_TRAINING * own + loops.queries)
    method = Method(
        lambda key, start: State(start_fn(key, start), jnp.int32(0)),
        partial(_step, setting),
        source.feed_fn,
        lambda state: distilled(state.pixels),
        batch=source.pool,
        metrics=METRICS,
        advice="lower --pixel-rate or --network-rate",
        held="the training set on the device",
        operations=source.work.image * _WINDOW * (update_images + _WINDOW * epoch_images),
    )
    return reading_pool(method)


def _step(
    setting: _Setting, key: PRNGKey, state: State, pool: Pool, hparams: PixelHParams
) -> tuple[State, Info]:
    """The state after all updates with a network, or as it was where that is not finite."""
    loops = setting.loops
    ends = jnp.asarray([max(1, int(share * loops.steps)) for share in _FALLS])
    rate = jnp.asarray(hparams.pixel_rate) / 2 ** (state.made >= ends).sum()

    def is_unsettled(carry: _Carry) -> Bool[Array, ""]:
        settled = (carry.updates >= _WINDOW) & (_range(carry.accuracies) < loops.settled)
        return ~settled & (carry.updates < _MOST_UPDATES)

    def key_of(update: Array) -> PRNGKey:
        return jax.random.fold_in(named_key(key, "updates"), update)

    def turn(carry: _Carry) -> _Carry:
        carry = _trained(setting, key_of(carry.updates - 1), carry, pool)
        return _updated(setting, key_of(carry.updates), carry, pool, rate)

    params = setting.network.init_fn(named_key(key, "network"))
    none = jnp.int32(0)
    carry = _Carry(state.pixels, params, jnp.zeros(_WINDOW), none, none, jnp.zeros(3))
    carry = _updated(setting, key_of(none), carry, pool, rate)
    carry = lax.while_loop(is_unsettled, turn, carry)
    total, alignment, discrimination = carry.losses / carry.updates
    metrics = {
        "loss": total,
        "alignment": alignment,
        "discrimination": discrimination,
        "updates": carry.updates.astype(jnp.float32),
        "epochs": carry.epochs.astype(jnp.float32),
        "query_accuracy": carry.accuracies[-1],
    }
    finite = all_finite(carry.losses, carry.pixels.images)
    after = State(carry.pixels, state.made + 1)
    return finite_or_same(finite, after, state), Info(metrics, ~finite)


def _updated(setting: _Setting, key: PRNGKey, carry: _Carry, pool: Pool, rate: Scalar) -> _Carry:
    """After an update of the images, and with the network's accuracy after it."""
    gradient, losses = gradient_of(
        key,
        carry.params,
        carry.pixels.images,
        pool,
        setting.network,
        batch=setting.real_batch,
        augment_fn=setting.augment_fn,
    )
    return carry._replace(
        pixels=descend(carry.pixels, gradient, rate, setting.optimizer),
        accuracies=_later(carry.accuracies, _accuracy(setting, key, carry.params, pool)),
        updates=carry.updates + 1,
        losses=carry.losses + jnp.stack(losses),
    )


def _trained(setting: _Setting, key: PRNGKey, carry: _Carry, pool: Pool) -> _Carry:
    """With the network after epochs on the distilled images until its accuracy has moved."""
    training, key = setting.training, named_key(key, "network training")
    small = (carry.pixels.images, carry.pixels.labels)

    def has_not_moved(x: tuple[Params, Array, Array]) -> Bool[Array, ""]:
        _, accuracies, epochs = x
        has = (epochs >= _WINDOW) & (_range(accuracies) > setting.loops.moved)
        return ~has & (epochs < _MOST_EPOCHS)

    def epoch(x: tuple[Params, Array, Array]) -> tuple[Params, Array, Array]:
        params, accuracies, epochs = x
        own = jax.random.fold_in(key, epochs)
        state = training.optimizer.init(params)  # Plain SGD has none to keep.
        params, _, _ = train_epoch(named_key(own, "epoch"), params, state, *small, training)
        return params, _later(accuracies, _accuracy(setting, own, params, pool)), epochs + 1

    begun = (carry.params, jnp.zeros(_WINDOW), jnp.int32(0))
    params, _, epochs = lax.while_loop(has_not_moved, epoch, begun)
    return carry._replace(params=params, epochs=carry.epochs + epochs)


def _accuracy(setting: _Setting, key: PRNGKey, params: Params, pool: Pool) -> Scalar:
    """The accuracy of a network on some real images of each class."""
    network, queries = setting.network, setting.loops.queries
    places = draw_places(named_key(key, "queries"), pool, queries)
    parts = network.parts(queries)

    def share(x: tuple[Array, Array]) -> Scalar:
        label, there = x
        logits = in_parts(lambda y: network.apply_fn(params, y), pool.images[there], parts)
        return (jnp.argmax(logits, axis=1) == label).mean(dtype=jnp.float32)

    return map_over(share, (jnp.arange(len(places)), places)).mean()


def _later(accuracies: Float[Array, " window"], value: Scalar) -> Float[Array, " window"]:
    """The last accuracies with another one after them."""
    return jnp.concatenate([accuracies[1:], value[None]])


def _range(accuracies: Float[Array, " window"]) -> Scalar:
    return accuracies.max() - accuracies.min()
