"""What follows from the data without any trial: the sizes of networks, minibatches and splits."""

import math
from collections.abc import Sequence
from typing import Any

import jax

LARGEST_SIDE = 128
"""Pixels of the side beyond which images are resized."""

_CPU_WIDTH, _WIDTH = 32, 128
_STEPS_AN_EPOCH = 20
_UNEVEN = 3
_LEAST_BATCH, _MOST_BATCH = 16, 256
_HELD_OUT = 500
_LEAST_HELD_OUT, _MOST_HELD_OUT = 0.1, 0.25
_WHOLE_SET = 50
"""So many distilled images are one minibatch of the student."""

_REACH = 0.5
"""Of the learning rate that a teacher uses up between start and target, what a student gets."""


def settings_for(
    size: int, channels: int, counts: Sequence[int], *, resize: bool = True
) -> dict[str, Any]:
    """Settings that follow from the images: side and channels, and how many of each class.

    - `depth`: blocks are added until the last of them gives a map of about 4 pixels a side, as in
      the published networks (3 at 32x32, 4 at 64x64, 5 at 112x112), and at least two.
    - `width`: the published 128, and 32 on the CPU, where it takes a sixteenth of the time.
    - `teacher_batch`: a power of two that makes an epoch about 20 SGD steps or more, since the
      snapshots of a trajectory are an epoch apart.
    - `image_size`: larger images are resized to 128x128, as the published ImageNet subsets are,
      unless `resize` is False.
    - `balance`: where the largest class has more than three times as many images as the smallest.
    - `zca`: for colour images up to 32x32, as published for CIFAR; grey ones are normalised.
    """
    larger = resize and size > LARGEST_SIDE
    size = LARGEST_SIDE if larger else size
    depth = max(1, round(math.log2(size)) - 2) if size < 8 else max(2, round(math.log2(size)) - 2)
    balance = max(counts) > _UNEVEN * min(counts)
    train = len(counts) * max(counts) if balance else sum(counts)
    batch = 2 ** math.floor(math.log2(max(1, train / _STEPS_AN_EPOCH)))
    return {
        "image_size": LARGEST_SIDE if larger else None,
        "depth": depth,
        "width": _CPU_WIDTH if jax.default_backend() == "cpu" else _WIDTH,
        "teacher_batch": min(_MOST_BATCH, max(_LEAST_BATCH, batch)),
        "balance": balance,
        "zca": channels == 3 and size <= 32,
    }


def epochs_as_one(train: int, teacher_batch: int) -> int:
    """How many epochs of few images are taken as one, so that it has about 20 SGD steps.

    Args:
        train: how many images the teachers are trained on.
        teacher_batch: images in a minibatch.
    """
    return max(1, round(_STEPS_AN_EPOCH / math.ceil(train / teacher_batch)))


def held_out_for(train: int) -> float:
    """The share of training images that is kept apart to choose by: some 500 images.

    It is between a tenth and a quarter of them.

    Args:
        train: how many training images there are.
    """
    return round(min(_MOST_HELD_OUT, max(_LEAST_HELD_OUT, _HELD_OUT / train)), 3)


def student_batch_for(images: int, classes: int) -> int | None:
    """Distilled images in a student step: all up to 50, and else a divisor near one of each class.

    Args:
        images: in the distilled set.
        classes: how many there are.
    """
    if images <= _WHOLE_SET:
        return None
    most = max(20, classes)
    return next(size for size in range(most, 0, -1) if images % size == 0)


def first_alpha(teacher_rate: float, teacher_steps: int, student_steps: int) -> float:
    """The student's learning rate to begin with.

    A student on real images then uses up half of the learning rate that the teacher does between
    start and target, each counted as rate times steps; Adam goes on from there.

    Args:
        teacher_rate: learning rate of the teachers.
        teacher_steps: SGD steps of a teacher between start and target.
        student_steps: SGD steps of a student.
    """
    alpha = _REACH * teacher_rate * teacher_steps / student_steps
    return float(f"{min(1.0, max(1e-4, alpha)):.2g}")
