"""What a unit of each stage takes on this machine, by trying a little of it on made-up images."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpp_jax import cluster, distill, teachers
from ddpp_jax.configs import DistillJob, TeachersJob
from ddpp_jax.data import Dataset, Stored, seen_by_teachers
from ddpp_jax.evaluate import Procedure, networks
from ddpp_jax.methods import Method, OnHost, Pool, device_room, made_up_pool
from ddpp_jax.networks import Network
from ddpp_jax.planning.problem import Problem
from ddpp_jax.planning.work import Costs, Stage
from ddpp_jax.progress import Report
from ddpp_jax.training import predictions, workers

_SECONDS = 1.0
"""How long what is measured takes, about, or one unit where that takes longer."""
_COPIES = 16
"""Of a network's parameters; where there is no room for so many, nothing is tried."""
_SGD_STEPS = 4
_BATCHES = 2
_TEST_IMAGES = 500
_READ = 256
"""Images that are read for a trial."""


def unit_seconds(
    job: DistillJob, problem: Problem, stages: Sequence[Stage], step_fn: Callable[[], float]
) -> Costs:
    """Seconds of a unit of each kind of a distillation.

    Args:
        job: what is asked for.
        problem: the data and the network.
        stages: of the job.
        step_fn: gives the seconds of a distillation step.
    """
    raw, network = problem.raw, problem.network
    shape, count = raw.x_train.shape[1:], job.distillation.ipc * raw.classes
    teaches = any(stage.epochs for stage in stages)
    return Costs(
        epoch=epoch_seconds(job, problem) if teaches else 0.0,
        step=step_fn(),
        evaluation=evaluation_seconds(
            Procedure(job.evaluation, job.data.operations, raw.classes),
            network,
            (count, *shape),
            test=len(raw.y_test),
        ),
    )


def teaching_seconds(job: TeachersJob, problem: Problem) -> dict[str, float]:
    """Seconds of training the missing teachers."""
    missing = len(problem.store.missing(job.teaching.teachers))
    if not missing:
        return {"teachers": 0.0}
    return {"teachers": missing * job.teaching.epochs * epoch_seconds(job, problem)}


def describe_stages(
    costs_fn: Callable[[], Costs], stages: Sequence[Stage], num_params: int, report: Report
) -> Costs | None:
    """Say how long each stage will take, and the whole job.

    Args:
        costs_fn: tries the stages, and gives the seconds of a unit of each kind.
        stages: of the job.
        num_params: of the network; one that is beyond the device's memory is not tried.
        report: told of it.

    Returns:
        These seconds; None where this machine has no memory to try them.
    """
    tried: list[Costs] = []

    def seconds() -> dict[str, float]:
        tried.append(costs_fn())
        return {stage.name: tried[0].of(stage) for stage in stages}

    return tried[0] if describe(seconds, num_params, report) else None


def describe(
    seconds_fn: Callable[[], Mapping[str, float]], num_params: int, report: Report
) -> bool:
    """Say how long each stage will take, and the whole job; whether that could be found out.

    Args:
        seconds_fn: tries the stages, and gives the seconds of each by its name; NaN of one that
            this machine has no memory to try.
        num_params: of the network; one that is beyond the device's memory is not tried.
        report: told of it.
    """
    fits = cluster.agreed(lambda: _COPIES * 4 * num_params <= device_room())
    times = seconds_fn() if fits else {}
    if not times or any(map(math.isnan, times.values())):
        report.say("Time: unknown, since it is too large to be tried on this machine")
        return False
    report.say(
        f"Time: about {in_words(sum(times.values()))} from the start, by a short trial of each "
        "stage on this machine, as busy as it is now:"
    )
    for name, taken in times.items():
        report.say(f"  {name}: {in_words(taken)}")
    return True


def epoch_seconds(job: TeachersJob, problem: Problem) -> float:
    """Seconds that an epoch of one teacher takes, where as many are trained as missing ones allow.

    A few of its SGD steps are made.
    """
    raw, teaching = problem.raw, job.teaching
    group = max(1, min(teachers.group_size(), len(problem.store.missing(teaching.teachers))))
    seen = seen_by_teachers(raw, balance=teaching.balance)
    size = min(teaching.teacher_batch, seen)
    steps = math.ceil(seen / size)
    few = min(steps, _SGD_STEPS)
    images, labels = _made_up((few * size, *raw.x_train.shape[1:]), raw.classes)
    optimizer = optax.sgd(teaching.teacher_rate)
    sharpness = teachers.sharpness_of(teaching)
    how = teachers.How(problem.network, optimizer, size, job.data.operations, sharpness)
    keys = jax.random.split(jax.random.key(0), group)

    def call(members: Any, count: int) -> Any:
        return teachers.advance_all(
            members,
            [(jnp.int32(0), images, labels)] * count,
            how,
        )

    begun = teachers.begin_all(keys, problem.network, optimizer)
    taken = _pace(call, (keys, begun, teachers.Info(jnp.zeros(group))), most=10)
    taken *= steps / few / group
    return max(taken, reading_seconds(raw)) if isinstance(raw.x_train, Stored) else taken


