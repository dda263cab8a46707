"""Kernel inducing points: KIP (Nguyen, Chen and Lee, ICLR 2021; Nguyen et al., NeurIPS 2021)."""

from functools import partial
from typing import NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import Images, MapFn, OptState, PRNGKey, Scalar, Targets
from ddpp_jax.core import named_key
from ddpp_jax.methods.method import Info, Method, Metric, all_finite, finite_or_same
from ddpp_jax.methods.pixels import (
    PixelHParams,
    Trained,
    begin_trained,
    descend_trained,
    labels_of,
    trained_set,
)
from ddpp_jax.methods.real import Pool, RealSource, draw_places, reading_pool
from ddpp_jax.networks import Infinite, Variances, among, between
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import map_over

METRICS = (
    Metric("loss", "half the mean squared error of the kernel regression"),
    Metric("target_accuracy", "accuracy of the kernel regression on real images"),
)

_TILE_BYTES = {"cpu": 2**20}
_TILE_BYTES_ELSEWHERE = 2**27
"""What the largest covariance of all pairs that are worked on at once may take."""

_HELD = 12
"""Arrays as large as that which the gradient of a pair holds, about."""

_OPERATIONS = 400
"""Floating-point operations for an entry of the largest covariance, with its gradient, about."""

Values: TypeAlias = Float[Array, "images classes"]
"""What a regression is to give for each image: 1 for its class, less the mean."""


class KernelState(NamedTuple):
    """What the next step needs."""

    trained: Trained
    labels: Int[Array, " images"]
    alpha: Scalar
    opt_state: OptState


class _Setting(NamedTuple):
    """What is the same in all steps; see `induce_points`."""

    network: Infinite
    target_batch: int
    optimizer: optax.GradientTransformation
    ridge: float


def induce_points(
    network: Infinite,
    source: RealSource,
    *,
    optimizer: optax.GradientTransformation,
    ridge: float = 1e-6,
    learns_labels: bool = False,
) -> Method:
    """The method of kernel regression from the distilled images to real ones.

    Each step draws real images of each class, predicts their labels by ridge regression on the
    distilled set with the neural tangent kernel, and descends half the mean squared error. Several
    devices have some pairs of images each.

    Args:
        network: the infinitely wide network whose kernel it is.
        source: of real images, whose labels are predicted.
        optimizer: of the pixels, without its rate: `optax.scale_by_adam()` as published.
        ridge: what is added to the kernel's diagonal, as a share of its mean.
        learns_labels: train the labels too. They are kept probabilities, which KIP's own need not
            be.
    """
    setting = _Setting(network, source.batch, optimizer, ridge)
    classes, side = source.classes, source.pool.images.shape[1]

    def init(key: PRNGKey, start: DistilledSet) -> KernelState:
        del key  # The images to start from are drawn already.
        trained, labels, alpha = begin_trained(start, classes if learns_labels else None)
        return KernelState(trained, labels, alpha, optimizer.init(cast(optax.Params, trained)))

    images = classes * source.work.ipc
    pairs = classes * source.batch * images + images * (images + 1) // 2
    entries = network.entries(side)
    method = Method(
        init,
        partial(_step, setting),
        source.feed_fn,
        lambda state: trained_set(state.trained, state.labels, state.alpha),
        batch=source.pool,
        metrics=METRICS,
        advice="lower --pixel-rate, or give a larger --ridge",
        operations=float(_OPERATIONS * pairs * entries),
        least_memory=_HELD * entries,
        held=f"the training set, and the covariance of a pair of {side}x{side} images,",
        remedy="lower --depth, --image-size or --per-class",
    )
    return reading_pool(method)


