"""A network of the grid, trained on one set of images and tested."""

import math
import time
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax import lax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import (
    FloatArray,
    Images,
    IntArray,
    OptState,
    Params,
    Precision,
    PRNGKey,
    PRNGKeys,
    Scalar,
    Targets,
)
from ddpp_jax.configs import ACTIVATIONS
from ddpp_jax.core import augment, named_key
from ddpp_jax.evaluate import Tests, make_optimizer
from ddpp_jax.networks import Network, Statistics, pooled, switched
from ddpp_jax.search.architectures import Architecture, network_of
from ddpp_jax.training import Training, train_epoch

_TEST_BATCH = 500


class TrainingSet(NamedTuple):
    """Images to train on, and for how long.

    Attributes:
        name: what tables call it.
        images: as networks see them, on the device or not.
        labels: a class for each, or a row with the probability of each class.
        rate: the learning rate at first.
        epochs: passes over all images.
        steps: of SGD after these, fewer than a pass has.
    """

    name: str
    images: FloatArray
    labels: FloatArray | IntArray
    rate: float
    epochs: int
    steps: int = 0

    def total_steps(self, batch_size: int) -> int:
        """Steps of SGD in all, with minibatches of so many images."""
        return self.epochs * steps_of(len(self.labels), batch_size) + self.steps


class Manner(NamedTuple):
    """How every network of a grid is trained on every set.

    Attributes:
        shape: of the images: (height, width, channels).
        classes: how many there are.
        networks: initialisations of each network.
        batch_size: images in a minibatch.
        operations: of the augmentation (DSA).
        precision: of the networks' products.
    """

    shape: tuple[int, ...]
    classes: int
    networks: int = 1
    batch_size: int = 256
    operations: tuple[str, ...] = ()
    precision: Precision = "default"


class Fitted(NamedTuple):
    """A network after its training.

    Attributes:
        settled: parameters, and the statistics of its batch norms, of each initialisation, along a
            leading axis of every leaf: what `settled_fn` takes.
        seconds: that the training took, without compilation.
        compiling: seconds that compilation took; a program that is there already takes none.
        diverged: initialisations whose training loss was not finite at the end.
    """

    settled: tuple[Params, Statistics]
    seconds: float
    compiling: float
    diverged: int


class Trained(NamedTuple):
    """What became of a network on a set.

    Attributes:
        accuracies: of each initialisation, from 0 to 1, by the name of the test set.
        seconds: as of `Fitted`.
        compiling: likewise.
        diverged: likewise.
    """

    accuracies: dict[str, Float[np.ndarray, " networks"]]
    seconds: float
    compiling: float
    diverged: int


class _Plan(NamedTuple):
    """How long a program trains, which it is told when it runs."""

    epochs: Int[Array, ""]
    steps: Int[Array, ""]
    length: Int[Array, ""]


def steps_of(images: int, batch_size: int) -> int:
    """Steps of SGD in a pass over so many images."""
    return math.ceil(images / min(batch_size, images))


def stopped_early(full: TrainingSet, steps: int, batch_size: int, *, name: str) -> TrainingSet:
    """The full data for so many steps of SGD in all.

    The rate falls tenfold half way in these, as on other sets, where they make four epochs or more.

    Args:
        full: the data, whatever its own epochs are.
        steps: at least 1.
        batch_size: images in a minibatch.
        name: of the set that comes back.
    """
    epochs, more = divmod(steps, steps_of(len(full.labels), batch_size))
    return full._replace(name=name, epochs=epochs, steps=more)


def train(
    key: PRNGKey, architecture: Architecture, given: TrainingSet, tests: Tests, manner: Manner
) -> Trained:
    """What becomes of a network that is trained on a set from several initialisations.

    Args:
        key: decides the initialisations and all draws.
        architecture: of the grid.
        given: what it is trained on.
        tests: images and labels by name.
        manner: how it is trained.
    """
    fitted = fit(key, architecture, given, manner)
    images = jnp.concatenate([jnp.asarray(x, jnp.float32) for x, _ in tests.values()])
    place, program = _place(architecture), architecture.program
    guesses = np.asarray(_guess(fitted.settled, place, images, program=program, manner=manner))
    ends = np.cumsum([len(labels) for _, labels in tests.values()])
    accuracies = {
        name: (found == np.asarray(labels)[None, :]).mean(axis=1)
        for (name, (_, labels)), found in zip(
            tests.items(), np.split(guesses, ends, axis=1), strict=False
        )
    }
    return Trained(accuracies, fitted.seconds, fitted.compiling, fitted.diverged)


def fit(key: PRNGKey, architecture: Architecture, given: TrainingSet, manner: Manner) -> Fitted:
    """A network, trained on a set from several initialisations.

    The schedule is that of every evaluation (`evaluate.step`): SGD with momentum 0.9, weight decay
    5e-4, and a rate that falls tenfold half way. All epochs run in one compiled program. Batch
    norm takes the statistics of each minibatch in training. For the tests it takes those of the
    training set, worked out after training and without augmentation, in batches of the training's
    size (Wu and Johnson, arXiv 2105.07576); images that fill no batch equal to the others, fewer
    than there are batches, are left out of them.

    Args:
        key: decides the initialisations and all draws.
        architecture: of the grid.
        given: what it is trained on.
        manner: how it is trained.
    """
    soft = jnp.issubdtype(given.labels.dtype, jnp.floating)
    small = (
        jnp.asarray(given.images, jnp.float32),
        jnp.asarray(given.labels, jnp.float32 if soft else jnp.int32),
        jnp.asarray(given.rate, jnp.float32),
    )
    length = given.epochs + (given.steps > 0)
    plan = _Plan(*(jnp.int32(x) for x in (given.epochs, given.steps, length)))
    arguments = (jax.random.split(key, manner.networks), _place(architecture), small)
    run = partial(_fit, *arguments, program=architecture.program, manner=manner)
    began = time.perf_counter()
    # No step: that compiles, and comes to nothing.
    jax.block_until_ready(run(_Plan(*(jnp.int32(0) for _ in plan))))
    compiled = time.perf_counter()
    settled, losses = jax.block_until_ready(run(plan))
    seconds = time.perf_counter() - compiled
    diverged = int((~np.isfinite(np.asarray(losses))).sum())
    return Fitted(settled, seconds, compiled - began, diverged)


