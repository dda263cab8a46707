"""What the settings of a distillation ask of the data and of a person's patience."""

import dataclasses

from ddpp_jax.cli.real import infinite_of
from ddpp_jax.configs import (
    DistillConfig,
    DistillJob,
    GradientConfig,
    KernelConfig,
    RealConfig,
    TrajectoryConfig,
    UnrolledConfig,
)
from ddpp_jax.data import Dataset, require_per_class
from ddpp_jax.errors import InputError
from ddpp_jax.storage import gib

_FEW_STUDENT_STEPS = 4
_FEW_UPDATES = 2
_FEW_EPOCHS = 5
_MOST_OF_A_PAIR = 2**26


def check(settings: DistillConfig, data: Dataset) -> None:
    """Refuse what the data cannot give, before anything starts.

    Raises:
        InputError: the student's minibatch does not divide the distilled set, or a class is too
            small.
    """
    count = settings.ipc * data.classes
    batched = isinstance(settings, TrajectoryConfig | UnrolledConfig)
    batch = settings.student_batch if batched else None
    if batch is not None and count % batch:
        divisor = next(size for size in range(min(batch, count), 0, -1) if count % size == 0)
        raise InputError(
            f"--student-batch {batch} does not divide the {count} distilled images; give one that "
            f"does, such as {divisor}"
        )
    require_per_class(data, settings.ipc)


def check_kernel(job: DistillJob, data: Dataset) -> None:
    """Refuse a kernel whose pairs of images are beyond reason.

    Raises:
        InputError: the covariance of a pair takes too much memory.
    """
    settings = job.distillation
    if not isinstance(settings, KernelConfig):
        return
    side, entries = data.x_train.shape[1], infinite_of(job, settings).entries(data.x_train.shape[1])
    if 4 * entries > _MOST_OF_A_PAIR:
        raise InputError(
            f"--method kip at --depth {job.model.depth} holds {gib(4 * entries)} for each pair of "
            f"{side}x{side} images, and a step takes thousands of pairs; give a lower --depth, or "
            "--image-size 32 or less"
        )


def lighter(job: DistillJob) -> DistillJob:
    """The same job with steps that are quickly tried; a step's work is told by its operations."""
    settings = job.distillation
    few: dict[str, int] = {}
    if isinstance(settings, TrajectoryConfig):
        few = {"student_steps": min(settings.student_steps, _FEW_STUDENT_STEPS)}
    if isinstance(settings, UnrolledConfig):
        few = {
            "window": min(settings.window, _FEW_UPDATES),
            "horizon": min(settings.horizon, _FEW_STUDENT_STEPS),
        }
    if isinstance(settings, GradientConfig):
        few = {
            "updates": min(settings.loops[0], _FEW_UPDATES),
            "network_epochs": min(settings.loops[1], _FEW_EPOCHS),
        }
    return dataclasses.replace(job, distillation=dataclasses.replace(settings, **few))


def words(settings: DistillConfig) -> str:
    """What a person wants to know of the settings, in a line."""
    said = f"pixel rate {settings.pixel_rate:g}, alpha {settings.alpha:g}"
    if isinstance(settings, UnrolledConfig):
        where = {"fixed": "at the end", "random": "anywhere", "adaptive": "by the gradients"}
        said = (
            f"a window of {settings.window} steps {where[settings.placement]} in "
            f"{settings.horizon} of {settings.network_optimizer} at {settings.network_rate:g}, "
            f"{said}"
        )
    if isinstance(settings, RealConfig):
        start = "noise" if settings.start == "noise" else "real images"
        return (
            f"{settings.title} from {start}, up to {settings.real_batch} real images of each class "
            f"in an update, {said}"
        )
    if not isinstance(settings, TrajectoryConfig):
        return said
    pruning = "no pruning"
    if settings.prunes:
        published = settings.mask == "ratio" and settings.prune_share is None
        pruning = f"threshold {settings.threshold:g}" if published else settings.title
    several = f", {settings.segments} segments a step" if settings.segments > 1 else ""
    return (
        f"J {settings.student_steps}, K {settings.target_epochs}, I+ {settings.max_start_epoch}"
        f"{several}, {pruning}, {said} at rate {settings.alpha_rate:g}"
    )
