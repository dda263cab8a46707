"""Truncated unrolling: RaT-BPTT (Feng, Vedantam and Kempe, ICLR 2024), AT-BPTT's window likewise.

The distilled images are trained by the loss on real images of a network that was trained on them,
differentiated through a window of that training alone.
"""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import (
    AugmentFn,
    Images,
    OptState,
    Params,
    Placement,
    PRNGKey,
    Scalar,
    ScalarLike,
    Targets,
)
from ddpp_jax.core import named_key, unroll, value_and_gradient
from ddpp_jax.methods.draws import Draws, draw
from ddpp_jax.methods.matching import as_they_are, cut_of
from ddpp_jax.methods.method import (
    Feed,
    Info,
    Method,
    Metric,
    all_finite,
    finite_or_same,
    on_device,
)
from ddpp_jax.methods.pixels import Trained, begin_trained, descend_trained, labels_of
from ddpp_jax.methods.real import Pool, draw_places, reading_pool
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

_OFF_ZERO = 1e-16
"""Under Adam's root, where a second moment of 0 would give its derivative no bound."""

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


class Inner(NamedTuple):
    """How networks are trained on the distilled images.

    Attributes:
        window: steps that are differentiated.
        horizon: steps of the longest training, the window among them.
        placement: where the window lies.
        rate: learning rate.
        adam: by Adam, or by plain SGD.
        batch: distilled images in a minibatch.
        augment_fn: applied to every minibatch, distilled and real.
    """

    window: int
    horizon: int
    placement: Placement
    rate: float
    adam: bool
    batch: int
    augment_fn: AugmentFn = as_they_are


class Window(NamedTuple):
    """A network where the window of its training begins.

    Attributes:
        params: of the network.
        opt_state: of what trains it.
        first: the step at which the window begins.
    """

    params: Params
    opt_state: OptState
    first: Int[Array, ""]


def unroll_truncated(
    network: Network,
    feed_fn: Callable[[int, int], Feed],
    *,
    pool: Pool,
    target_batch: int,
    optimizer: optax.GradientTransformation,
    inner: Inner,
    learns_labels: bool = False,
    operations: float = 0.0,
) -> Method:
    """The method of training a fresh network on the set and descending its loss on real images.

    Each step initialises a network, trains it on the distilled images up to a window, unrolls the
    window, and descends the cross-entropy of real images of every class after it. The gradient is
    exact within the window and none flows from before it. Its length is cut at twice its running
    mean.

    Args:
        network: the architecture.
        feed_fn: `feed_fn(seed, done)`, the training set.
        pool: its shapes.
        target_batch: real images of each class in a step; no more than the smallest has.
        optimizer: of pixels and labels, without their rates: `optax.scale_by_adam()` as published.
        inner: how networks are trained on the distilled images.
        learns_labels: train the labels too, as probabilities.
        operations: of a forward pass of one image, floating-point; 0 where nobody asks.
    """
    classes = pool.counts.shape[0]

    def init(key: PRNGKey, start: DistilledSet) -> UnrolledState:
        del key  # The images to start from are drawn already.
        images = jnp.asarray(start.images)
        labels = jnp.asarray(start.labels)
        trained = begin_trained(images, labels, classes if learns_labels else None)
        opt_state = optimizer.init(cast(optax.Params, trained))
        numbers = (jnp.asarray(start.alpha, images.dtype), jnp.zeros((), images.dtype))
        return UnrolledState(trained, labels, numbers[0], opt_state, numbers[1])

    def step(
        key: PRNGKey, state: UnrolledState, pool: Pool, hparams: UnrolledHParams
    ) -> tuple[UnrolledState, Info]:
        places = draw_places(named_key(key, "real images"), pool, target_batch).reshape(-1)
        targets = jnp.repeat(jnp.arange(classes), target_batch)
        real = inner.augment_fn(named_key(key, "augment real"), pool.images[places])
        draws = draw(
            named_key(key, "distilled images"),
            images=len(state.labels),
            steps=inner.horizon,
            batch=inner.batch,
        )
        labels = labels_of(lax.stop_gradient(state.trained), state.labels)
        window = begin_window(
            key, state.trained.images, labels, draws, network=network, inner=inner
        )

        def loss_fn(trained: Trained) -> tuple[Scalar, Scalar]:
            labels = labels_of(trained, state.labels)
            params = through_window(
                trained.images, labels, window, draws, network=network, inner=inner
            )
            return evaluated(network, params, real, targets)

        (loss, right), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.trained)
        norm = length(gradient.images)
        usual = jnp.where(
            state.usual_norm == 0, norm, _KEPT_OF_NORM * (state.usual_norm - norm) + norm
        )
        shorter = jnp.minimum(1, _CLIPPED_AT * usual / jnp.where(norm > 0, norm, 1))
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

    def distilled(state: UnrolledState) -> DistilledSet:
        labels = labels_of(state.trained, state.labels)
        return on_device(state.trained.images, labels, state.alpha)

    before = inner.horizon - inner.window
    passes = 3 * before * (0.5 if inner.placement == "random" else 1)
    passes += 3 * inner.horizon if inner.placement == "adaptive" else 0
    passes += _DIFFERENTIATED * inner.window
    kept = (3 if inner.adam else 1) * inner.window * network.num_params
    method = Method(
        init,
        step,
        feed_fn,
        distilled,
        batch=pool,
        metrics=METRICS,
        advice="lower --pixel-rate or --network-rate",
        operations=operations * (passes * inner.batch + 3 * classes * target_batch),
        least_memory=kept,
        held=f"a window of {inner.window} steps of {network.num_params:,} parameters",
        remedy="lower --window, --width or --per-class",
    )
    return reading_pool(method)


