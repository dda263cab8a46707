"""Distribution matching: DM (Zhao and Bilen, WACV 2023)."""

from collections.abc import Callable

import jax.numpy as jnp
import optax
from jax import lax
from jaxtyping import Array, Float

from ddpp_jax._types import AugmentFn, Images, PRNGKey, Scalar
from ddpp_jax.core import named_key
from ddpp_jax.methods.method import Info, Method, Metric
from ddpp_jax.methods.pixels import (
    PixelHParams,
    PixelState,
    begin,
    descend,
    distilled,
    told_by_class,
)
from ddpp_jax.methods.real import (
    Pool,
    Real,
    RealSource,
    mean_in_parts,
    over_classes,
    reading_pool,
    same_for_all,
)
from ddpp_jax.networks import Network

METRICS = (
    Metric("loss", "squared distance of the class means, summed over classes"),
    Metric("loss_by_class", "squared distance of the means of each class"),
)

_TRAINING = 3
"""Passes over a network that the gradient in a distilled image takes."""


def match_distributions(
    network: Network,
    source: RealSource,
    *,
    optimizer: optax.GradientTransformation,
    augment_fn: AugmentFn,
) -> Method:
    """The method of matching the mean features of each class in random networks.

    Each step draws a network at random, which is never trained, and for each class one augmentation
    with one strength, for all of its real and of its distilled images.

    Args:
        network: the architecture.
        source: of real images.
        optimizer: of the pixels, without its rate: `optax.trace(0.5)` as published.
        augment_fn: applied to the images of a class, one by one with the same key.
    """

    def step(
        key: PRNGKey, state: PixelState, pool: Pool, hparams: PixelHParams
    ) -> tuple[PixelState, Info]:
        params = network.init_fn(named_key(key, "network"))

        def distance(_: Array, key: Array, real: Real, own: Images) -> Scalar:
            return class_distance(
                same_for_all(augment_fn, key, real),
                same_for_all(augment_fn, key, own),
                features_fn=lambda images: network.features_fn(params, images),
                parts=network.parts(source.batch),
            )

        by_class, gradient = over_classes(distance, key, pool, state.images, batch=source.batch)
        updated = descend(state, gradient, hparams.pixel_rate, optimizer)
        return told_by_class(state, updated, by_class)

    work = source.work
    method = Method(
        begin(optimizer),
        step,
        source.feed_fn,
        distilled,
        batch=source.pool,
        metrics=METRICS,
        advice="lower --pixel-rate",
        held="the training set on the device",
        operations=work.image * source.classes * (source.batch + _TRAINING * work.ipc),
    )
    return reading_pool(method)


def class_distance(
    real: Real,
    own: Images,
    *,
    features_fn: Callable[[Array], Float[Array, "_images features"]],
    parts: int = 1,
) -> Scalar:
    """|mean features of real images - mean features of distilled images|^2 of a class.

    The real side is a constant to differentiation.

    Args:
        real: its real images, augmented.
        own: its distilled images, augmented.
        features_fn: `features_fn(images)`, a row for each image.
        parts: into how many parts the real images are cut, one after another.
    """
    theirs, _ = mean_in_parts(lambda images: (features_fn(images), None), real, parts)
    return jnp.square(lax.stop_gradient(theirs) - features_fn(own).mean(axis=0)).sum()
