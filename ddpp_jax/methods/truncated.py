"""Truncated unrolling: RaT-BPTT (Feng, Vedantam and Kempe, ICLR 2024), AT-BPTT's window likewise.

The distilled images are trained by the loss on real images of a network that was trained on them,
differentiated through a window of that training alone.
"""

from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Int

from ddpp_jax._types import Images, OptState, Params, PRNGKey, Scalar, ScalarLike
from ddpp_jax.core import named_key
from ddpp_jax.methods.draws import draw
from ddpp_jax.methods.matching import cut_of
from ddpp_jax.methods.method import Info, Method, Metric, all_finite, finite_or_same
from ddpp_jax.methods.pixels import (
    Trained,
    begin_trained,
    descend_trained,
    labels_of,
    trained_set,
)
from ddpp_jax.methods.real import Pool, RealSource, draw_places, reading_pool
from ddpp_jax.methods.windows import Inner, begin_window, through_window
from ddpp_jax.networks import Network
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import cross_entropy, length

METRICS = (
    Metric("loss", "cross-entropy of real images after the window, nats"),
    Metric("target_accuracy", "accuracy of that network on them"),
    Metric("gradient_norm", "length of the gradient in the images"),
    Metric("window_start", "step of the network's training at which the window begins"),
)

_CLIPPED_AT = 2.0
"""The gradient is cut to so many times its usual length."""

_KEPT_OF_NORM = 0.9
"""Share that the usual length keeps of itself in a step."""

_DIFFERENTIATED = 12
"""Passes over a network that a step of the window takes, with all that differentiating it takes."""


class UnrolledState(NamedTuple):
    """What the next step needs.

    Attributes:
        trained: images and labels.
        labels: the classes of the images.
        alpha: the learning rate that goes with the set.
        opt_state: of the optimiser.
        usual_norm: running mean of the gradient's length; 0 before the first step.
    """

    trained: Trained
    labels: Int[Array, " images"]
    alpha: Scalar
    opt_state: OptState
    usual_norm: Scalar


class UnrolledHParams(NamedTuple):
    """What may differ between distillations in one program.

    Attributes:
        pixel_rate: learning rate of the pixels.
        label_rate: learning rate of the labels, where they are learned.
    """

    pixel_rate: ScalarLike
    label_rate: ScalarLike = 0.0


class _Setting(NamedTuple):
    """What is the same in all steps; see `unroll_truncated`."""

    network: Network
    target_batch: int
    optimizer: optax.GradientTransformation
    inner: Inner


def unroll_truncated(
    network: Network,
    source: RealSource,
    *,
    optimizer: optax.GradientTransformation,
    inner: Inner,
    learns_labels: bool = False,
) -> Method:
    """The method of training a fresh network on the set and descending its loss on real images.

    Each step initialises a network, trains it on the distilled images up to a window, unrolls the
    window, and descends the cross-entropy of real images of every class after it. The gradient is
    exact within the window and none flows from before it. Its length is cut at twice its running
    mean.

    Args:
        network: the architecture.
        source: of real images, on which the loss of a network is taken.
        optimizer: of pixels and labels, without their rates: `optax.scale_by_adam()` as published.
        inner: how networks are trained on the distilled images.
        learns_labels: train the labels too, as probabilities.
    """
    setting = _Setting(network, source.batch, optimizer, inner)
    classes = source.classes

    def init(key: PRNGKey, start: DistilledSet) -> UnrolledState:
        del key  # The images to start from are drawn already.
        trained, labels, alpha = begin_trained(start, classes if learns_labels else None)
        opt_state = optimizer.init(cast(optax.Params, trained))
        return UnrolledState(trained, labels, alpha, opt_state, jnp.zeros_like(alpha))

    method = Method(
        init,
        partial(_step, setting),
        source.feed_fn,
        lambda state: trained_set(state.trained, state.labels, state.alpha),
        batch=source.pool,
        metrics=METRICS,
        advice="lower --pixel-rate or --network-rate",
        operations=source.work.image * (_passes(inner) * inner.batch + 3 * classes * source.batch),
        least_memory=(3 if inner.adam else 1) * inner.window * network.num_params,
        held=f"a window of {inner.window} steps of {network.num_params:,} parameters",
        remedy="lower --window, --width or --per-class",
    )
    return reading_pool(method)


