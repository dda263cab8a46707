"""How long students are trained, and the teacher and start epoch of each step."""

from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Int

from ddpp_jax.methods.draws import draw_start
from ddpp_jax.methods.method import steps_key
from ddpp_jax.methods.pairs import Plan
from ddpp_jax.methods.segments import segment_keys


class Schedule(NamedTuple):
    """How long students are trained, and what they are compared with.

    Attributes:
        student_steps: SGD steps of a student (J).
        target_epochs: teacher epochs between start and target (K).
        start_epochs: start epochs are drawn from 0 up to, not including, this one (I+).
        student_batch: distilled images in a student step; all of them are taken in order.
        teachers: how many there are to choose from.
        steps: of the distillation.
        first_epoch: start epochs are drawn from this one on.
        early_epochs: the bound of the first step, which grows to `start_epochs`; None is no growth.
        growth: distillation steps over which it grows.
        segments: of trajectories in a step, with students of their own, whose gradients are
            averaged; one is Algorithm 1.
    """

    student_steps: int
    target_epochs: int
    start_epochs: int
    student_batch: int
    teachers: int
    steps: int
    first_epoch: int = 0
    early_epochs: int | None = None
    growth: int = 1
    segments: int = 1

    def bound(self, step: int | Int[Array, ""]) -> int | Int[Array, ""]:
        """The epoch below which the start of a step is drawn (DATM, ICLR 2024)."""
        if self.early_epochs is None:
            return self.start_epochs
        more = (self.start_epochs - self.early_epochs) * step // self.growth
        return jnp.minimum(self.early_epochs + more, self.start_epochs)


def plan(seed: int, schedule: Schedule, done: int = 0) -> Plan:
    """The teacher and the start epoch of every step after the first `done`.

    Of steps with several segments those of the segments follow one another.
    """
    key = steps_key(seed)

    def one(index: Int[Array, ""]) -> Any:
        keys = segment_keys(jax.random.fold_in(key, index), schedule.segments)
        bound, first = schedule.bound(index), schedule.first_epoch
        start = partial(draw_start, teachers=schedule.teachers, epochs=bound, first=first)
        return jax.vmap(start)(keys)

    starts = jax.jit(jax.vmap(one))(jnp.arange(done, schedule.steps))
    teachers, epochs = (np.asarray(part).ravel() for part in starts)
    return Plan(teachers, epochs, schedule.target_epochs)
