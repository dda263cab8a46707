"""Gradient matching: DC (Zhao, Mopuri and Bilen, ICLR 2021) and DSA (Zhao and Bilen, ICML 2021)."""

from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from ddpp_jax._types import AugmentFn, FloatArray, Images, Params, PRNGKey, Scalar, Targets
from ddpp_jax.core import named_key, value_and_gradient
from ddpp_jax.methods.method import Info, Method, Metric
from ddpp_jax.methods.pixels import (
    PixelHParams,
    PixelState,
    begin,
    descend,
    distilled,
    network_training,
    told_by_class,
)
from ddpp_jax.methods.real import (
    Pool,
    Real,
    RealSource,
    over_classes,
    reading_pool,
    same_for_all,
)
from ddpp_jax.networks import Network
from ddpp_jax.training import Training, cross_entropy, train_epoch

METRICS = (
    Metric("loss", "distance of the gradients, summed over tensors and classes"),
    Metric("loss_by_class", "distance of the gradients of each class"),
)

_OFF_ZERO = 1e-6
"""Added to the product of two norms, as published."""

_MATCHING = 9
"""Passes over a network that the gradient of a distilled image's gradient takes, about."""

_TRAINING = 3

_Carry: TypeAlias = tuple[PixelState, Params]


class GradientLoops(NamedTuple):
    """How a network is trained between updates of the images.

    Attributes:
        updates: of the images for each network that is drawn.
        epochs: on the distilled images, between two of those.
        rate: learning rate of the network, plain SGD.
        batch: distilled images in a minibatch of it.
    """

    updates: int = 1
    epochs: int = 1
    rate: float = 0.01
    batch: int = 256


class _Setting(NamedTuple):
    """What is the same in all steps; see `match_gradients`."""

    network: Network
    real_batch: int
    optimizer: optax.GradientTransformation
    loops: GradientLoops
    augment_fn: AugmentFn | None
    training: Training


def match_gradients(
    network: Network,
    source: RealSource,
    *,
    optimizer: optax.GradientTransformation,
    loops: GradientLoops,
    augment_fn: AugmentFn | None = None,
) -> Method:
    """The method of matching, class by class, the gradients of a network's loss.

    Each step draws a network at random. The images are updated several times, and the network is
    trained on them in between: with one update, as is published for one image per class, never.

    Args:
        network: the architecture.
        source: of real images.
        optimizer: of the pixels, without its rate: `optax.trace(0.5)` as published.
        loops: how the network is trained in between.
        augment_fn: DSA: one draw for all real and all distilled images of a class in an update, and
            minibatches of the network's training; None is DC.
    """
    setting = _Setting(
        network,
        source.batch,
        optimizer,
        loops,
        augment_fn,
        network_training(network, loops.rate, loops.batch, augment_fn),
    )
    work, classes = source.work, source.classes
    matching = classes * (_TRAINING * source.batch + _MATCHING * work.ipc)
    training_between = loops.epochs * _TRAINING * classes * work.ipc
    images = loops.updates * matching + (loops.updates - 1) * training_between
    method = Method(
        begin(optimizer),
        partial(_step, setting),
        source.feed_fn,
        distilled,
        batch=source.pool,
        metrics=METRICS,
        advice="lower --pixel-rate" + (" or --network-rate" if loops.updates > 1 else ""),
        held="the training set on the device",
        operations=work.image * images,
    )
    return reading_pool(method)