def _passes(inner: Inner) -> float:
    """Passes of a minibatch over the network in a step, about."""
    before = 3 * (inner.horizon - inner.window) * (0.5 if inner.placement == "random" else 1)
    whole = 3 * inner.horizon if inner.placement == "adaptive" else 0
    return before + whole + _DIFFERENTIATED * inner.window


def _step(
    setting: _Setting, key: PRNGKey, state: UnrolledState, pool: Pool, hparams: UnrolledHParams
) -> tuple[UnrolledState, Info]:
    """The state after a step, or as it was where that is not finite."""
    network, target_batch, optimizer, inner = setting
    places = draw_places(named_key(key, "real images"), pool, target_batch).reshape(-1)
    targets = jnp.repeat(jnp.arange(pool.counts.shape[0]), target_batch)
    real = inner.augment_fn(named_key(key, "augment real"), pool.images[places])
    draws = draw(
        named_key(key, "distilled images"),
        images=len(state.labels),
        steps=inner.horizon,
        batch=inner.batch,
    )
    labels = labels_of(lax.stop_gradient(state.trained), state.labels)
    window = begin_window(key, state.trained.images, labels, draws, network=network, inner=inner)

    def loss_fn(trained: Trained) -> tuple[Scalar, Scalar]:
        labels = labels_of(trained, state.labels)
        params = through_window(trained.images, labels, window, draws, network=network, inner=inner)
        return evaluated(network, params, real, targets)

    (loss, right), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.trained)
    norm, shorter, usual = _clipping(gradient.images, state.usual_norm)
    gradient = gradient._replace(images=gradient.images * shorter)
    velocity, opt_state = optimizer.update(cast(optax.Updates, gradient), state.opt_state)
    trained = descend_trained(state.trained, cast(Trained, velocity), *hparams)
    finite = all_finite(loss, gradient, trained)
    updated = state._replace(trained=trained, opt_state=opt_state, usual_norm=usual)
    metrics = {
        "loss": loss,
        "target_accuracy": right,
        "gradient_norm": norm,
        "window_start": window.first,
    }
    return finite_or_same(finite, updated, state), Info(metrics, ~finite)


def _clipping(gradient: Images, usual: Scalar) -> tuple[Scalar, Scalar, Scalar]:
    """The gradient's length, what it is multiplied by, and its usual length from now on."""
    norm = length(gradient)
    usual = jnp.where(usual == 0, norm, _KEPT_OF_NORM * (usual - norm) + norm)
    return norm, jnp.minimum(1, _CLIPPED_AT * usual / jnp.where(norm > 0, norm, 1)), usual


def evaluated(
    network: Network, params: Params, real: Images, targets: Int[Array, " real"]
) -> tuple[Scalar, Scalar]:
    """The mean cross-entropy of real images and the accuracy on them, one part after another.

    Args:
        network: the architecture.
        params: of the network.
        real: images.
        targets: their classes.
    """
    cut = cut_of(network, len(real))

    @jax.checkpoint
    def of_part(part: tuple[Images, Array]) -> tuple[Scalar, Scalar]:
        images, own = part
        logits = network.apply_fn(params, images)
        right = (logits.argmax(axis=1) == own).mean(dtype=jnp.float32)
        return cross_entropy(logits, own).mean(), right

    def of_share(share: tuple[Images, Array]) -> tuple[tuple[Scalar, Scalar], None]:
        images, own = share
        rows = images.reshape(cut.parts, -1, *images.shape[1:]), own.reshape(cut.parts, -1)
        losses, right = lax.map(of_part, rows)
        return (losses.mean(), right.mean()), None

    whole = (real, targets)
    found, _ = of_share(whole) if cut.share_fn is None else cut.share_fn(of_share, whole)
    return found