def reading_seconds(raw: Dataset) -> float:
    """Seconds that all training images take to be read in random order; a few of them are read."""
    count = min(len(raw.y_train), _READ)
    chosen = np.random.default_rng(0).choice(len(raw.y_train), count, replace=False)
    began = time.perf_counter()
    raw.x_train[chosen]
    return (time.perf_counter() - began) * len(raw.y_train) / count


def step_seconds(method: Method, members: Sequence[distill.Member], *, needed: int | None) -> float:
    """Seconds of a distillation step, a share where several distillations go side by side.

    Args:
        method: of distillation.
        members: what goes side by side.
        needed: bytes that a step takes, where they are known; NaN comes back where the device has
            no room for them.
    """
    if needed is not None and cluster.agreed(lambda: needed > device_room()):
        return math.nan
    rows = distill.steps_per_call(method, len(members))
    begun = [distill.begin(method, member) for member in members]
    states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)
    batches = [_made_up_batch(method, rows)] * len(members)
    advance = distill.compiled(method, members, states, batches)

    def call(states: Any, count: int) -> Any:
        return advance(states, 0, count, batches)[0]

    pace = _pace(call, states, most=rows, compiles=False) / len(members)
    if isinstance(method.batch, Pool) and isinstance(method.batch.images, OnHost):
        method.batch.images.check()
    return pace


def _made_up_batch(method: Method, rows: int) -> Any:
    """Something for so many steps to read."""
    if isinstance(method.batch, Pool):
        return made_up_pool(method.batch)
    key = jax.random.key(0)
    return jax.tree.map(
        lambda leaf: (
            0.1 * jax.random.normal(key, leaf.shape, leaf.dtype)
            if jnp.issubdtype(leaf.dtype, jnp.floating)
            else leaf
        ),
        distill.no_batches(method, rows),
    )


def evaluation_seconds(
    procedure: Procedure, network: Network, shape: tuple[int, ...], *, test: int
) -> float:
    """Seconds that several fresh networks take to be trained and tested.

    Args:
        procedure: how many networks, their schedule and their augmentation.
        network: the architecture.
        shape: of the images that they are trained on: (images, height, width, channels).
        test: how many images they are tested on.
    """
    config = procedure.config
    count = min(shape[0], _BATCHES * config.eval_batch)
    group = config.networks
    if jax.default_backend() == "cpu":
        group = workers(group)
    images, labels = _made_up((count, *shape[1:]), procedure.classes)
    keys = jax.random.split(jax.random.key(0), group)
    small = (images, labels, jnp.float32(1e-3))
    states = networks.begin_all(keys, network)
    seen, _ = _made_up((min(test, _TEST_IMAGES), *shape[1:]), procedure.classes)

    def train(members: Any, count: int) -> Any:
        piece = (jnp.int32(0), jnp.int32(count), small)
        return networks.advance_all(members, [piece], (network, procedure))

    def guess(params: Any, count: int) -> Any:
        for _ in range(count):
            found = predictions(params, seen, apply_fn=network.apply_fn, parts_fn=network.parts)
            jax.block_until_ready(found)
        return params

    tested = _pace(guess, states.params, most=10) * test / len(seen)
    info = networks.Info(jnp.zeros(group))
    epoch = _pace(train, (keys, states, info), most=100) * shape[0] / count
    return (epoch * (config.eval_epochs + 1) + tested) * config.networks / group


def in_words(seconds: float) -> str:
    """A time in minutes for a person; seconds or hours where these say more."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} h"


def _made_up(shape: tuple[int, ...], classes: int) -> tuple[jax.Array, jax.Array]:
    labels = jnp.arange(shape[0], dtype=jnp.int32) % classes
    return jax.random.normal(jax.random.key(0), shape, jnp.float32), labels


def _pace(
    call: Callable[[Any, int], Any], value: Any, *, most: int, compiles: bool = True
) -> float:
    """Seconds of a unit.

    Args:
        call: `call(value, count)` makes so many units, and gives what the next call takes.
        value: what the first call takes.
        most: units of one call.
        compiles: the first call compiles, and is left out.
    """

    def timed(count: int) -> float:
        nonlocal value
        began = time.perf_counter()
        value = jax.block_until_ready(call(value, count))
        return (time.perf_counter() - began) / count

    if compiles:
        timed(1)
    # Processes of one job make as many.
    once = timed(1)
    count = cluster.agreed(lambda: min(most, max(1, int(_SECONDS / once))))
    return timed(count)
