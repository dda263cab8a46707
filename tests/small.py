"""A problem so small that every stage runs on it in seconds."""

import dataclasses
import functools
from functools import partial

import jax.numpy as jnp
import numpy as np
import optax

from ddpp_jax import distill
from ddpp_jax.configs import (
    DataConfig,
    DistillJob,
    EvaluateConfig,
    ModelConfig,
    TeachConfig,
    TrajectoryConfig,
)
from ddpp_jax.core import augment
from ddpp_jax.data import (
    fit_transform,
    normalised,
    raw_dataset,
    transform_arrays,
    undo,
)
from ddpp_jax.methods import HParams, OnDevice, Parts, Schedule, match_trajectories
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet

CONFIG = DistillJob(
    data=DataConfig(augment="flip"),
    model=ModelConfig(width=4, depth=1),
    teaching=TeachConfig(teachers=2, epochs=3, teacher_batch=16, teacher_rate=0.1),
    distillation=TrajectoryConfig(
        ipc=2,
        student_steps=3,
        target_epochs=1,
        max_start_epoch=2,
        steps=6,
        pixel_rate=1.0,
        eval_every=3,
    ),
    evaluation=EvaluateConfig(networks=2, eval_epochs=4),
    random_draws=1,
)


@functools.cache
def dataset():
    """Three classes of 4x4 images: bright rows, bright columns, noise."""
    generator = np.random.default_rng(0)
    labels = np.arange(60) % 3
    images = generator.uniform(0, 0.4, (60, 4, 4, 1)).astype(np.float32)
    images[labels == 0, ::2] += 0.6
    images[labels == 1, :, ::2] += 0.6
    raw = raw_dataset(
        name="stripes",
        class_names=("rows", "columns", "noise"),
        x_train=images[:40],
        y_train=labels[:40],
        x_test=images[40:],
        y_test=labels[40:],
    )
    return normalised(raw, fit_transform(raw, zca=False, cache_dir=None))


def fresh_network():
    """One whose functions JAX has not seen yet, so that what is traced is traced anew."""
    return make_network(ConvNet(classes=3, width=4, depth=1, image_size=4, channels=1), (4, 4, 1))


@functools.cache
def network():
    return fresh_network()


def trajectories(network, teachers=2, snapshots=4):
    """Random walks that stand in for teachers."""
    generator = np.random.default_rng(1)
    steps = generator.normal(0, 0.1, (teachers, snapshots, network.num_params))
    return jnp.asarray(np.cumsum(steps, axis=1), jnp.float32)


def pairs_fn(network):
    """Starts and targets from those random walks, whatever the seed of the teachers is."""
    return lambda seed, plan: OnDevice(trajectories(network), plan)


def distillation(**changes):
    return dataclasses.replace(CONFIG.distillation, **changes)


def schedule(settings=CONFIG.distillation):
    """What the settings of a distillation say of its students."""
    return Schedule(
        student_steps=settings.student_steps,
        target_epochs=settings.target_epochs,
        start_epochs=settings.max_start_epoch,
        student_batch=settings.student_batch or 3 * settings.ipc,
        teachers=CONFIG.teaching.teachers,
        steps=settings.steps,
    )


def method(settings=CONFIG.distillation, pairs=None, operations=("flip",), **parts):
    """Trajectory matching on the small problem, made once, so that it is compiled once."""
    return _method(settings, pairs, operations, tuple(parts.items()))


@functools.cache
def _method(settings, pairs, operations, parts):
    net = network()
    own = {"augment_fn": partial(augment, operations=operations)} | dict(parts)
    return match_trajectories(
        net,
        pairs or pairs_fn(net),
        schedule(settings),
        optimizer=optax.trace(settings.momentum),
        parts=Parts(**own),
    )


def hparams(settings=CONFIG.distillation):
    return HParams(settings.threshold or 0.0, settings.pixel_rate, settings.alpha_rate)


def start(settings=CONFIG.distillation, seed=0):
    """Real images to start from."""
    return distill.start_from(dataset(), ipc=settings.ipc, alpha=settings.alpha, seed=seed)


def member(folder, settings=CONFIG.distillation, seed=0, name="DDPP", **origin):
    return distill.Member(
        name, seed, start(settings, seed), hparams(settings), folder, {"method": name, **origin}
    )


def run(folder, members, settings=CONFIG.distillation, *, which="last", **options):
    """Distil some members; `method` and `evaluate_fn` may be given."""
    return distill.run(
        options.pop("method", None) or method(settings),
        members,
        distill.Pace(settings.steps, settings.eval_every, which),
        folder,
        Report(None),
        seen=distill.pictured(dataset()),
        **options,
    )


def two_of_each(raw):
    """The places of the first two training images of each class."""
    return np.concatenate([np.flatnonzero(raw.y_train == n)[:2] for n in range(raw.classes)])


def distilled_like(raw, transform, images):
    """A set of such images, as a distillation that began from `two_of_each` would leave it."""
    return DistilledSet(
        images=images,
        pixels=undo(transform, images),
        labels=raw.y_train[two_of_each(raw)],
        alpha=0.05,
        class_names=raw.class_names,
        transform=transform_arrays(transform),
        origin={"method": "ours"},
    )
