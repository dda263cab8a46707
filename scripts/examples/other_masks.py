"""Other masks and another inner optimiser in place of the paper's, each a function argument.

On the digits: pruning by ratio (the paper), by difference, by difference within each tensor, at
random with the paper's count, and none (MTT); then the ratio with a student that has momentum. All
from the same teachers and the same draws. Random pruning is the control that a claim about pruning
needs:

    .venv/bin/python scripts/examples/other_masks.py
"""

import argparse
import dataclasses
import tempfile
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpp_jax import (
    difference_mask,
    distill,
    evaluate,
    kept_fraction,
    prune_mask,
    random_mask,
    teachers,
)
from ddpp_jax.configs import DIGITS, DistillJob
from ddpp_jax.data import fit_transform, load_raw, normalised
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.progress import Report
from ddpp_jax.storage import OnDevice, TeacherStore, read_rows

THRESHOLD = 0.1


def by_ratio(key, student, target):
    return prune_mask(student, target, threshold=THRESHOLD)


def by_difference(key, student, target):
    return difference_mask(student, target, kept=kept_fraction(by_ratio(key, student, target)))


def by_layer(key, student, target, *, unflatten):
    """The same share of each tensor, those that differ most."""
    kept = kept_fraction(by_ratio(key, student, target))
    trees = unflatten(student), unflatten(target)
    mask = jax.tree.map(lambda s, t: difference_mask(s, t, kept=kept), *trees)
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(mask)])


def at_random(key, student, target):
    return random_mask(key, by_ratio(key, student, target))


def none(key, student, target):
    return jnp.ones(student.shape, bool)


def with_momentum(alpha):
    return optax.sgd(alpha / 2, momentum=0.5)


def trained(job, dataset, network):
    """Teachers' parameters, as a stage of the library trains and keeps them."""
    with tempfile.TemporaryDirectory() as folder:
        store = TeacherStore(Path(folder))
        teachers.run(job, dataset, network, store, Report(None))
        epochs = range(job.teaching.epochs + 1)
        count = job.teaching.teachers
        return np.stack(
            [store.read(index, epochs, num_params=network.num_params) for index in range(count)]
        )


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=150, help="distillation steps of each")
    given = parser.parse_args()

    settings = dataclasses.replace(
        DIGITS.distillation, steps=given.steps, student_steps=10, max_start_epoch=5
    )
    teaching = dataclasses.replace(DIGITS.teaching, teachers=4, epochs=8)
    schedule = dataclasses.replace(DIGITS.evaluation, eval_epochs=200)
    model = dataclasses.replace(DIGITS.model, width=16)
    job: DistillJob = dataclasses.replace(
        DIGITS, model=model, teaching=teaching, distillation=settings, evaluation=schedule
    )
    raw = load_raw(job.data)
    dataset = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
    network = make_network(
        ConvNet(classes=10, width=16, depth=2, image_size=8, channels=1), (8, 8, 1)
    )
    trajectories = jnp.asarray(trained(job, dataset, network))

    variants = {
        "ratio (the paper)": {"mask_fn": by_ratio},
        "difference": {"mask_fn": by_difference},
        "difference, each tensor": {
            "mask_fn": lambda *xs: by_layer(*xs, unflatten=network.unflatten)
        },
        "random, same count": {"mask_fn": at_random},
        "none (MTT)": {"mask_fn": none},
        "ratio, student with momentum": {"mask_fn": by_ratio, "optimizer_fn": with_momentum},
    }
    print(f"{'variant':30} accuracy, %  loss   kept, %")
    for name, seams in variants.items():
        with tempfile.TemporaryDirectory() as folder:
            outcome = distill.run(
                job,
                dataset,
                network,
                lambda plan: OnDevice(trajectories, plan),
                Path(folder),
                Report(None),
                seams=seams,
            )
            rows = read_rows(Path(folder) / "metrics.jsonl")
        small = outcome.distilled
        evaluation = evaluate.run(
            jax.random.key(0),
            job.evaluation,
            {"test": (dataset.x_test, dataset.y_test)},
            network,
            small.images,
            small.labels,
            small.alpha,
            Report(None),
            classes=10,
            operations=job.data.operations,
        )["test"]
        loss, kept = (
            np.mean([row[n] for row in rows[1:][-20:]]) for n in ("loss", "kept_fraction")
        )
        print(
            f"{name:30} {100 * evaluation.mean:4.1f} ± {100 * evaluation.std:3.1f}   {loss:.3f}  "
            f"{100 * kept:5.1f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