def _step(
    setting: _Setting, key: PRNGKey, state: KernelState, pool: Pool, hparams: PixelHParams
) -> tuple[KernelState, Info]:
    """The state after a step, or as it was where that is not finite."""
    network, target_batch, optimizer, ridge = setting
    classes = pool.counts.shape[0]
    places = draw_places(named_key(key, "real images"), pool, target_batch)
    targets = jnp.repeat(jnp.arange(classes), target_batch)
    real = pool.images[places.reshape(-1)]

    def loss_fn(trained: Trained) -> tuple[Scalar, Scalar]:
        labels = labels_of(trained, state.labels)
        wanted = centred_labels(labels, classes)
        fitted = fit(network, trained.images, wanted, ridge=ridge, map_fn=map_over)
        guess = predict(network, fitted, real, map_fn=map_over)
        right = (guess.argmax(axis=1) == targets).mean(dtype=jnp.float32)
        return jnp.square(guess - centred_labels(targets, classes)).mean() / 2, right

    (loss, right), gradient = jax.value_and_grad(loss_fn, has_aux=True)(state.trained)
    velocity, opt_state = optimizer.update(cast(optax.Updates, gradient), state.opt_state)
    rate = hparams.pixel_rate
    trained = descend_trained(state.trained, cast(Trained, velocity), rate, rate)
    finite = all_finite(loss, gradient, trained)
    updated = state._replace(trained=trained, opt_state=opt_state)
    metrics = {"loss": loss, "target_accuracy": right}
    return finite_or_same(finite, updated, state), Info(metrics, ~finite)


class Fitted(NamedTuple):
    """A kernel regression on some images.

    Attributes:
        images: that it was fitted to.
        variances: what pairs with them need of them.
        coefficients: by which their kernels with another image are weighed.
    """

    images: Images
    variances: Variances
    coefficients: Float[Array, "images classes"]


def fit(
    network: Infinite, images: Images, labels: Values, *, ridge: float, map_fn: MapFn = lax.map
) -> Fitted:
    """Ridge regression of labels on images: (K + ridge mean(diag K) I)^-1 labels.

    Args:
        network: whose neural tangent kernel K is.
        images: to learn from.
        labels: of those.
        ridge: what is added to the diagonal, as a share of its mean.
        map_fn: takes the pairs of images in turn.
    """
    own, of = among(network, images, tile=tile_of(network, images.shape[1]), map_fn=map_fn)
    return Fitted(images, of, coefficients(own.ntk, labels, ridge=ridge))


def predict(
    network: Infinite,
    fitted: Fitted,
    unknown: Float[Array, "unknown height width channels"],
    *,
    map_fn: MapFn = lax.map,
) -> Float[Array, "unknown classes"]:
    """What a regression predicts for other images.

    Args:
        network: that it was fitted with.
        fitted: the regression.
        unknown: what is predicted.
        map_fn: takes these in turn.
    """
    tile = tile_of(network, fitted.images.shape[1])
    others = between(network, unknown, fitted.images, fitted.variances, tile=tile, map_fn=map_fn)
    # Coefficients are large and of both signs: TF32 would lose what is left of their sum.
    return jnp.matmul(others.ntk, fitted.coefficients, precision="highest")


def coefficients(
    own: Float[Array, "images images"],
    labels: Float[Array, "images classes"],
    *,
    ridge: float,
) -> Float[Array, "images classes"]:
    """(own + ridge mean(diag own) I)^-1 labels.

    Args:
        own: kernel of the images that are learned from.
        labels: of those.
        ridge: as a share of the mean of the diagonal.
    """
    shift = jnp.abs(ridge) * jnp.trace(own) / len(own)
    regular = own + shift * jnp.eye(len(own), dtype=own.dtype)
    return jax.scipy.linalg.solve(regular, labels, assume_a="pos")


def centred_labels(labels: Targets, classes: int) -> Values:
    """Labels as a regression takes them: one-hot, or probabilities, less their mean.

    Args:
        labels: a class for each image, or a row with the probability of each class.
        classes: how many there are.
    """
    rows = jax.nn.one_hot(labels, classes) if labels.ndim == 1 else labels
    return rows - 1 / classes


def tile_of(network: Infinite, side: int) -> int:
    """How many pairs of images are worked on at once for the default backend."""
    most = _TILE_BYTES.get(jax.default_backend(), _TILE_BYTES_ELSEWHERE)
    return max(1, most // (4 * network.entries(side)))