def _step(
    setting: _Setting, key: PRNGKey, state: PixelState, pool: Pool, hparams: PixelHParams
) -> tuple[PixelState, Info]:
    """The state after all updates with a network, or as it was where that is not finite."""

    def turn(carry: _Carry, key: PRNGKey) -> tuple[_Carry, Float[Array, " classes"]]:
        after, by_class = _updated(setting, key, carry, pool, hparams)
        own = named_key(key, "network training")
        small, loops = (after.images, state.labels), setting.loops
        params = _trained(own, carry[1], *small, setting.training, loops.epochs)
        return (after, params), by_class

    keys = jax.random.split(named_key(key, "updates"), setting.loops.updates)
    carry = (state, setting.network.init_fn(named_key(key, "network")))
    carry, before = lax.scan(turn, carry, keys[:-1])
    # No training follows the last update.
    updated, last = _updated(setting, keys[-1], carry, pool, hparams)
    by_class = jnp.concatenate([before, last[None]]).mean(axis=0)
    return told_by_class(state, updated, by_class)


def _updated(
    setting: _Setting, key: PRNGKey, carry: _Carry, pool: Pool, hparams: PixelHParams
) -> tuple[PixelState, Float[Array, " classes"]]:
    """After an update of the images, and the loss of each class before it."""
    (state, params), augment_fn = carry, setting.augment_fn

    def distance(label: Array, key: Array, real: Real, own: Images) -> Scalar:
        if augment_fn is not None:
            real, own = (same_for_all(augment_fn, key, x) for x in (real, own))
        return class_distance(params, label, real, own, network=setting.network)

    by_class, gradient = over_classes(distance, key, pool, state.images, batch=setting.real_batch)
    return descend(state, gradient, hparams.pixel_rate, setting.optimizer), by_class


def class_distance(
    params: Params,
    label: Array,
    real: Real,
    own: Images,
    *,
    network: Network,
) -> Scalar:
    """The distance of the loss's gradients on the real and on the distilled images of a class.

    The real side is a constant to differentiation.

    Args:
        params: of the network.
        label: the class.
        real: its real images.
        own: its distilled images.
        network: the architecture.
    """

    def loss_fn(params: Params, images: Array) -> Scalar:
        labels = jnp.full(len(images), label)
        return cross_entropy(network.apply_fn(params, images), labels).mean()

    parts = network.parts(len(real))
    _, theirs = value_and_gradient(loss_fn, params, real, parts=parts)
    return gradient_distance(lax.stop_gradient(theirs), jax.grad(loss_fn)(params, own))


def gradient_distance(real: Params, own: Params) -> Scalar:
    """The distance of two gradients: that of their tensors, summed over those of rank 2 or more.

    Args:
        real: the gradient on real images.
        own: on distilled ones, in the same structure.
    """
    pairs = zip(jax.tree.leaves(real), jax.tree.leaves(own), strict=True)
    return jnp.stack([row_distances(a, b).sum() for a, b in pairs if a.ndim > 1]).sum()


def row_distances(real: FloatArray, own: FloatArray) -> Float[Array, " outputs"]:
    """1 - <a, b> / (|a| |b| + 1e-6) for the weights of each output, those along the last axis.

    Of zeros it is 1, and its gradient in zeros of `own` is finite.

    Args:
        real: a tensor of the gradient on real images.
        own: the same tensor of that on distilled ones.
    """
    a, b = (jnp.reshape(x, (-1, x.shape[-1])) for x in (real, own))
    return 1 - (a * b).sum(axis=0) / (_norms(a) * _norms(b) + _OFF_ZERO)


def _norms(columns: Float[Array, "inputs outputs"]) -> Float[Array, " outputs"]:
    """The length of each column, with no slope where it is 0."""
    squares = jnp.square(columns).sum(axis=0)
    return jnp.where(squares > 0, jnp.sqrt(jnp.where(squares > 0, squares, 1)), 0)


def _trained(
    key: PRNGKey,
    params: Params,
    images: Images,
    labels: Targets,
    training: Training,
    epochs: int,
) -> Params:
    """The network after some epochs on the distilled images."""

    def epoch(params: Params, key: PRNGKey) -> tuple[Params, None]:
        state = training.optimizer.init(params)  # Plain SGD has none to keep.
        params, _, _ = train_epoch(key, params, state, images, labels, training)
        return params, None

    return lax.scan(epoch, params, jax.random.split(key, epochs))[0]
