"""How much work each stage of a distillation is: in units, in operations, and in seconds."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np

from ddpp_jax.configs import (
    TEACHERS_LABELS,
    DistillJob,
    EvaluateConfig,
    KernelConfig,
    TeachConfig,
)
from ddpp_jax.data import Dataset, seen_by_teachers
from ddpp_jax.networks import Network
from ddpp_jax.planning.problem import Problem

_TRAINING = 3
"""Passes over a network that an SGD step takes: forward, and for the gradients of both factors."""


_WITH_GRADIENT = 4
"""Times that a kernel takes with its gradient."""


class Stage(NamedTuple):
    """A stage, and how many units of each kind it takes.

    Attributes:
        name: by which it shows its progress.
        epochs: of one teacher.
        steps: of one distillation.
        evaluations: each of several fresh networks.
    """

    name: str
    epochs: float = 0
    steps: float = 0
    evaluations: float = 0


class Costs(NamedTuple):
    """What a unit of each kind costs: operations, or seconds."""

    epoch: float
    step: float
    evaluation: float

    def of(self, stage: Stage) -> float:
        """What a stage costs."""
        return (
            stage.epochs * self.epoch
            + stage.steps * self.step
            + stage.evaluations * self.evaluation
        )


def teaching(missing: int, epochs: int) -> Stage:
    """The first stage.

    Args:
        missing: teachers that are not trained yet.
        epochs: of each.
    """
    return Stage("teachers", epochs=missing * epochs)


def by_kernel(name: str) -> str:
    """What the evaluation of a method's set by the kernel itself is called."""
    return f"{name} by its kernel"


def stages(
    job: DistillJob, missing: int, members: Sequence[str], raw: Dataset | None
) -> list[Stage]:
    """The stages of a job whose distillations have not begun, in order.

    Args:
        job: what is asked for.
        missing: teachers that are not trained yet, of all seeds.
        members: the names of the distillations, which go side by side.
        raw: the data, which methods by a kernel ask for; None will do for others.
    """
    settings = job.distillation
    on_the_way = settings.steps // settings.eval_every + 1 if settings.eval_every else 0
    # The last set was evaluated on the way where the last step was one to evaluate at.
    at_the_end = 0 if settings.eval_every and settings.steps % settings.eval_every == 0 else 1
    found = [teaching(missing, job.teaching.epochs)] if missing else []
    count = len(members)
    found.append(Stage("distil", steps=count * settings.steps, evaluations=count * on_the_way))
    draws = job.random_draws if job.baselines else 0
    soft = Stage(f"evaluate random real images, {settings.soft_labels}", evaluations=draws)
    if draws:
        found.append(Stage("evaluate random real images", evaluations=draws))
    if draws and settings.soft_labels == TEACHERS_LABELS:
        found.append(soft)
    for name in members:
        found.append(Stage(f"evaluate {name}", evaluations=at_the_end))
        if isinstance(settings, KernelConfig):
            assert raw is not None
            batch = raw.classes * min(settings.real_batch, int(np.bincount(raw.y_train).min()))
            share = len(raw.y_test) / batch / _WITH_GRADIENT
            found.append(Stage(f"evaluate {by_kernel(name)}", steps=share))
    if draws and settings.soft_labels not in (None, TEACHERS_LABELS):
        found.append(soft)
    return found


def operations(job: DistillJob, problem: Problem, step: float) -> Costs:
    """Floating-point operations by unit, about, as XLA counts those of a forward pass.

    Args:
        job: what is asked for.
        problem: the data and the network.
        step: operations of a distillation step.
    """
    raw = problem.raw
    image = forward_operations(problem.network, raw.x_train.shape[1:])
    count = job.distillation.ipc * raw.classes
    seen = seen_by_teachers(raw, balance=job.teaching.balance)
    return Costs(
        epoch=epoch_operations(job.teaching, image, seen),
        step=step,
        evaluation=evaluation_operations(job.evaluation, image, count, len(raw.y_test)),
    )


def epoch_operations(config: TeachConfig, image: float, seen: int) -> float:
    """Operations of an epoch of one teacher.

    Args:
        config: how it is trained.
        image: operations of a forward pass of one image.
        seen: images in an epoch.
    """
    gradients = 1 if config.teacher_optimizer == "sgd" else 2
    return gradients * _TRAINING * image * seen


def evaluation_operations(config: EvaluateConfig, image: float, small: int, test: int) -> float:
    """Operations of an evaluation.

    Args:
        config: how many networks, and their schedule.
        image: operations of a forward pass of one image.
        small: images that the networks are trained on.
        test: images that they are tested on.
    """
    return config.networks * image * (_TRAINING * (config.eval_epochs + 1) * small + test)


def forward_operations(network: Network, shape: tuple[int, ...]) -> float:
    """Floating-point operations of a network on one image, as XLA counts them; nothing runs."""
    params = jax.eval_shape(network.init_fn, jax.random.key(0))
    image = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    counted = cast(
        Mapping[str, float], jax.jit(network.apply_fn).lower(params, image).cost_analysis()
    )
    return counted["flops"]
