"""Distribution matching: DM (Zhao and Bilen, WACV 2023)."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import (
    AugmentFn,
    FloatArray,
    Images,
    OptState,
    PRNGKey,
    Scalar,
    ScalarLike,
    Targets,
)
from ddpp_jax.core import named_key
from ddpp_jax.methods.method import (
    Feed,
    Info,
    Method,
    Metric,
    all_finite,
    finite_or_same,
    on_device,
    steps_key,
)
from ddpp_jax.networks import Network
from ddpp_jax.sets import DistilledSet

METRICS = (
    Metric("loss", "squared distance of the class means, summed over classes"),
    Metric("loss_by_class", "squared distance of the means of each class"),
)

Real: TypeAlias = Float[Array, "classes batch height width channels"]
"""Real images of each class."""


class State(NamedTuple):
    """What the next step needs; the labels and the learning rate stay as they are."""

    images: Images
    labels: Targets
    alpha: Scalar
    opt_state: OptState


class DistributionHParams(NamedTuple):
    """What may differ between distillations in one program: the learning rate of the pixels."""

    pixel_rate: ScalarLike


def match_distributions(
    network: Network,
    feed_fn: Callable[[int, int], Feed],
    *,
    real: tuple[int, ...],
    optimizer: optax.GradientTransformation,
    augment_fn: AugmentFn,
    operations: float = 0.0,
) -> Method:
    """The method of matching the mean features of each class in random networks.

    Each step draws a network at random, which is never trained, and for each class one augmentation
    with one strength, for all of its real and of its distilled images.

    Args:
        network: the architecture.
        feed_fn: `feed_fn(seed, done)`, real images of each class for the steps after the first
            `done`.
        real: the shape of what a step reads: classes, images of each, height, width, channels.
        optimizer: of the pixels, without its rate: `optax.trace(0.5)` as published.
        augment_fn: applied to the images of a class, one by one with the same key.
        operations: of a forward pass of one image, floating-point; 0 where nobody asks.
    """

    def init(key: PRNGKey, start: DistilledSet) -> State:
        del key  # The images to start from are drawn already.
        images = jnp.asarray(start.images)
        alpha = jnp.asarray(start.alpha, images.dtype)
        return State(images, jnp.asarray(start.labels), alpha, optimizer.init(images))

    def step(
        key: PRNGKey, state: State, batch: Real, hparams: DistributionHParams
    ) -> tuple[State, Info]:
        params = network.init_fn(named_key(key, "network"))
        keys = jax.random.split(named_key(key, "augment"), batch.shape[0])
        by_class, pull = jax.vjp(
            lambda images: class_distances(
                images,
                batch,
                keys,
                features_fn=lambda x: network.features_fn(params, x),
                augment_fn=augment_fn,
            ),
            state.images,
        )
        (gradient,) = pull(jnp.ones_like(by_class))
        velocity, opt_state = optimizer.update(gradient, state.opt_state)
        images = state.images - hparams.pixel_rate * cast(Images, velocity)
        finite = all_finite(by_class, gradient, images)
        updated = state._replace(images=images, opt_state=opt_state)
        names = {str(label): distance for label, distance in enumerate(by_class)}
        metrics = {"loss": by_class.sum(), "loss_by_class": names}
        return finite_or_same(finite, updated, state), Info(metrics, ~finite)

    def distilled(state: State) -> DistilledSet:
        return on_device(state.images, state.labels, state.alpha)

    return Method(
        init,
        step,
        feed_fn,
        distilled,
        batch=jax.ShapeDtypeStruct(real, jnp.float32),
        metrics=METRICS,
        advice="lower --pixel-rate",
        operations=operations * real[0] * real[1],
    )


def class_distances(
    images: Images,
    real: Real,
    keys: Array,
    *,
    features_fn: Callable[[Images], Float[Array, "images features"]],
    augment_fn: AugmentFn,
) -> Float[Array, " classes"]:
    """For each class |mean features of real images - mean features of distilled images|^2.

    The classes are taken in turn, so that activations are held for one of them alone. The real side
    is a constant to differentiation.

    Args:
        images: the distilled set, class by class, as many of each.
        real: real images of each class.
        keys: one for each class; it decides the augmentation of both sides.
        features_fn: `features_fn(images)`, a row for each image.
        augment_fn: applied to one image at a time with the key of its class.
    """
    distilled = images.reshape(real.shape[0], -1, *images.shape[1:])

    def mean(key: Array, images: Images) -> Float[Array, " features"]:
        return features_fn(same_for_all(augment_fn, key, images)).mean(axis=0)

    def distance(of_class: tuple[Array, Array, Array]) -> Scalar:
        key, theirs, own = of_class
        return jnp.square(lax.stop_gradient(mean(key, theirs)) - mean(key, own)).sum()

    return lax.map(distance, (keys, real, distilled))


def same_for_all(augment_fn: AugmentFn, key: Array, images: Images) -> Images:
    """The images, each augmented by the same draws ("siamese", Zhao and Bilen, ICML 2021)."""
    return jax.vmap(lambda image: augment_fn(key, image[None])[0])(images)


class RealImages:
    """Real images of each class for every step, drawn by key and gathered on the device.

    No image of a class comes twice in a step. What is drawn depends on the seed and the step alone.
    """

    def __init__(
        self, seed: int, done: int, images: FloatArray, labels: np.ndarray, *, batch: int
    ) -> None:
        """Draw for the steps after the first `done`.

        Args:
            seed: of the distillation.
            done: how many steps are behind it.
            images: the real training set.
            labels: of its images, 0 to classes - 1.
            batch: images of each class; no more than the smallest has.
        """
        self.waited = 0.0
        self._key, self._next, self._batch = steps_key(seed), done, batch
        self._images = jnp.asarray(images)
        counts = np.bincount(labels)
        members = np.zeros((len(counts), counts.max()), np.int32)
        for label, count in enumerate(counts):
            members[label, :count] = np.flatnonzero(labels == label)
        self._members, self._counts = jnp.asarray(members), jnp.asarray(counts)

    def take(
        self, count: int, *, rows: int
    ) -> Float[Array, "steps classes batch height width channels"]:
        """Real images for the next `count` steps, padded to `rows`."""
        steps = jnp.arange(self._next, self._next + rows)
        self._next += count
        pools = (self._images, self._members, self._counts)
        return gathered(self._key, steps, *pools, batch=self._batch)

    def close(self) -> None:
        """Nothing is held."""


@partial(jax.jit, static_argnames="batch")
def gathered(
    key: PRNGKey,
    steps: Int[Array, " steps"],
    images: Float[Array, "images height width channels"],
    members: Int[Array, "classes most"],
    counts: Int[Array, " classes"],
    *,
    batch: int,
) -> Float[Array, "steps classes batch height width channels"]:
    """Real images of each class for some steps.

    Args:
        key: of all steps; each folds its own number in.
        steps: their numbers.
        images: the real training set.
        members: the places of each class's images in it, padded.
        counts: how many each class has.
        batch: images of each class.
    """

    def places(step: Int[Array, ""]) -> Int[Array, "classes batch"]:
        own = named_key(jax.random.fold_in(key, step), "real images")
        draws = jax.random.uniform(own, members.shape)
        there = jnp.arange(members.shape[1])[None] < counts[:, None]
        _, chosen = lax.top_k(jnp.where(there, draws, -1.0), batch)
        return jnp.take_along_axis(members, chosen, axis=1)

    return images[jax.vmap(places)(steps)]