def begin_window(
    key: PRNGKey,
    images: Images,
    labels: Targets,
    draws: Draws,
    *,
    network: Network,
    inner: Inner,
) -> Window:
    """A network trained on the distilled images up to the window.

    It is a constant to differentiation.

    Args:
        key: of the step.
        images: the distilled ones.
        labels: of them.
        draws: minibatches and augmentation of the whole training.
        network: the architecture.
        inner: how it is trained.
    """
    images, labels = lax.stop_gradient((images, labels))
    params = network.init_fn(named_key(key, "network"))
    optimizer, cut = optimizer_of(inner), cut_of(network, inner.batch)
    latest = inner.horizon - inner.window
    begun = Window(params, optimizer.init(params), jnp.int32(latest))

    def turn(now: Window, index: Array) -> tuple[Window, Scalar]:
        x = (draws.batches[index], draws.augment_keys[index])
        batch = minibatch(images, labels, x, inner=inner)
        _, gradient = value_and_gradient(partial(loss_of, network), now.params, batch, parts=cut)
        updates, opt_state = optimizer.update(gradient, now.opt_state, now.params)
        params = optax.apply_updates(now.params, updates)
        return now._replace(params=params, opt_state=opt_state), length(gradient)

    place = named_key(key, "window")
    if inner.placement == "random":
        begun = begun._replace(first=jax.random.randint(place, (), 0, latest + 1, jnp.int32))
    if inner.placement == "adaptive":
        _, norms = lax.scan(turn, begun, jnp.arange(inner.horizon))
        drawn = jax.random.categorical(place, norms).astype(jnp.int32)
        begun = begun._replace(first=jnp.minimum(drawn, latest))
    return lax.fori_loop(0, begun.first, lambda index, now: turn(now, index)[0], begun)


def through_window(
    images: Images,
    labels: Targets,
    window: Window,
    draws: Draws,
    *,
    network: Network,
    inner: Inner,
    remat: bool = True,
) -> Params:
    """The network after the window, differentiable in images and labels.

    Args:
        images: the distilled ones.
        labels: of them.
        window: the network where it begins.
        draws: minibatches and augmentation of the whole training.
        network: the architecture.
        inner: how it is trained.
        remat: False for plain autodiff, which stores the activations of all steps.
    """
    xs = jax.tree.map(
        lambda rows: lax.dynamic_slice_in_dim(rows, window.first, inner.window),
        (draws.batches, draws.augment_keys),
    )
    # It goes on with the state that it had where the window begins.
    optimizer = optimizer_of(inner)._replace(init=lambda _: window.opt_state)
    ended, _ = unroll(
        partial(loss_of, network),
        window.params,
        xs,
        lr=inner.rate,
        batch_fn=lambda x: minibatch(images, labels, x, inner=inner),
        optimizer_fn=(lambda _: optimizer) if inner.adam else None,
        parts=cut_of(network, inner.batch),
        remat=remat,
    )
    return ended


def optimizer_of(inner: Inner) -> optax.GradientTransformation:
    """What trains networks on the distilled images: Adam, differentiable at 0, or plain SGD."""
    return optax.adam(inner.rate, eps_root=_OFF_ZERO) if inner.adam else optax.sgd(inner.rate)


def minibatch(
    images: Float[Array, "distilled height width channels"],
    labels: Int[Array, " distilled"] | Float[Array, "distilled _classes"],
    x: tuple[Array, PRNGKey],
    *,
    inner: Inner,
) -> tuple[Images, Targets]:
    """The images and labels of a step, by their places and the key of the augmentation."""
    places, key = x
    with jax.named_scope("augmentation"):
        return inner.augment_fn(key, images[places]), labels[places]


def loss_of(network: Network, params: Params, batch: tuple[Images, Targets]) -> Scalar:
    """The mean cross-entropy of a minibatch."""
    images, targets = batch
    return cross_entropy(network.apply_fn(params, images), targets).mean()


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
