"""How teachers at the paper's size are written, checked and read, and what the steps wait for them.

Writes a store of random trajectories of the paper's ConvNet (320,010 parameters) to a temporary
folder, then distils random images from it, held on the device and streamed from disk:

    .venv/bin/python scripts/bench_reading.py --teachers 20 --epochs 50
"""

import argparse
import tempfile
import time
from functools import partial
from pathlib import Path

import numpy as np

from ddpp_jax import distill
from ddpp_jax.configs import DataConfig, DistillConfig, DistillJob, TeachConfig
from ddpp_jax.data import fit_transform, normalised, raw_dataset
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.progress import Report
from ddpp_jax.storage import OnDevice, Streamed, TeacherStore, device_room, gib, read_all


def random_dataset(generator):
    images = generator.integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(40) % 10
    raw = raw_dataset(
        name="random",
        class_names=tuple("0123456789"),
        x_train=images[:20],
        y_train=labels[:20],
        x_test=images[20:],
        y_test=labels[20:],
    )
    return normalised(raw, fit_transform(raw, zca=False, cache_dir=None))


def seconds_of(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--teachers", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=50)
    parser.add_argument("--steps", type=int, default=50, help="distillation steps")
    parser.add_argument("--student-steps", type=int, default=2, help="few, so that reading shows")
    given = parser.parse_args()
    generator = np.random.default_rng(0)
    network = make_network(ConvNet(classes=10), (32, 32, 3))
    job = DistillJob(
        data=DataConfig(augment="none"),
        teaching=TeachConfig(teachers=given.teachers, epochs=given.epochs),
        distillation=DistillConfig(
            student_steps=given.student_steps,
            max_start_epoch=given.epochs - 2,
            steps=given.steps,
            pixel_rate=1.0,
            eval_every=0,
        ),
    )
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        store = TeacherStore(folder / "store")
        walk = generator.normal(0, 0.01, (given.epochs + 1, network.num_params)).astype(np.float32)
        walk = np.cumsum(walk, axis=0)
        teachers = range(given.teachers)
        written = seconds_of(
            lambda: [store.write(index, walk + index * 1e-3, {}) for index in teachers]
        )
        size = given.teachers * walk.nbytes
        checked = seconds_of(lambda: [store.damaged(index) for index in teachers])
        print(f"{given.teachers} teachers of {given.epochs} epochs, {gib(size)}")
        print(f"written: {written:.1f} s, {gib(size / written)} a second, checksums included")
        print(f"checked: {checked:.1f} s, {gib(size / checked)} a second")
        pairs = list(zip(generator.integers(0, given.teachers, 100), range(100), strict=True))
        read = seconds_of(
            lambda: [
                store.read(
                    int(t), (e % given.epochs, e % given.epochs + 1), num_params=walk.shape[1]
                )
                for t, e in pairs
            ]
        )
        print(f"a start and its target read alone: {read / len(pairs) * 1e3:.1f} ms")
        feeds = {"streamed from disk": partial(Streamed, store, network.num_params)}
        last = job.distillation.last_target
        if given.teachers * (last + 1) * walk[0].nbytes <= device_room():
            held = read_all(store, given.teachers, last, num_params=network.num_params)
            feeds["held on the device"] = partial(OnDevice, held)
        else:
            print(f"epochs 0 to {last} are not held on the device: {gib(device_room())} to be had")
        for how, feed_fn in feeds.items():
            outcome = distill.run(
                job, random_dataset(generator), network, feed_fn, folder / how[:4], Report(None)
            )
            step, share = outcome.seconds / given.steps, outcome.waited / outcome.seconds
            print(f"{how}: {step:.3f} s a step, {100 * share:.2f} % of it waiting for teachers")


if __name__ == "__main__":
    main()
