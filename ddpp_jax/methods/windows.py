"""Networks trained on distilled images, of whose training a window is differentiated."""

from functools import partial
from typing import NamedTuple

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
    Targets,
)
from ddpp_jax.core import named_key, unroll, value_and_gradient
from ddpp_jax.methods.draws import Draws
from ddpp_jax.methods.matching import as_they_are, cut_of
from ddpp_jax.networks import Network
from ddpp_jax.training import cross_entropy, length

_OFF_ZERO = 1e-16
"""Under Adam's root, where a second moment of 0 would give its derivative no bound."""


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
