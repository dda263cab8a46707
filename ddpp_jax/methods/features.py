"""The loss of feature alignment (CAFE: Wang et al., CVPR 2022), and its gradient in the pixels."""

from typing import TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from ddpp_jax._types import AugmentFn, Images, Params, PRNGKey, Scalar
from ddpp_jax.core import named_key
from ddpp_jax.methods.real import Pool, draw_places, mean_in_parts, same_for_all
from ddpp_jax.networks import Network
from ddpp_jax.training import cross_entropy, map_over

FIRST_BLOCKS = 0.1
LAST_BLOCK = 1.0
FLAT = 2.0
DISCRIMINATION = 0.01
"""The published weights. The features of the last pooling count twice: as they are, and flat."""

Means: TypeAlias = tuple[Float[Array, "..."], ...]
"""The mean of each kind of features over the images of a class; or of each class, stacked."""


def gradient_of(
    key: PRNGKey,
    params: Params,
    images: Images,
    pool: Pool,
    network: Network,
    *,
    batch: int,
    augment_fn: AugmentFn | None,
) -> tuple[Images, tuple[Scalar, Scalar, Scalar]]:
    """The gradient in the pixels, and the loss with its two terms.

    Classes are taken in turn, so that activations are held for one of them alone: first all class
    means, then the gradient of the loss in them, then its way back through each class. Several
    devices have some classes each.

    Args:
        key: of all draws.
        params: of the network.
        images: the distilled set, class by class, as many of each.
        pool: the training set.
        network: the architecture.
        batch: real images of each class.
        augment_fn: as for `align_features`.
    """
    places = draw_places(named_key(key, "real images"), pool, batch)
    classes = len(places)
    keys = jax.random.split(named_key(key, "augment"), classes)
    own = images.reshape(classes, -1, *images.shape[1:])

    def augmented(key: PRNGKey, images: Images) -> Images:
        return images if augment_fn is None else same_for_all(augment_fn, key, images)

    def of_part(images: Images) -> tuple[tuple[Array, ...], Array]:
        found = network.blocks_fn(params, images)
        return found, found[-1]

    def of_real(x: tuple[PRNGKey, Array]) -> tuple[Means, Array]:
        key, there = x
        return mean_in_parts(of_part, augmented(key, pool.images[there]), network.parts(batch))

    def of_own(x: tuple[PRNGKey, Images]) -> Means:
        found = network.blocks_fn(params, augmented(*x))
        return jax.tree.map(lambda features: features.mean(axis=0), found)

    real, rows = map_over(of_real, (keys, places))
    means = map_over(of_own, (keys, own))
    (total, terms), slopes = jax.value_and_grad(loss, has_aux=True)(means, real, rows)

    def back(x: tuple[PRNGKey, Images, Means]) -> Images:
        key, images, slope = x
        _, pull = jax.vjp(lambda images: of_own((key, images)), images)
        return pull(slope)[0]

    gradient = map_over(back, (keys, own, slopes)).reshape(images.shape)
    return gradient, (total, *terms)


def loss(
    own: Means, real: Means, rows: Float[Array, "classes batch features"]
) -> tuple[Scalar, tuple[Scalar, Scalar]]:
    """What is descended, and its two terms before weighing the second.

    Args:
        own: class means of the distilled images' features: those of each block, and the flat ones.
        real: those of the real images.
        rows: the flat features of each real image.
    """
    apart = [jnp.square(a - b).sum() for a, b in zip(real, own, strict=True)]
    alignment = jnp.stack(
        [weight * term for weight, term in zip(weights(len(apart)), apart, strict=True)]
    ).sum()
    scores = rows.reshape(-1, rows.shape[-1]) @ own[-1].T
    labels = jnp.repeat(jnp.arange(rows.shape[0]), rows.shape[1])
    discrimination = cross_entropy(scores, labels).sum()
    return alignment + DISCRIMINATION * discrimination, (alignment, discrimination)


def weights(kinds: int) -> tuple[float, ...]:
    """The weight of each kind of features; for three blocks 0.1, 0.1, 1, and 2 of the flat ones."""
    return (*[FIRST_BLOCKS] * (kinds - 2), LAST_BLOCK, FLAT)
