"""The methods that read real images, made from a job's settings."""

from functools import partial

import numpy as np
import optax

from ddpp_jax.configs import (
    AlignmentConfig,
    AugmentedConfig,
    DataConfig,
    DistillConfig,
    DistillJob,
    DistributionConfig,
    GradientConfig,
    KernelConfig,
    RealConfig,
    UnrolledConfig,
)
from ddpp_jax.core import augment
from ddpp_jax.data import Dataset, ImageArray, Numbers, Stored, numbers_like
from ddpp_jax.methods import (
    AlignmentLoops,
    Feed,
    GradientLoops,
    Inner,
    Method,
    PixelHParams,
    RealImages,
    RealSource,
    Room,
    UnrolledHParams,
    Work,
    align_features,
    induce_points,
    match_distributions,
    match_gradients,
    pool_like,
    unroll_truncated,
)
from ddpp_jax.networks import Infinite
from ddpp_jax.planning.problem import Problem


def from_real_images(
    job: DistillJob,
    settings: RealConfig,
    problem: Problem,
    dataset: Dataset | None,
    image_operations: float,
    room: Room | None = None,
) -> Method:
    """A method that reads real images.

    Args:
        job: what is asked for.
        settings: of the method.
        problem: the data as they came, and the network.
        dataset: the data as networks see them; None where nothing is read yet.
        image_operations: of a forward pass of one image, where the time is to be told.
        room: how large the pool of real images is made; None takes what they need.
    """
    raw, network = problem.raw, problem.network
    smallest = int(np.bincount(raw.y_train).min())
    held: list[Feed] = []

    def feed_fn(seed: int, done: int) -> Feed:
        del seed, done  # All steps of all distillations draw from the same images.
        if not held:
            assert dataset is not None
            held.append(RealImages(dataset.x_train, dataset.y_train, room))
        return held[0]

    source = RealSource(
        feed_fn,
        pool_like(raw.x_train.shape[1:], raw.y_train, room, stored=_hosted(raw.x_train, job.data)),
        min(settings.real_batch, smallest),
        Work(image_operations, settings.ipc),
    )
    optimizer = optimizer_of(settings)
    if isinstance(settings, KernelConfig):
        return induce_points(
            infinite_of(job, settings),
            source,
            optimizer=optimizer,
            ridge=settings.ridge,
            learns_labels=settings.learn_labels,
        )
    if isinstance(settings, UnrolledConfig):
        return unroll_truncated(
            network,
            source,
            optimizer=optimizer,
            inner=_inner(job, settings, images=settings.ipc * raw.classes),
            learns_labels=settings.learn_labels,
        )
    assert isinstance(settings, AugmentedConfig)
    operations = settings.operations(job.data.operations)
    augment_fn = partial(augment, operations=operations)
    if isinstance(settings, DistributionConfig):
        return match_distributions(network, source, optimizer=optimizer, augment_fn=augment_fn)
    siamese = augment_fn if operations else None
    if isinstance(settings, GradientConfig):
        loops = GradientLoops(*settings.loops, settings.network_rate, settings.network_batch)
        return match_gradients(
            network, source, optimizer=optimizer, loops=loops, augment_fn=siamese
        )
    assert isinstance(settings, AlignmentConfig)
    return align_features(
        network,
        source,
        optimizer=optimizer,
        loops=AlignmentLoops(
            settings.settled,
            settings.moved,
            settings.network_rate,
            settings.network_batch,
            min(AlignmentLoops().queries, smallest),
            settings.steps,
        ),
        augment_fn=siamese,
    )


def _hosted(images: ImageArray, data: DataConfig) -> tuple[Stored, Numbers] | None:
    """Images that stay on the host, and the shapes of what normalises them; None if they do not."""
    if not isinstance(images, Stored):
        return None
    zca, contrast = data.zca, data.contrast
    return images, numbers_like(images.pixel, images.image_shape, zca=zca, contrast=contrast)


def _inner(job: DistillJob, settings: UnrolledConfig, *, images: int) -> Inner:
    """How networks are trained on so many distilled images."""
    return Inner(
        settings.window,
        settings.horizon,
        settings.placement,
        settings.network_rate,
        settings.network_optimizer == "adam",
        settings.student_batch or images,
        partial(augment, operations=job.data.operations),
    )


def infinite_of(job: DistillJob, settings: KernelConfig) -> Infinite:
    """The infinitely wide ConvNet of the job's depth."""
    return Infinite(job.model.depth, front=settings.front)


def optimizer_of(settings: DistillConfig) -> optax.GradientTransformation:
    """What makes a direction of a gradient; the rates are hyperparameters of the method."""
    if settings.optimizer == "adam":
        return optax.scale_by_adam(b1=settings.momentum)
    return optax.trace(settings.momentum)


def pixel_hparams(settings: DistillConfig) -> PixelHParams | UnrolledHParams:
    """The numbers in which distillations by such a method may differ."""
    if isinstance(settings, UnrolledConfig):
        return UnrolledHParams(settings.pixel_rate, settings.label_rate)
    return PixelHParams(settings.pixel_rate)
