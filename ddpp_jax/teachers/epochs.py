"""An epoch of several teachers: on images that the device holds, or on such as are streamed."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Bool, Int, Shaped

from ddpp_jax._types import (
    Images,
    Labels,
    OptState,
    Params,
    PRNGKey,
    PRNGKeys,
    Scalar,
)
from ddpp_jax.configs import TeachConfig, TeachersJob
from ddpp_jax.core import augment, named_key
from ddpp_jax.data import Dataset, Numbers, Stored, balanced, normalise, read_ahead
from ddpp_jax.networks import Network
from ddpp_jax.training import (
    Order,
    Sharpness,
    Training,
    epoch_order,
    everywhere,
    has_here,
    over_members,
    sgd_step,
    train_epoch,
)

_BYTES_A_CALL = 2**22
"""Of the images that several teachers are given at a time, where these are streamed."""


class How(NamedTuple):
    """How teachers are trained.

    Attributes:
        network: the architecture.
        optimizer: of its parameters, with the learning rate.
        batch_size: images in a minibatch.
        operations: of the augmentation.
        sharpness: of steps towards flat minima; None for plain SGD.
    """

    network: Network
    optimizer: optax.GradientTransformation
    batch_size: int
    operations: tuple[str, ...]
    sharpness: Sharpness | None = None

    @property
    def training(self) -> Training:
        """The same, as it is put to an epoch."""
        return Training(
            self.network.apply_fn,
            self.optimizer,
            self.batch_size,
            augment_fn=partial(augment, operations=self.operations),
            parts_fn=self.network.parts,
            sharpness=self.sharpness,
        )


class State(NamedTuple):
    """What the next epoch needs."""

    params: Params
    opt_state: OptState


class Info(NamedTuple):
    """What a person wants to see of an epoch: the mean training loss, in nats."""

    loss: Scalar


EpochFn: TypeAlias = Callable[[PRNGKeys, State, int], tuple[PRNGKeys, State, Info]]
"""`advance(keys, states, epoch)`: several teachers after their next epoch."""


def init(key: PRNGKey, *, network: Network, optimizer: optax.GradientTransformation) -> State:
    """A freshly initialised teacher."""
    params = network.init_fn(key)
    return State(params, optimizer.init(params))


def step(
    key: PRNGKey, state: State, images: Images, labels: Labels, training: Training
) -> tuple[State, Info]:
    """The teacher after one epoch.

    Args:
        key: this epoch's own.
        state: the teacher before it.
        images: the real training set, on the device.
        labels: one for each image.
        training: the network, its optimiser, the minibatches and the augmentation.
    """
    *after, loss = train_epoch(key, state.params, state.opt_state, images, labels, training)
    return State(*after), Info(loss)


def epochs_of(
    config: TeachersJob,
    dataset: Dataset,
    network: Network,
    optimizer: optax.GradientTransformation,
) -> EpochFn:
    """What takes several teachers through an epoch of the real data.

    Images that are read when they are asked for go to the device as they came, minibatch by
    minibatch, and the next ones are read meanwhile. Orders, draws and results are those of images
    in memory: to the bit for eight-bit pixels that are normalised per channel, where the compiler
    rounds alike, and otherwise to rounding.

    Args:
        config: how the teachers are trained.
        dataset: the real data.
        network: the architecture.
        optimizer: of the teachers.
    """
    teaching = config.teaching
    shown = balanced(dataset) if teaching.balance else dataset
    how = How(
        network,
        optimizer,
        teaching.teacher_batch,
        config.data.operations,
        sharpness_of(teaching),
    )
    if isinstance(shown.x_train, Stored):
        return partial(_streamed_epoch, shown.x_train, shown.y_train, how)
    images, labels = everywhere((shown.x_train, shown.y_train))

    def advance(keys: PRNGKeys, states: State, epoch: int) -> tuple[PRNGKeys, State, Info]:
        members = (keys, states, Info(jnp.zeros(len(keys), jnp.float32)))
        return advance_all(members, [(jnp.asarray(epoch), images, labels)], how)

    return advance


def sharpness_of(teaching: TeachConfig) -> Sharpness | None:
    """How steps of the teachers look for flat minima; None for plain SGD."""
    if teaching.teacher_optimizer == "sgd":
        return None
    alpha = teaching.gsam_alpha if teaching.teacher_optimizer == "gsam" else 0.0
    return Sharpness(teaching.sam_rho, alpha, teaching.sam_adaptive)


@partial(jax.jit, static_argnums=(1, 2))
def begin_all(keys: PRNGKeys, network: Network, optimizer: optax.GradientTransformation) -> State:
    """Freshly initialised teachers, one for each key."""
    return jax.vmap(lambda key: init(named_key(key, "init"), network=network, optimizer=optimizer))(
        keys
    )


@over_members
def advance_all(
    member: tuple[PRNGKey, State, Info],
    piece: tuple[Int[Array, ""], Images, Labels],
    how: How,
) -> tuple[PRNGKey, State, Info]:
    """A teacher after an epoch on images that the device holds."""
    key, state, _ = member
    epoch, images, labels = piece
    return key, *step(_epoch_key(key, epoch), state, images, labels, how.training)


class _Minibatches(NamedTuple):
    """Some minibatches of an epoch, as they are sent to the device.

    Attributes:
        pixels: of each.
        labels: of each image.
        real: whether each image counts.
    """

    pixels: Shaped[Array | np.ndarray, "*rows size height width channels"]
    labels: Int[Array | np.ndarray, "*rows size"]
    real: Bool[Array | np.ndarray, "*rows size"]


class _Piece(NamedTuple):
    """Which minibatches of an epoch they are, and what makes their images ready.

    Attributes:
        epoch: its number.
        low: of the first minibatch.
        rows: how many there are, without those that fill up.
        numbers: what normalises their images.
    """

    epoch: Int[Array, ""]
    low: Int[Array, ""]
    rows: Int[Array, ""]
    numbers: Numbers


def _streamed_epoch(
    images: Stored,
    labels: Int[np.ndarray, " images"],
    how: How,
    keys: PRNGKeys,
    states: State,
    epoch: int,
) -> tuple[PRNGKeys, State, Info]:
    """Several teachers after an epoch, each on the images in its own order."""
    number = jnp.int32(epoch)
    order = jax.tree.map(np.asarray, _orders(keys, number, len(images), how.batch_size))
    members, steps, size = order.places.shape
    image = images.itemsize * int(np.prod(images.image_shape))
    rows = max(1, min(steps, _BYTES_A_CALL // (members * size * image)))
    here, numbers = has_here(members), everywhere(images.numbers())

    def feed(teachers: Int[np.ndarray, " teachers"]) -> Iterator[tuple[_Minibatches, _Piece]]:
        """The minibatches of some teachers, padded to as many as all calls have."""

        def read(low: int) -> tuple[_Minibatches, _Piece]:
            high = min(low + rows, steps)
            padding = ((0, 0), (0, rows - (high - low)), (0, 0))
            places = np.pad(order.places[teachers, low:high], padding)
            real = np.pad(order.real[teachers, low:high], padding)
            pixels = np.zeros((*places.shape, *images.image_shape), images.pixel)
            for row, teacher in enumerate(teachers.tolist()):
                if here[teacher]:  # Others are read by the processes that have them.
                    own = places[row, : high - low]
                    found = images.for_device(own.reshape(-1))
                    pixels[row, : high - low] = found.reshape(*own.shape, *images.image_shape)
            piece = _Piece(number, jnp.int32(low), jnp.int32(high - low), numbers)
            return _Minibatches(pixels, labels[places], real), piece

        return read_ahead(read, range(0, steps, rows))

    begun = (keys, states, jnp.zeros(members, jnp.float32))
    keys, states, losses = _advance_streamed(begun, (), how, feed_fn=feed)
    return keys, states, Info(losses / len(images))


@partial(over_members, donate=False)
def _advance_streamed(
    fed: tuple[tuple[PRNGKey, State, Scalar], _Minibatches], piece: _Piece, how: How
) -> tuple[PRNGKey, State, Scalar]:
    """A teacher after some minibatches, and the sum of the losses of the epoch's images so far."""
    (key, state, total), minibatches = fed
    training = how.training
    size = minibatches.labels.shape[1]
    # The order itself is not needed here, and is not computed.
    _, augment_key = epoch_order(_epoch_key(key, piece.epoch), size, size)

    def advance(
        row: Int[Array, ""], carry: tuple[Params, OptState, Scalar]
    ) -> tuple[Params, OptState, Scalar]:
        params, opt_state, total = carry
        pixels, labels, real = jax.tree.map(lambda leaf: leaf[row], minibatches)
        images = normalise(piece.numbers, pixels)
        inputs = training.augment_fn(jax.random.fold_in(augment_key, piece.low + row), images)
        minibatch = (inputs, labels, real.astype(images.dtype))
        params, opt_state, loss = sgd_step(params, opt_state, minibatch, training)
        return params, opt_state, total + loss

    begun = (state.params, state.opt_state, total)
    params, opt_state, total = lax.fori_loop(0, piece.rows, advance, begun)
    return key, State(params, opt_state), total


@partial(jax.jit, static_argnums=(2, 3))
def _orders(keys: PRNGKeys, epoch: Int[Array, ""], count: int, batch_size: int) -> Order:
    """The minibatches of an epoch, of each teacher."""
    return jax.vmap(lambda key: epoch_order(_epoch_key(key, epoch), count, batch_size)[0])(keys)


def _epoch_key(key: PRNGKey, epoch: Int[Array, ""]) -> PRNGKey:
    return jax.random.fold_in(named_key(key, "epochs"), epoch)
