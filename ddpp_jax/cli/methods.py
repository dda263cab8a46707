"""The methods of distillation, made from a job's settings."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import optax

from ddpp_jax import distill
from ddpp_jax._types import AugmentFn, MaskName
from ddpp_jax.configs import (
    AlignmentConfig,
    AugmentedConfig,
    DistillConfig,
    DistillJob,
    DistributionConfig,
    GradientConfig,
    KernelConfig,
    MemberJob,
    RealConfig,
    TrajectoryConfig,
    UnrolledConfig,
)
from ddpp_jax.core import augment
from ddpp_jax.data import Dataset
from ddpp_jax.errors import InputError
from ddpp_jax.methods import (
    AlignmentLoops,
    Feed,
    GradientLoops,
    HParams,
    Inner,
    Method,
    OnDevice,
    Parts,
    PixelHParams,
    Plan,
    Pool,
    RealImages,
    Schedule,
    Streamed,
    UnrolledHParams,
    Work,
    align_features,
    induce_points,
    make_mask,
    match_distributions,
    match_gradients,
    match_trajectories,
    pool_like,
    read_all,
    unroll_truncated,
)
from ddpp_jax.networks import Infinite, Network
from ddpp_jax.planning.problem import Problem
from ddpp_jax.sets import DistilledSet


class Sources(NamedTuple):
    """What methods read from.

    Attributes:
        problems: the data and the teachers of each seed.
        dataset: the data as networks see them; None where nothing is read yet.
        stream: whether teachers are read from disk as they are needed.
    """

    problems: Mapping[int, Problem]
    dataset: Dataset | None = None
    stream: bool = False


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
        own = {one.job.distillation: None for one in members} or {settings: None}
        masks: list[MaskName] = [*{_mask_of(one): None for one in own}]
        method = _trajectory(job, settings, sources, image_operations, masks)
        return Made(method, partial(_hparams, masks=masks))
    if isinstance(settings, RealConfig):
        method = _from_real_images(job, settings, sources, image_operations)
        return Made(method, _pixel_hparams)
    raise InputError(f"--method {job.method} cannot be made")


def start_of(settings: DistillConfig, dataset: Dataset, seed: int) -> DistilledSet:
    """What a distillation starts from."""
    noise = isinstance(settings, RealConfig) and settings.start == "noise"
    return distill.start_from(
        dataset, ipc=settings.ipc, alpha=settings.alpha, seed=seed, noise=noise
    )


def _trajectory(
    job: DistillJob,
    settings: TrajectoryConfig,
    sources: Sources,
    image_operations: float,
    masks: Sequence[MaskName],
) -> Method:
    problem = next(iter(sources.problems.values()))
    by_share = settings.prune_share is not None
    schedule = Schedule(
        student_steps=settings.student_steps,
        target_epochs=settings.target_epochs,
        start_epochs=settings.max_start_epoch,
        student_batch=settings.student_batch or settings.ipc * problem.raw.classes,
        teachers=job.teaching.teachers,
        steps=settings.steps,
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
        optimizer=_optimizer(settings),
        relative_alpha=settings.optimizer == "adam",
        operations=image_operations,
        parts=Parts(augment_fn=partial(augment, operations=job.data.operations)),
        masks=[make_mask(name, problem.network, by_share=by_share) for name in masks],
        weighted="learned" in masks,
    )


class _Real(NamedTuple):
    """What methods that read real images have in common.

    Attributes:
        network: the architecture.
        feed_fn: gives the training set.
        pool: its shapes.
        batch: real images of each class in an update.
        optimizer: of the pixels, without its rate.
        work: what the work of a step is estimated from.
    """

    network: Network
    feed_fn: Callable[[int, int], Feed]
    pool: Pool
    batch: int
    optimizer: optax.GradientTransformation
    work: Work


def _from_real_images(
    job: DistillJob, settings: RealConfig, sources: Sources, image_operations: float
) -> Method:
    problem = next(iter(sources.problems.values()))
    raw, network = problem.raw, problem.network
    smallest = int(np.bincount(raw.y_train).min())
    held: list[Feed] = []

    def feed_fn(seed: int, done: int) -> Feed:
        del seed, done  # All steps of all distillations draw from the same images.
        if not held:
            assert sources.dataset is not None
            held.append(RealImages(sources.dataset.x_train, sources.dataset.y_train))
        return held[0]

    own = _Real(
        network,
        feed_fn,
        pool_like(raw.x_train.shape[1:], raw.y_train),
        min(settings.real_batch, smallest),
        _optimizer(settings),
        Work(image_operations, settings.ipc),
    )
    if isinstance(settings, KernelConfig):
        return _kernel(job, settings, own, images=settings.ipc * raw.classes)
    if isinstance(settings, UnrolledConfig):
        return _unrolled(job, settings, own, images=settings.ipc * raw.classes)
    assert isinstance(settings, AugmentedConfig)
    operations = settings.operations(job.data.operations)
    augment_fn = partial(augment, operations=operations)
    if isinstance(settings, DistributionConfig):
        return match_distributions(
            network,
            feed_fn,
            pool=own.pool,
            real_batch=own.batch,
            optimizer=own.optimizer,
            augment_fn=augment_fn,
            work=own.work,
        )
    siamese = augment_fn if operations else None
    if isinstance(settings, GradientConfig):
        return match_gradients(
            network,
            feed_fn,
            pool=own.pool,
            real_batch=own.batch,
            optimizer=own.optimizer,
            loops=GradientLoops(*settings.loops, settings.network_rate, settings.network_batch),
            augment_fn=siamese,
            work=own.work,
        )
    assert isinstance(settings, AlignmentConfig)
    return _aligned(settings, own, siamese, smallest=smallest)


def _aligned(
    settings: AlignmentConfig, own: _Real, augment_fn: AugmentFn | None, *, smallest: int
) -> Method:
    return align_features(
        own.network,
        own.feed_fn,
        pool=own.pool,
        real_batch=own.batch,
        optimizer=own.optimizer,
        loops=AlignmentLoops(
            settings.settled,
            settings.moved,
            settings.network_rate,
            settings.network_batch,
            min(AlignmentLoops().queries, smallest),
            settings.steps,
        ),
        augment_fn=augment_fn,
        work=own.work,
    )


def _kernel(job: DistillJob, settings: KernelConfig, own: _Real, *, images: int) -> Method:
    return induce_points(
        infinite_of(job, settings),
        own.feed_fn,
        pool=own.pool,
        target_batch=own.batch,
        optimizer=own.optimizer,
        ridge=settings.ridge,
        learns_labels=settings.learn_labels,
        images=images,
    )


def _unrolled(job: DistillJob, settings: UnrolledConfig, own: _Real, *, images: int) -> Method:
    return unroll_truncated(
        own.network,
        own.feed_fn,
        pool=own.pool,
        target_batch=own.batch,
        optimizer=own.optimizer,
        inner=Inner(
            settings.window,
            settings.horizon,
            settings.placement,
            settings.network_rate,
            settings.network_optimizer == "adam",
            settings.student_batch or images,
        ),
        augment_fn=partial(augment, operations=job.data.operations),
        learns_labels=settings.learn_labels,
        operations=own.work.image,
    )


def infinite_of(job: DistillJob, settings: KernelConfig) -> Infinite:
    """The infinitely wide ConvNet of the job's depth."""
    return Infinite(job.model.depth, front=settings.front)


def _optimizer(settings: DistillConfig) -> optax.GradientTransformation:
    """What makes a direction of a gradient; the rates are hyperparameters of the method."""
    if settings.optimizer == "adam":
        return optax.scale_by_adam(b1=settings.momentum)
    return optax.trace(settings.momentum)


def _pixel_hparams(settings: DistillConfig) -> PixelHParams | UnrolledHParams:
    if isinstance(settings, UnrolledConfig):
        return UnrolledHParams(settings.pixel_rate, settings.label_rate)
    return PixelHParams(settings.pixel_rate)


def _mask_of(settings: DistillConfig) -> MaskName:
    """The mask of a distillation; that of MTT is the paper's, which keeps all at threshold 0."""
    assert isinstance(settings, TrajectoryConfig)
    return settings.mask if settings.prunes else "ratio"


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
