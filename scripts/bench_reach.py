"""Which cells of the paper's Tables 1 and 4 this machine reaches in a night, by short trials.

Prints a Markdown table. The images are made up: nothing is read but the sizes of the datasets.
"""

import argparse
import dataclasses
import types
from pathlib import Path

import numpy as np

from ddpp_jax.configs import setting
from ddpp_jax.networks import make_model, make_network
from ddpp_jax.planning import trial, work
from ddpp_jax.storage import TeacherStore

CELLS = (
    *(f"cifar10-ipc{n}" for n in (1, 10, 50)),
    *(f"cifar100-ipc{n}" for n in (1, 10, 50)),
    *(f"cxr-ipc{n}" for n in (1, 5, 10, 20)),
)
SIZES = {  # Training images, test images, side, channels, classes.
    "cifar10": (50_000, 10_000, 32, 3, 10),
    "cifar100": (50_000, 10_000, 32, 3, 100),
    "chest_xray": (16_932, 4_233, 112, 1, 4),  # The paper's four classes, a fifth to test on.
}


def problem_of(job):
    """The job's problem on images that are never looked at."""
    train, test, side, channels, classes = SIZES[job.data.dataset]
    raw = types.SimpleNamespace(
        x_train=np.broadcast_to(np.uint8(0), (train, side, side, channels)),
        y_train=np.broadcast_to(np.int32(0), train),
        y_test=np.broadcast_to(np.int32(0), test),
        classes=classes,
    )
    model = make_model("convnet", job.model, classes=classes, image_size=side, channels=channels)
    network = make_network(model, (side, side, channels))
    return types.SimpleNamespace(raw=raw, network=network, store=TeacherStore(Path("nowhere")))


def row(name, teachers, hours):
    """A line of the table."""
    job = setting(name)
    last = job.distillation.last_target
    teaching = dataclasses.replace(job.teaching, teachers=teachers, epochs=last)
    job = dataclasses.replace(job, teaching=teaching)
    problem = problem_of(job)
    costs = trial.seconds(job, problem)
    first = costs.of(work.teaching(teachers, last))
    left = hours * 3600 - first - 2 * costs.evaluation
    steps = max(0, int(left / costs.step))
    return (
        f"| {name} | {last} | {costs.epoch:.0f} | {first / 3600:.1f} | {costs.step:.1f} | "
        f"{costs.evaluation / 60:.0f} | {steps:,} |"
    )


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--teachers", type=int, default=20, help="how many for each cell")
    parser.add_argument("--hours", type=float, default=10.0, help="of a night")
    parser.add_argument("--only", default="", help="cells whose name holds this")
    given = parser.parse_args()
    print(
        f"| cell | teacher epochs read | a teacher's epoch, s | {given.teachers} teachers, h | "
        "a distillation step, s | an evaluation, min | "
        f"steps of one method in {given.hours:g} h |"
    )
    print("|---|---|---|---|---|---|---|")
    for name in CELLS:
        if given.only in name:
            print(row(name, given.teachers, given.hours), flush=True)


if __name__ == "__main__":
    main()
