"""How long data and teachers take to be read, and what distillation steps wait for teachers:

    .venv/bin/python scripts/reading.py data --dataset cifar10 --data-dir DATA --zca
    .venv/bin/python scripts/reading.py teachers --teachers 20 --epochs 50
    .venv/bin/python scripts/reading.py images --gigabytes 2

`data` loads a dataset on to the device and prints the seconds of each stage; with --zca the
whitening is fitted the first time and read from --cache-dir after that. `teachers` writes random
trajectories of the paper's ConvNet (320,010 parameters) to a temporary folder, checks and reads
them, and distils random images from them, held on the device and streamed from disk. `images`
writes random 64x64 images to a temporary folder and trains a teacher on them for an epoch, in a
process of its own for each way of reading: streamed, and with --in-memory also held in memory.
"""

import argparse
import itertools
import resource
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

import jax
import numpy as np
import optax

from ddpp_jax import distill, teachers
from ddpp_jax.configs import DataConfig, ModelConfig, TeachConfig, TeachersJob
from ddpp_jax.data import fit_transform, load_raw, normalised, raw_dataset
from ddpp_jax.methods import (
    HParams,
    OnDevice,
    Schedule,
    Streamed,
    device_room,
    match_trajectories,
    read_all,
)
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.progress import Report
from ddpp_jax.storage import TeacherStore, gib

PAIRS = 100
"""How many starts and targets are read alone."""

SIDE = 64
"""Of the images that `images` writes."""


