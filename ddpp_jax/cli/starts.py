"""What distillations start from: images, and what teachers say of them."""

import functools
from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool

from ddpp_jax import distill
from ddpp_jax._types import Images, Logits, Params
from ddpp_jax.cli.methods import Sources
from ddpp_jax.configs import (
    TEACHERS_LABELS,
    DistillConfig,
    DistillJob,
    RealConfig,
    TrajectoryConfig,
    UnrolledConfig,
)
from ddpp_jax.data import Dataset, on_device
from ddpp_jax.errors import InputError
from ddpp_jax.methods import teacher_labels
from ddpp_jax.networks import Network
from ddpp_jax.planning.problem import teacher_params
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import predictions

Chosen: TypeAlias = Bool[np.ndarray, " images"]


def start_of(
    settings: DistillConfig, dataset: Dataset, seed: int, among: Chosen | None = None
) -> DistilledSet:
    """What a distillation starts from.

    Args:
        settings: of the distillation.
        dataset: the real data, normalised.
        seed: of the draw.
        among: whether each training image may be drawn; None allows all.
    """
    noise = None
    if isinstance(settings, RealConfig) and settings.start == "noise":
        noise = "unit" if isinstance(settings, UnrolledConfig) else "data"
    return distill.start_from(
        dataset, ipc=settings.ipc, alpha=settings.alpha, seed=seed, noise=noise, among=among
    )


def starter(
    job: DistillJob, sources: Sources, dataset: Dataset
) -> Callable[[DistillConfig, int], DistilledSet]:
    """`start_fn(settings, seed)`, what a distillation of the job starts from.

    What teachers say of images is worked out once for each seed, which decides the images.
    """
    labels: dict[int, Any] = {}
    correct = functools.cache(lambda seed: _classified(job, sources, dataset, seed))

    def start_fn(settings: DistillConfig, seed: int) -> DistilledSet:
        among = correct(seed) if _wants_correct(settings) else None
        start = start_of(settings, dataset, seed, among)
        if seed not in labels:
            labels[seed] = labelled(start, job, sources, seed).labels
        return start._replace(labels=labels[seed])

    return start_fn


def labelled(start: DistilledSet, job: DistillJob, sources: Sources, seed: int) -> DistilledSet:
    """The set with the labels that the teachers give to its images, where labels are learned.

    Args:
        start: what a distillation starts from.
        job: its settings.
        sources: the teachers.
        seed: of the teachers.
    """
    if job.distillation.soft_labels != TEACHERS_LABELS:
        return start
    problem, last = sources.problems[seed], job.teaching.last_kept
    network, images = problem.network, jnp.asarray(start.images)
    parts = network.parts(len(images))
    found = [
        _logits(teacher_params(problem, n, last), images, network=network, parts=parts)
        for n in range(job.teaching.teachers)
    ]
    labels = teacher_labels(jnp.stack(found), jnp.asarray(start.labels))
    return start._replace(labels=np.asarray(labels))


@partial(jax.jit, static_argnames=("network", "parts"))
def _logits(params: Params, images: Images, *, network: Network, parts: int) -> Logits:
    """What a network makes of the images, one part after another."""
    cut = images.reshape(parts, -1, *images.shape[1:])
    found = jax.lax.map(partial(network.apply_fn, params), cut)
    return found.reshape(len(images), -1)


def _wants_correct(settings: DistillConfig) -> bool:
    return isinstance(settings, TrajectoryConfig) and settings.start_images == "correct"


def _classified(job: DistillJob, sources: Sources, dataset: Dataset, seed: int) -> Chosen:
    """Whether most teachers put each training image into its class, after the last kept epoch.

    DATM (ICLR 2024) asks one teacher.

    Raises:
        InputError: of a class there are too few such images.
    """
    problem, last = sources.problems[seed], job.teaching.last_kept
    network, images = problem.network, on_device(dataset.x_train)
    votes = np.zeros(len(dataset.y_train), int)
    for number in range(job.teaching.teachers):
        params = jax.tree.map(lambda leaf: leaf[None], teacher_params(problem, number, last))
        found = predictions(params, images, apply_fn=network.apply_fn, parts_fn=network.parts)
        votes += np.asarray(found[0]) == dataset.y_train
    correct = 2 * votes > job.teaching.teachers
    counts = np.bincount(dataset.y_train[correct], minlength=dataset.classes)
    for name, count in zip(dataset.class_names, counts, strict=True):
        if count < job.distillation.ipc:
            raise InputError(
                f"most teachers put {count} training images of class {name} right, fewer than "
                f"--ipc {job.distillation.ipc}; give more --epochs, or --start-images any"
            )
    return correct
