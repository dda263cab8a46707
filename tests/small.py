"""A problem so small that every stage runs on it in seconds."""

import dataclasses
from functools import partial

import jax.numpy as jnp
import numpy as np

from ddpp_jax.configs import (
    DataConfig,
    DistillConfig,
    DistillJob,
    EvaluateConfig,
    ModelConfig,
    TeachConfig,
)
from ddpp_jax.data import fit_transform, normalised, raw_dataset
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.storage import OnDevice

CONFIG = DistillJob(
    data=DataConfig(augment="flip"),
    model=ModelConfig(width=4, depth=1),
    teaching=TeachConfig(teachers=2, epochs=3, teacher_batch=16, teacher_rate=0.1),
    distillation=DistillConfig(
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


def network():
    return make_network(ConvNet(classes=3, width=4, depth=1, image_size=4, channels=1), (4, 4, 1))


def trajectories(network, teachers=2, snapshots=4):
    """Random walks that stand in for teachers."""
    generator = np.random.default_rng(1)
    steps = generator.normal(0, 0.1, (teachers, snapshots, network.num_params))
    return jnp.asarray(np.cumsum(steps, axis=1), jnp.float32)


def feed_fn(network):
    """A feed of those random walks."""
    return partial(OnDevice, trajectories(network))


def distillation(**changes):
    return dataclasses.replace(CONFIG.distillation, **changes)