def seconds_of(work):
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def peak_memory():
    """The most bytes of memory that this program has held, that of its parent left out."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def load(given):
    """Load a dataset as a run does, stage by stage."""
    config = DataConfig(dataset=given.dataset, data_dir=given.data_dir, zca=given.zca)
    marks = [("start", time.perf_counter())]
    raw = load_raw(config)
    marks.append(("read", time.perf_counter()))
    transform = fit_transform(raw, zca=config.zca, cache_dir=given.cache_dir)
    marks.append(("transform fitted or read", time.perf_counter()))
    dataset = normalised(raw, transform)
    marks.append(("normalised", time.perf_counter()))
    arrays = (dataset.x_train, dataset.y_train, dataset.x_test, dataset.y_test)
    jax.block_until_ready(jax.device_put(arrays))
    marks.append(("on the device", time.perf_counter()))
    whole = marks[-1][1] - marks[0][1]
    for (_, before), (name, now) in itertools.pairwise(marks):
        print(f"{name}: {now - before:.1f} s ({(now - before) / whole:.2f} of the whole)")
    print(f"together: {whole:.1f} s, peak memory {peak_memory() / 1e9:.2f} GB")


def read_teachers(given):
    """Write, check and read a store, then distil from it."""
    generator = np.random.default_rng(0)
    network = make_network(ConvNet(classes=10), (32, 32, 3))
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name)
        store = TeacherStore(folder / "store")
        walk = generator.normal(0, 0.01, (given.epochs + 1, network.num_params)).astype(np.float32)
        walk = np.cumsum(walk, axis=0)
        time_store(store, walk, given.teachers, generator)
        time_steps(store, network, given, folder)


def time_store(store, walk, count, generator):
    """Write so many teachers that are almost `walk`, check them, and read a few epochs."""
    indices, size = range(count), count * walk.nbytes
    epochs, num_params = len(walk) - 1, walk.shape[1]
    written = seconds_of(lambda: [store.write(index, walk + index * 1e-3, {}) for index in indices])
    checked = seconds_of(lambda: [store.damaged(index) for index in indices])
    print(f"{count} teachers of {epochs} epochs, {gib(size)}")
    print(f"written: {written:.1f} s, {gib(size / written)} a second, checksums included")
    print(f"checked: {checked:.1f} s, {gib(size / checked)} a second ({checked / written:.2f})")
    drawn = zip(generator.integers(0, count, PAIRS), itertools.cycle(range(epochs)), strict=False)
    read = seconds_of(
        lambda: [store.read(int(t), (e, e + 1), num_params=num_params) for t, e in drawn]
    )
    print(f"a start and its target read alone: {read / PAIRS * 1e3:.1f} ms")


def time_steps(store, network, given, folder):
    """Distil from the store in each way that it can be read."""
    schedule = Schedule(
        student_steps=given.student_steps,
        target_epochs=2,
        start_epochs=given.epochs - 2,
        student_batch=10,
        teachers=given.teachers,
        steps=given.steps,
    )
    feeds = {"streamed from disk": partial(Streamed, store, network.num_params)}
    last = given.epochs - 1
    if given.teachers * (last + 1) * 4 * network.num_params <= device_room():
        held = read_all(store, given.teachers, last, num_params=network.num_params)
        feeds["held on the device"] = partial(OnDevice, held)
    else:
        print(f"epochs 0 to {last} are not held on the device: {gib(device_room())} to be had")
    dataset = random_dataset()
    start = distill.start_from(dataset, ipc=1, alpha=0.01, seed=0)
    for how, feed_fn in feeds.items():
        method = match_trajectories(
            network,
            lambda seed, plan, feed_fn=feed_fn: feed_fn(plan),
            schedule,
            optimizer=optax.trace(0.5),
        )
        out = folder / how.split()[0]
        outcome = distill.run(
            method,
            [distill.Member(how, 0, start, HParams(0.1, 1.0, 1e-7), out)],
            distill.Pace(given.steps),
            out,
            Report(None),
            seen=distill.pictured(dataset),
        )[how]
        step, share = outcome.seconds / given.steps, outcome.waited / outcome.seconds
        print(f"{how}: {step:.3f} s a step, {100 * share:.2f} % of it waiting for teachers")


def read_images(given):
    """Write images, and train an epoch on them in each way that they can be read."""
    with tempfile.TemporaryDirectory(dir=".") as name:
        folder = Path(name, "images")
        write_images(folder, int(given.gigabytes * 1e9))
        for how in ("stream", "device") if given.in_memory else ("stream",):
            command = [sys.executable, __file__, "epoch", "--folder", str(folder), "--how", how]
            subprocess.run([*command, "--width", str(given.width)], check=True)


def write_images(folder, size):
    """Random images of ten classes, and a few to test on, in `.npy` files."""
    folder.mkdir()
    count = size // (SIDE * SIDE * 3)
    generator = np.random.default_rng(0)
    for part, images in (("train", count), ("test", 500)):
        shape = (images, SIDE, SIDE, 3)
        array = np.lib.format.open_memmap(folder / f"x_{part}.npy", "w+", np.uint8, shape)
        for low in range(0, images, 1000):
            array[low : low + 1000] = generator.integers(
                0, 256, array[low : low + 1000].shape, np.uint8
            )
        np.save(folder / f"y_{part}.npy", np.arange(images) % 10)


def train_epoch(given):
    """An epoch of a teacher on the images of a folder, and the memory that the process took."""
    config = TeachersJob(
        data=DataConfig(dataset=str(given.folder)),
        model=ModelConfig(width=given.width, depth=4),
        teaching=TeachConfig(teachers=1, epochs=1),
    )
    began = time.perf_counter()
    raw = load_raw(config.data, images=given.how)
    dataset = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
    loaded = time.perf_counter()
    network = make_network(
        ConvNet(classes=10, width=given.width, depth=4, image_size=SIDE), (SIDE, SIDE, 3)
    )
    with tempfile.TemporaryDirectory(dir=".") as name:
        teachers.run(config, dataset, network, TeacherStore(Path(name)), Report(None))
    done = time.perf_counter()
    print(
        f"{given.how}: {len(raw.y_train):,} images of {SIDE}x{SIDE}x3, {gib(raw.x_train.size)}; "
        f"{loaded - began:.0f} s until they are ready, {done - loaded:.0f} s for an epoch of a "
        f"teacher of width {given.width}, peak memory {gib(peak_memory())}",
        flush=True,
    )


def random_dataset():
    """Two images for each of ten classes."""
    images = np.random.default_rng(1).integers(0, 256, (40, 32, 32, 3), dtype=np.uint8)
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


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(required=True, metavar="data|teachers|images")
    part = parts.add_parser("data", help="a dataset, on to the device")
    part.add_argument("--dataset", default="digits")
    part.add_argument("--data-dir")
    part.add_argument("--zca", action="store_true")
    part.add_argument("--cache-dir", type=Path, default=Path("runs/cache"))
    part.set_defaults(run=load)
    part = parts.add_parser("teachers", help="random teachers of the paper's size")
    part.add_argument("--teachers", type=int, default=20)
    part.add_argument("--epochs", type=int, default=50)
    part.add_argument("--steps", type=int, default=50, help="distillation steps")
    part.add_argument("--student-steps", type=int, default=2, help="few, so that reading shows")
    part.set_defaults(run=read_teachers)
    part = parts.add_parser("images", help="random images, streamed from disk")
    part.add_argument("--gigabytes", type=float, default=2.0)
    part.add_argument("--width", type=int, default=8, help="of the teachers")
    part.add_argument("--in-memory", action="store_true", help="also held in memory")
    part.set_defaults(run=read_images)
    part = parts.add_parser("epoch", help="the process that `images` starts for each way")
    part.add_argument("--folder", type=Path, required=True)
    part.add_argument("--how", choices=("stream", "device"), required=True)
    part.add_argument("--width", type=int, required=True)
    part.set_defaults(run=train_epoch)
    given = parser.parse_args()
    given.run(given)


if __name__ == "__main__":
    main()
