"""The methods of distillation, made from a job's settings."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax

from ddpp_jax._types import MaskName
from ddpp_jax.cli.real import from_real_images, optimizer_of, pixel_hparams
from ddpp_jax.configs import (
    DistillConfig,
    DistillJob,
    MemberJob,
    RealConfig,
    TrajectoryConfig,
)
from ddpp_jax.core import augment
from ddpp_jax.data import Dataset
from ddpp_jax.errors import InputError
from ddpp_jax.methods import (
    Extensions,
    Feed,
    HParams,
    Method,
    OnDevice,
    Parts,
    Plan,
    Room,
    Schedule,
    Streamed,
    make_mask,
    match_trajectories,
    read_all,
)
from ddpp_jax.planning.problem import Problem

_LABEL_MOMENTUM = 0.9
"""Of the labels of trajectory matching, as in DATM."""


class Sources(NamedTuple):
    """What methods read from.

    Attributes:
        problems: the data and the teachers of each seed.
        dataset: the data as networks see them; None where nothing is read yet.
        stream: whether teachers are read from disk as they are needed.
        room: how large a pool of real images is made; None takes what they need.
    """

    problems: Mapping[int, Problem]
    dataset: Dataset | None = None
    stream: bool = False
    room: Room | None = None


class Made(NamedTuple):
    """A method, and what a job says of it.

    Attributes:
        method: of distillation.
        hparams_fn: `hparams_fn(settings)`, the numbers in which distillations may differ.
    """

    method: Method
    hparams_fn: Callable[[DistillConfig], Any]


def make_method(
    job: DistillJob,
    sources: Sources,
    *,
    members: Sequence[MemberJob] = (),
    image_operations: float = 0.0,
) -> Made:
    """The method that a job asks for.

    Args:
        job: its settings.
        sources: what it reads from.
        members: the distillations of the job, where they may differ in their masks.
        image_operations: of a forward pass of one image, where the time is to be told.
    """
    settings = job.distillation
    if isinstance(settings, TrajectoryConfig):
        beside = [one.job.distillation for one in members] or [settings]
        beside = [one for one in beside if isinstance(one, TrajectoryConfig)]
        method = _trajectory(job, settings, sources, image_operations, beside)
        return Made(method, partial(_hparams, masks=_masks_of(beside)))
    if isinstance(settings, RealConfig):
        problem = next(iter(sources.problems.values()))
        method = from_real_images(
            job, settings, problem, sources.dataset, image_operations, sources.room
        )
        return Made(method, pixel_hparams)
    raise InputError(f"--method {job.method} cannot be made")


def _trajectory(
    job: DistillJob,
    settings: TrajectoryConfig,
    sources: Sources,
    image_operations: float,
    beside: Sequence[TrajectoryConfig],
) -> Method:
    problem = next(iter(sources.problems.values()))
    masks = _masks_of(beside)
    by_share = any(one.prune_share is not None for one in beside)
    schedule = Schedule(
        student_steps=settings.student_steps,
        target_epochs=settings.target_epochs,
        start_epochs=settings.max_start_epoch,
        student_batch=settings.student_batch or settings.ipc * problem.raw.classes,
        teachers=job.teaching.teachers,
        steps=settings.steps,
        first_epoch=settings.min_start_epoch,
        early_epochs=settings.early_start_epoch,
        growth=settings.growth_steps,
        segments=settings.segments,
    )
    held: dict[Path, Callable[[Plan], Feed]] = {}

    def pairs_fn(seed: int, plan: Plan) -> Feed:
        own = sources.problems[seed]
        if own.store.folder not in held:
            held[own.store.folder] = _reader(job, settings, own, stream=sources.stream)
        return held[own.store.folder](plan)

    return match_trajectories(
        problem.network,
        pairs_fn,
        schedule,
        optimizer=optimizer_of(settings),
        relative_alpha=settings.optimizer == "adam",
        operations=image_operations,
        parts=Parts(
            augment_fn=partial(augment, operations=job.data.operations),
            nearest=settings.match == "nearest",
        ),
        extended=Extensions(
            masks=[make_mask(name, problem.network, by_share=by_share) for name in masks],
            weighted="learned" in masks,
            label_optimizer=optax.trace(_LABEL_MOMENTUM) if settings.learn_labels else None,
            averaged=any(one.image_average > 0 for one in beside),
        ),
    )


def _mask_of(settings: DistillConfig) -> MaskName:
    """The mask of a distillation; that of MTT is the paper's, which keeps all at threshold 0."""
    assert isinstance(settings, TrajectoryConfig)
    return settings.mask if settings.prunes else "ratio"


def _masks_of(beside: Sequence[DistillConfig]) -> list[MaskName]:
    """The masks of some distillations, each once."""
    found: dict[MaskName, None] = {_mask_of(one): None for one in beside}
    return list(found)


def _hparams(settings: DistillConfig, *, masks: Sequence[MaskName]) -> HParams:
    assert isinstance(settings, TrajectoryConfig)
    mask, pruning = _mask_of(settings), 0.0
    if settings.prunes:
        pruning = settings.prune_share or settings.threshold or 0.0
    return HParams(
        pruning,
        settings.pixel_rate,
        settings.alpha_rate,
        float(masks.index(mask)),
        settings.weight_rate if mask == "learned" else 0.0,
        settings.label_rate,
        np.inf if settings.skip_above is None else settings.skip_above,
        settings.image_average,
    )


def _reader(
    job: DistillJob, settings: TrajectoryConfig, problem: Problem, *, stream: bool
) -> Callable[[Plan], Feed]:
    """Reads from disk, or from an array on the device that holds all that can be drawn."""
    num_params = problem.network.num_params
    if stream:
        return partial(Streamed, problem.store, num_params)
    trajectories = read_all(
        problem.store, job.teaching.teachers, settings.last_epoch, num_params=num_params
    )
    return partial(OnDevice, trajectories)
