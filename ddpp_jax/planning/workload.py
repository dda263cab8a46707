"""What there is of each kind of work in a job, by its settings and by the sizes of its data."""

import math
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp

from ddpp_jax import distill, teachers
from ddpp_jax.configs import (
    AlignmentConfig,
    DistillConfig,
    DistributionConfig,
    EvaluateConfig,
    GradientConfig,
    KernelConfig,
    TeachConfig,
    TrajectoryConfig,
    UnrolledConfig,
)
from ddpp_jax.data import Dataset, Stored
from ddpp_jax.methods import LEAST_SHARE, Method
from ddpp_jax.networks import Network
from ddpp_jax.planning.scaling import Cut, Kind
from ddpp_jax.sets import DistilledSet

EPOCHS_A_CALL = 100
"""The most epochs of an evaluation in one call, as `evaluate` makes them."""

SECONDS_A_CALL = 2.0
"""What calls of distillation and of evaluations aim at."""

_FLOAT = 4
_OF_TRAINING = 3  # Parameters, their gradient, and parameters after the step.
_OF_EVALUATION = 4  # And the velocity.
_OF_A_BLOCK = 3  # A convolution's features, the same normalised, and their gradient.
_SUMS_OF_PARAMETERS = 2  # In a student's step: of the gradient, and going back through it.
_TO_TEST = 0.25  # Of a call: the parameters alone go to the devices, and none comes back.
_TANGENTS = 2  # The derivative of a student's step carries a tangent beside each number.


class Shapes(NamedTuple):
    """The sizes of a dataset.

    Attributes:
        training: images.
        test: images.
        classes: how many.
        image: height, width and channels.
        streamed: bytes of a number of images that are read when they are asked for; 0 where all
            images are in memory.
    """

    training: int
    test: int
    classes: int
    image: tuple[int, int, int]
    streamed: int = 0

    def size(self, images: int) -> int:
        """Bytes of some images as networks see them."""
        return _FLOAT * images * math.prod(self.image)

    def stored(self, images: int) -> int:
        """Bytes of some images as they are streamed."""
        return self.streamed * images * math.prod(self.image)


def shapes_of(raw: Dataset) -> Shapes:
    """The sizes of the data at hand."""
    height, width, channels = raw.x_train.shape[1:]
    streamed = raw.x_train.itemsize if isinstance(raw.x_train, Stored) else 0
    image = (height, width, channels)
    return Shapes(len(raw.y_train), len(raw.y_test), raw.classes, image, streamed)


def units_a_call(seconds: int | float, most: int) -> int:
    """Steps or epochs in a call of the compiled program, which takes some seconds.

    Args:
        seconds: of one of them; 0 where they are not known, and as many as can be are taken.
        most: in a call.
    """
    return most if not seconds else max(1, min(most, int(SECONDS_A_CALL / seconds)))


def teaching_kind(teaching: TeachConfig, network: Network, shapes: Shapes, missing: int) -> Kind:
    """Epochs of the teachers that are missing.

    All training images are on every device, or are streamed from their hosts; then each host reads
    all of them from disk once, and the system keeps what it has read. A group of teachers is told
    to the first device after every epoch, since all epochs are kept.

    Args:
        teaching: how they are trained.
        network: the architecture.
        shapes: of the data.
        missing: how many are to be trained.
    """
    size = _FLOAT * network.num_params
    batch = min(teaching.teacher_batch, shapes.training)
    kind = Kind(
        members=max(1, missing),
        at_a_time=teachers.GROUP,
        state=size,
        held=_OF_TRAINING * size + batch * _activations(network, shapes.image),
        written=teachers.stored_bytes(teaching, network),
    )
    if not shapes.streamed:
        images = shapes.size(shapes.training) + _FLOAT * shapes.training
        return kind._replace(once=images, standing=images)
    return kind._replace(read_once=shapes.stored(shapes.training))


class Trajectories(NamedTuple):
    """The teachers' trajectories that distillation reads.

    Attributes:
        size: bytes of all of them.
        stream: whether they are read from disk as they are needed; else all are on one device.
    """

    size: float = 0.0
    stream: bool = False


