"""The starts and targets of trajectory matching, on the device or streamed from disk."""

import time
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import psutil
from jaxtyping import Array, Float, Int

from ddpp_jax.storage import TeacherStore, aligned_empty, device_bytes


class Pair(NamedTuple):
    """What a step of trajectory matching reads; along a leading axis, what several read.

    Attributes:
        start: the teacher's parameters that the student starts from.
        target: the same teacher's, some epochs later.
        teacher: which teacher.
        epoch: the start epoch.
    """

    start: Float[Array, "*steps parameters"]
    target: Float[Array, "*steps parameters"]
    teacher: Int[Array, "*steps"]
    epoch: Int[Array, "*steps"]


READERS = 2  # Threads that read ahead.
READ_AHEAD_BYTES = 2**28


class Plan(NamedTuple):
    """Which teacher and which epochs each distillation step needs.

    Attributes:
        teachers: of every step that is still to come.
        epochs: the start epoch of each.
        span: epochs between start and target (K).
    """

    teachers: Int[np.ndarray, " steps"]
    epochs: Int[np.ndarray, " steps"]
    span: int


class OnDevice:
    """A feed from an array that holds every snapshot that can be drawn."""

    def __init__(
        self, trajectories: Float[Array, "teachers snapshots parameters"], plan: Plan
    ) -> None:
        """A feed that follows the plan."""
        self.waited = 0.0
        self._trajectories, self._plan, self._next = trajectories, plan, 0

    def take(self, count: int, *, rows: int) -> Pair:
        """Starts and targets of the next `count` steps, padded to `rows`."""
        began = time.perf_counter()
        places = np.minimum(self._next + np.arange(rows), len(self._plan.teachers) - 1)
        self._next += count
        teachers, epochs = self._plan.teachers[places], self._plan.epochs[places]
        pairs = _gather(self._trajectories, teachers, epochs, epochs + self._plan.span)
        jax.block_until_ready(pairs)
        self.waited += time.perf_counter() - began
        starts, targets = pairs
        return Pair(starts, targets, jnp.asarray(teachers), jnp.asarray(epochs))

    def check(self) -> None:
        """What goes wrong is raised by `take`."""

    def close(self) -> None:
        """Nothing is held."""


class Streamed:
    """A feed that reads from disk what the next steps need while the present ones run.

    What is read ahead is bounded by `READ_AHEAD_BYTES`, or by one step where that is more.
    """

    def __init__(self, store: TeacherStore, num_params: int, plan: Plan) -> None:
        """A feed that follows the plan; close it after use."""
        self.waited = 0.0
        self._store, self._plan, self._num_params = store, plan, num_params
        self._ahead = max(1, READ_AHEAD_BYTES // (2 * 4 * num_params))
        self._pool = ThreadPoolExecutor(READERS, thread_name_prefix="teachers")
        self._pending: deque[Future[np.ndarray]] = deque()
        self._next = self._taken = 0
        self._read_ahead()

    def take(self, count: int, *, rows: int) -> Pair:
        """Starts and targets of the next `count` steps, padded to `rows`."""
        pairs = np.zeros((2, rows, self._num_params), np.float32)
        places = np.minimum(self._taken + np.arange(rows), len(self._plan.teachers) - 1)
        self._taken += count
        began = time.perf_counter()
        for row in range(count):
            pairs[:, row] = self._pending.popleft().result()
            self._read_ahead()
        self.waited += time.perf_counter() - began
        numbers = (self._plan.teachers[places], self._plan.epochs[places])
        return Pair(*(jnp.asarray(part) for part in (*pairs, *numbers)))

    def check(self) -> None:
        """What goes wrong is raised by `take`."""

    def close(self) -> None:
        """Stop reading ahead."""
        self._pool.shutdown(cancel_futures=True)

    def _read_ahead(self) -> None:
        while len(self._pending) < self._ahead and self._next < len(self._plan.teachers):
            teacher, start = (int(a[self._next]) for a in (self._plan.teachers, self._plan.epochs))
            epochs = (start, start + self._plan.span)
            read = partial(self._store.read, teacher, epochs, num_params=self._num_params)
            self._pending.append(self._pool.submit(read))
            self._next += 1


def read_all(
    store: TeacherStore, count: int, last_epoch: int, *, num_params: int
) -> Float[Array, "teachers snapshots parameters"]:
    """Epochs 0 to `last_epoch` of the first `count` teachers, on the device.

    Raises:
        InputError: a teacher is missing or cannot be read.
    """
    trajectories = aligned_empty((count, last_epoch + 1, num_params))
    for index in range(count):
        trajectories[index] = store.read(index, range(last_epoch + 1), num_params=num_params)
    return jax.device_put(trajectories)


def device_room() -> int:
    """Bytes that may be taken on the device: half of what is free there, and on the host before."""
    return min(psutil.virtual_memory().available // 2, device_bytes())


@jax.jit
def _gather(
    trajectories: Float[Array, "teachers snapshots parameters"],
    teachers: Int[Array, " steps"],
    starts: Int[Array, " steps"],
    targets: Int[Array, " steps"],
) -> tuple[Float[Array, "steps parameters"], Float[Array, "steps parameters"]]:
    return trajectories[teachers, starts], trajectories[teachers, targets]
