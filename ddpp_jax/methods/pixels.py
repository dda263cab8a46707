"""What methods that train pixels alone have in common: labels and the learning rate stay."""

from collections.abc import Callable
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from ddpp_jax._types import AugmentFn, Images, OptState, PRNGKey, Scalar, ScalarLike, Targets
from ddpp_jax.methods.matching import as_they_are
from ddpp_jax.methods.method import Info, all_finite, finite_or_same, on_device
from ddpp_jax.networks import Network
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import Training


class PixelState(NamedTuple):
    """What the next step needs; the labels and the learning rate stay as they are."""

    images: Images
    labels: Targets
    alpha: Scalar
    opt_state: OptState


class PixelHParams(NamedTuple):
    """What may differ between distillations in one program: the learning rate of the pixels."""

    pixel_rate: ScalarLike


def begin(
    optimizer: optax.GradientTransformation,
) -> Callable[[PRNGKey, DistilledSet], PixelState]:
    """`init` of a method whose optimiser trains the pixels."""

    def init(key: PRNGKey, start: DistilledSet) -> PixelState:
        del key  # The images to start from are drawn already.
        images = jnp.asarray(start.images)
        alpha = jnp.asarray(start.alpha, images.dtype)
        return PixelState(images, jnp.asarray(start.labels), alpha, optimizer.init(images))

    return init


def descend(
    state: PixelState,
    gradient: Images,
    rate: ScalarLike,
    optimizer: optax.GradientTransformation,
) -> PixelState:
    """The state after a step of the optimiser.

    Args:
        state: before the step.
        gradient: of the loss in the pixels.
        rate: the learning rate.
        optimizer: without its rate.
    """
    velocity, opt_state = optimizer.update(gradient, state.opt_state)
    images = state.images - rate * cast(Images, velocity)
    return state._replace(images=images, opt_state=opt_state)


def told_by_class(
    state: PixelState, updated: PixelState, by_class: Float[Array, " classes"]
) -> tuple[PixelState, Info]:
    """What a step gives whose loss is a sum over classes; the state as it was if not finite.

    Args:
        state: before the step.
        updated: after it.
        by_class: the loss of each class.
    """
    finite = all_finite(by_class, updated.images)
    names = {str(label): loss for label, loss in enumerate(by_class)}
    metrics = {"loss": by_class.sum(), "loss_by_class": names}
    return finite_or_same(finite, updated, state), Info(metrics, ~finite)


def network_training(
    network: Network, rate: float, batch: int, augment_fn: AugmentFn | None
) -> Training:
    """How a network is trained on distilled images between their updates: by plain SGD.

    Args:
        network: the architecture.
        rate: learning rate of the network.
        batch: distilled images in a minibatch.
        augment_fn: applied to each; None augments nothing.
    """
    return Training(
        network.apply_fn, optax.sgd(rate), batch, augment_fn or as_they_are, network.parts
    )


def distilled(state: PixelState) -> DistilledSet:
    """The set of a state."""
    return on_device(state.images, state.labels, state.alpha)


class Trained(NamedTuple):
    """What is trained: the images and, where they are learned, the probabilities of classes."""

    images: Images
    labels: Float[Array, "images classes"] | None


def begin_trained(start: DistilledSet, classes: int | None) -> tuple[Trained, Array, Scalar]:
    """What is trained, where labels are learned those as probabilities; the labels; and alpha.

    Args:
        start: the set to start from.
        classes: how many there are; None where labels are not learned.
    """
    images, labels = jnp.asarray(start.images), jnp.asarray(start.labels)
    alpha = jnp.asarray(start.alpha, images.dtype)
    if classes is None:
        return Trained(images, None), labels, alpha
    learned = jax.nn.one_hot(labels, classes, dtype=images.dtype)
    return Trained(images, learned), labels, alpha


def trained_set(trained: Trained, labels: Targets, alpha: Scalar) -> DistilledSet:
    """The set of what is trained.

    Args:
        trained: images and maybe labels.
        labels: those that the images began with.
        alpha: the learning rate that goes with them.
    """
    return on_device(trained.images, labels_of(trained, labels), alpha)


def labels_of(trained: Trained, labels: Targets) -> Targets:
    """The labels of the images: those that are learned, or else those that they began with."""
    return labels if trained.labels is None else trained.labels


def descend_trained(
    trained: Trained, velocity: Trained, pixel_rate: ScalarLike, label_rate: ScalarLike
) -> Trained:
    """Images and labels after a step of their optimiser; labels stay probabilities.

    Args:
        trained: before it.
        velocity: what the optimiser made of the gradient.
        pixel_rate: learning rate of the pixels.
        label_rate: learning rate of the labels.
    """
    images = trained.images - pixel_rate * velocity.images
    if trained.labels is None or velocity.labels is None:
        return Trained(images, None)
    labels = trained.labels - label_rate * velocity.labels
    return Trained(images, jax.vmap(optax.projections.projection_simplex)(labels))