def _place(architecture: Architecture) -> Int[Array, ""]:
    return jnp.int32(ACTIVATIONS.index(architecture.activation))


def _network(program: Architecture, place: Int[Array, ""], manner: Manner) -> Network:
    """The network of a program that is told its activation when it runs."""
    return network_of(
        program,
        manner.shape,
        manner.classes,
        precision=manner.precision,
        activation=switched(place),
    )


def _each(fn: Any, members: Any) -> Any:
    """A function of every member: one after another on the CPU, elsewhere at once."""
    return lax.map(fn, members) if jax.default_backend() == "cpu" else jax.vmap(fn)(members)


@partial(jax.jit, static_argnames=("program", "manner"))
def _fit(
    keys: PRNGKeys,
    place: Int[Array, ""],
    small: tuple[Images, Targets, Scalar],
    plan: _Plan,
    *,
    program: Architecture,
    manner: Manner,
) -> tuple[tuple[Params, Statistics], Float[Array, " networks"]]:
    """Trained networks, one for each key, and the loss of their last epoch."""
    network = _network(program, place, manner)

    def one(key: PRNGKey) -> tuple[tuple[Params, Statistics], Scalar]:
        params = network.init_fn(named_key(key, "init"))
        begun = (params, make_optimizer(0.0).init(params), jnp.float32(0))

        def epoch(index: Int[Array, ""], carry: Any) -> Any:
            own = jax.random.fold_in(named_key(key, "epochs"), index)
            return _epoch(own, carry[0], carry[1], small, index, plan, network, manner)

        params, _, loss = lax.fori_loop(0, plan.length, epoch, begun)
        return (params, _statistics(network, params, small[0], manner.batch_size)), loss

    return _each(one, keys)


def _epoch(
    key: PRNGKey,
    params: Params,
    opt_state: OptState,
    small: tuple[Images, Targets, Scalar],
    index: Int[Array, ""],
    plan: _Plan,
    network: Network,
    manner: Manner,
) -> tuple[Params, OptState, Scalar]:
    """An epoch as `evaluate.step` makes it; the last may end before its last step."""
    images, labels, alpha = small
    fall = (plan.length - 1) // 2 + 1
    optimizer = make_optimizer(jnp.where(index > fall, alpha * 0.1, alpha))
    opt_state = jax.tree.map(
        lambda fresh, old: jnp.where(index == fall + 1, fresh, old),
        optimizer.init(params),
        opt_state,
    )
    most = jnp.where(index < plan.epochs, jnp.iinfo(jnp.int32).max, plan.steps)
    training = Training(
        network.apply_fn,
        _at_most(optimizer, most),
        manner.batch_size,
        partial(augment, operations=manner.operations),
        network.parts,
    )
    begun = (jnp.int32(0), opt_state)
    params, (_, opt_state), loss = train_epoch(key, params, begun, images, labels, training)
    return params, opt_state, loss


def _at_most(
    optimizer: optax.GradientTransformation, steps: Int[Array, ""]
) -> optax.GradientTransformation:
    """An optimiser that changes nothing after so many steps."""

    def init(params: Params) -> OptState:
        return jnp.int32(0), optimizer.init(params)

    def update(updates: Any, state: Any, params: Params | None = None) -> tuple[Any, Any]:
        done, before = state
        found = optimizer.update(updates, before, params)
        nothing = (jax.tree.map(jnp.zeros_like, updates), before)
        kept = jax.tree.map(partial(jnp.where, done < steps), found, nothing)
        return kept[0], (done + 1, kept[1])

    return optax.GradientTransformation(init, update)


def _statistics(network: Network, params: Params, images: Images, batch_size: int) -> Statistics:
    """What the batch norms of a network find in a set, all batches taken together."""
    count = images.shape[0]
    steps = steps_of(count, batch_size)
    size = count // steps
    batches = images[: steps * size].reshape(steps, size, *images.shape[1:])
    return pooled(lax.map(partial(network.statistics_fn, params), batches))


@partial(jax.jit, static_argnames=("program", "manner"))
def _guess(
    settled: tuple[Params, Statistics],
    place: Int[Array, ""],
    images: Images,
    *,
    program: Architecture,
    manner: Manner,
) -> Int[Array, "networks images"]:
    """The class with the largest logit, by each network for each image."""
    network = _network(program, place, manner)
    size = min(_TEST_BATCH, len(images))
    size //= network.parts(size)
    steps = math.ceil(len(images) / size)
    order = jnp.pad(jnp.arange(len(images)), (0, steps * size - len(images))).reshape(steps, size)

    def one(own: tuple[Params, Statistics]) -> Int[Array, " images"]:
        found = lax.map(lambda batch: network.settled_fn(own, images[batch]).argmax(axis=1), order)
        return found.reshape(-1)[: len(images)]

    return _each(one, settled)
