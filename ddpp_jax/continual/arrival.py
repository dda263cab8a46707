"""The order in which classes arrive, and the steps in which they do."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import numpy as np

from ddpp_jax.core import named_key
from ddpp_jax.errors import InputError


class Task(NamedTuple):
    """A step in which some classes arrive.

    Attributes:
        order: the seed of the order of the classes.
        number: of the step, from 0.
        classes: labels of those that arrive.
        seen: labels of all that have arrived, these included, in their order.
    """

    order: int
    number: int
    classes: tuple[int, ...]
    seen: tuple[int, ...]


def class_order(seed: int, classes: int) -> tuple[int, ...]:
    """The labels of the classes in an order of a seed.

    By NumPy's old generator, of which the seeds 0 to 4 give the published orders (Zhao and Bilen,
    WACV 2023).

    >>> class_order(0, 5)
    (2, 0, 1, 3, 4)

    Args:
        seed: of the order.
        classes: how many there are.
    """
    return tuple(np.random.RandomState(seed).permutation(classes).tolist())


def split_evenly(order: Sequence[int], steps: int) -> tuple[tuple[int, ...], ...]:
    """The labels of each step, in order; where steps do not divide them, the first have one more.

    >>> split_evenly((3, 1, 0, 4, 2), 2)
    ((3, 1, 0), (4, 2))

    Args:
        order: of all labels.
        steps: how many.

    Raises:
        InputError: there are more steps than classes.
    """
    if not 1 <= steps <= len(order):
        raise InputError(
            f"--class-steps is {steps} for {len(order)} classes; wanted 1 to {len(order)}"
        )
    least, more = divmod(len(order), steps)
    ends = np.cumsum([least + (number < more) for number in range(steps)]).tolist()
    return tuple(
        tuple(order[first:last]) for first, last in zip([0, *ends[:-1]], ends, strict=True)
    )


def arrivals(order: int, classes: int, steps: int) -> tuple[Task, ...]:
    """The steps of an order.

    Args:
        order: its seed.
        classes: how many there are.
        steps: in which they arrive.

    Raises:
        InputError: there are more steps than classes.
    """
    found: list[Task] = []
    seen: tuple[int, ...] = ()
    for number, arriving in enumerate(split_evenly(class_order(order, classes), steps)):
        seen += arriving
        found.append(Task(order, number, arriving, seen))
    return tuple(found)


def draw_seed(seed: int, task: Task) -> int:
    """What decides all draws of a step: 32 bits that follow from a seed, the order and the step.

    All methods share it, so that they differ in nothing else.
    """
    key = jax.random.fold_in(named_key(jax.random.key(seed), "continual"), task.order)
    return int(jax.random.bits(jax.random.fold_in(key, task.number), dtype="uint32"))
