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
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax

from ddpp_jax import (
    augment,
    difference_mask,
    distill,
    evaluate,
    kept_fraction,
    teachers,
)
from ddpp_jax.configs import DIGITS, DistillJob
from ddpp_jax.data import fit_transform, load_raw, normalised
from ddpp_jax.methods import (
    HParams,
    OnDevice,
    Parts,
    Schedule,
    make_mask,
    match_trajectories,
)
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.progress import Report
from ddpp_jax.storage import TeacherStore, read_rows

THRESHOLD = 0.1


def by_layer(key, student, target, threshold, *, network):
    """A mask of one's own: of each tensor the same share, those that differ most."""
    rule = make_mask("ratio", network)
    kept = kept_fraction(rule(key, student, target, threshold))
    trees = network.unflatten(student), network.unflatten(target)
    mask = jax.tree.map(lambda s, t: difference_mask(s, t, kept=kept), *trees)
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(mask)])


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
    parser.add_argument("--eval-epochs", type=int, default=200, help="of each evaluation")
    given = parser.parse_args()

    settings = dataclasses.replace(
        DIGITS.distillation, steps=given.steps, student_steps=10, max_start_epoch=5
    )
    teaching = dataclasses.replace(DIGITS.teaching, teachers=4, epochs=8)
    evaluation = dataclasses.replace(DIGITS.evaluation, eval_epochs=given.eval_epochs)
    model = dataclasses.replace(DIGITS.model, width=16)
    job: DistillJob = dataclasses.replace(
        DIGITS, model=model, teaching=teaching, distillation=settings, evaluation=evaluation
    )
    raw = load_raw(job.data)
    dataset = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
    network = make_network(
        ConvNet(classes=10, width=16, depth=2, image_size=8, channels=1), (8, 8, 1)
    )
    trajectories = jnp.asarray(trained(job, dataset, network))

    variants = {
        "ratio (the paper)": {"mask_fn": make_mask("ratio", network)},
        "difference": {"mask_fn": make_mask("difference-largest", network)},
        "difference, each tensor": {"mask_fn": partial(by_layer, network=network)},
        "random, same count": {"mask_fn": make_mask("random", network)},
        "none (MTT)": {"mask_fn": make_mask("none", network)},
        "ratio, student with momentum": {"optimizer_fn": with_momentum},
    }
    print(f"{'variant':30} accuracy, %  loss   kept, %")
    operations = job.data.operations
    schedule = Schedule(
        student_steps=10,
        target_epochs=2,
        start_epochs=5,
        student_batch=10,
        teachers=4,
        steps=given.steps,
    )
    procedure = evaluate.Procedure(job.evaluation, operations, classes=10)
    tests = {"test": (dataset.x_test, dataset.y_test)}
    start = distill.start_from(dataset, ipc=1, alpha=settings.alpha, seed=0)
    hparams = HParams(THRESHOLD, settings.pixel_rate, settings.alpha_rate)
    for name, replaced in variants.items():
        method = match_trajectories(
            network,
            lambda seed, plan: OnDevice(trajectories, plan),
            schedule,
            optimizer=optax.trace(settings.momentum),
            parts=Parts(augment_fn=partial(augment, operations=operations), **replaced),
        )
        with tempfile.TemporaryDirectory() as folder:
            member = distill.Member(name, 0, start, hparams, Path(folder))
            found = distill.run(
                method,
                [member],
                distill.Pace(given.steps),
                Path(folder),
                Report(None),
                seen=distill.pictured(dataset),
            )
            rows = read_rows(Path(folder) / "metrics.jsonl")
        small = found[name].distilled
        evaluation = evaluate.run(
            jax.random.key(0), procedure, network, small, tests, Report(None)
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