def step_kind(
    settings: DistillConfig,
    network: Network,
    shapes: Shapes,
    method: Method,
    reading: Trajectories,
    *,
    members: int = 1,
    needed: int | float | None = None,
    seconds: int | float = 0,
) -> Kind:
    """Steps of distillations that go side by side, or of a single one.

    What a call reads is padded to the most steps that a call may have, and is sent so.

    Args:
        settings: of each.
        network: the architecture.
        shapes: of the data.
        method: of distillation.
        reading: the trajectories that it reads.
        members: how many there are.
        needed: bytes that a step of one takes, where they are known.
        seconds: of a step of all of them; 0 where they are not known.
    """
    count = settings.ipc * shapes.classes
    rows = distill.steps_per_call(method, members)
    batch = _bytes(method.batch)
    state = _bytes(_begun(method, count, shapes, settings.alpha))
    trajectory = isinstance(settings, TrajectoryConfig)
    if needed is None:
        needed = _FLOAT * method.least_memory + state
        if trajectory:
            size = settings.student_batch or count
            needed += _TANGENTS * size * _activations(network, shapes.image)
    return Kind(
        members=members,
        cuts=_cuts(settings, network, shapes),
        untold=isinstance(settings, GradientConfig | AlignmentConfig | UnrolledConfig),
        calls=1 / units_a_call(seconds, rows),
        state=state,
        fed=0.0 if method.shared else rows * batch,
        once=batch if method.shared else 0.0,
        held=needed,
        standing=0.0 if reading.stream else reading.size,
        read=batch if reading.stream else 0.0,
        read_once=0.0 if reading.stream else reading.size,
    )


def _cuts(settings: DistillConfig, network: Network, shapes: Shapes) -> tuple[Cut, ...]:
    """What a distillation step is cut into; of DC, DSA, CAFE and RaT-BPTT it is not told.

    These train networks too, which is not divided, by a share that is not known here.
    """
    count = settings.ipc * shapes.classes
    images = shapes.size(count)
    if isinstance(settings, TrajectoryConfig):
        size = settings.student_batch or count
        summed = settings.student_steps * (
            _SUMS_OF_PARAMETERS * _FLOAT * network.num_params + shapes.size(size) / 2
        )
        segments = Cut(settings.segments, summed=images)
        if network.is_over_batch:  # It takes a minibatch whole.
            return (segments,)
        return segments, Cut(size, least=LEAST_SHARE, summed=summed)
    if isinstance(settings, DistributionConfig):
        return (Cut(shapes.classes, fills=True, summed=images / 2),)
    if isinstance(settings, KernelConfig):
        pairs = shapes.classes * settings.real_batch * count + count**2
        return (Cut(pairs, fills=True, summed=2 * images),)
    return ()


def evaluation_kind(
    config: EvaluateConfig,
    network: Network,
    shapes: Shapes,
    images: int,
    *,
    seconds: int | float = 0,
) -> Kind:
    """Evaluations of small sets.

    The small set and the test set go to every device once for each of them.

    Args:
        config: how many networks are trained, and for how long.
        network: the architecture.
        shapes: of the data.
        images: of the small set.
        seconds: of an evaluation; 0 where they are not known.
    """
    size, epochs = _FLOAT * network.num_params, config.eval_epochs + 1
    # The first call has one epoch, by which the others are measured.
    calls = 1 + math.ceil((epochs - 1) / units_a_call(seconds / epochs, EPOCHS_A_CALL))
    small, test = shapes.size(images), shapes.size(shapes.test)
    kept = 0 if shapes.streamed else test
    batch = min(config.eval_batch, images)
    return Kind(
        members=config.networks,
        calls=calls + _TO_TEST,
        state=2 * size,
        common=small + (shapes.stored(shapes.test) or test),
        held=_OF_EVALUATION * size + batch * _activations(network, shapes.image),
        standing=kept + small,
    )


def _activations(network: Network, image: tuple[int, int, int]) -> int:
    """Bytes that training a ConvNet holds for an image; of other networks, of the features alone.

    By shapes: nothing runs.
    """
    params = jax.eval_shape(network.init_fn, jax.random.key(0))
    one = jax.ShapeDtypeStruct((1, *image), jnp.float32)
    return _OF_A_BLOCK * _bytes(jax.eval_shape(network.blocks_fn, params, one))


def _begun(method: Method, count: int, shapes: Shapes, alpha: float) -> Any:
    """The shapes of the state of a distillation of so many images."""
    images = jax.ShapeDtypeStruct((count, *shapes.image), jnp.float32)
    labels = jax.ShapeDtypeStruct((count,), jnp.int32)

    def begin(images: jax.Array, labels: jax.Array) -> Any:
        return method.init(jax.random.key(0), DistilledSet(*cast(Any, (images, labels, alpha))))

    return jax.eval_shape(begin, images, labels)


def _bytes(tree: Any) -> int:
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.shape) * leaf.dtype.itemsize for leaf in leaves)
