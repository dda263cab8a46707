"""What lies around the distillation steps, each as a number from one run:

    .venv/bin/python scripts/bench_waste.py

Steps in one dispatch against one a dispatch, with and without reading the loss after each; donated
buffers; traces; the second start of a process with the compilation cache; a sweep as one program
against one program a member.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp

from ddpp_jax import distill
from ddpp_jax.configs import DIGITS
from ddpp_jax.distill.steps import advance_all, varied
from ddpp_jax.networks import ConvNet, make_network

STEPS, ROUNDS = 25, 7
THRESHOLDS = (0.0, 0.05, 0.1, 0.2)
START = """
import sys, time
sys.path.insert(0, {scripts!r})
import jax
from pathlib import Path
from ddpp_jax.planning.programs import keep_programs
keep_programs(Path({folder!r}))
from bench_cases import MAIN, Ours
print(Ours(MAIN[0], "-").compile_seconds)
"""


def as_it_is(key, images):
    return images


def problem():
    """The digits' distillation steps, traced afresh, and what they take."""
    network = make_network(
        ConvNet(classes=10, width=32, depth=2, image_size=8, channels=1), (8, 8, 1)
    )
    config, traces = DIGITS.distillation, []
    optimizer = distill.make_optimizer(config)

    def counted(key, images):
        traces.append(images.shape)
        return images

    images = jax.random.normal(jax.random.key(0), (10, 8, 8, 1))
    state = distill.init(images, alpha=0.04, optimizer=optimizer)
    start = 0.05 * jax.random.normal(jax.random.key(1), (STEPS, network.num_params))
    pairs = start, start + 0.01 * jax.random.normal(jax.random.key(2), start.shape)
    how = {"network": network, "config": config, "augment_fn": counted}
    return network, config, optimizer, state, pairs, how, traces


def in_turn(ways, rounds=ROUNDS):
    """Median seconds of each way, after a first call, over rounds that take turns."""
    seconds = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            if number:
                seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(found) for name, found in seconds.items()}


def dispatches():
    _, _, optimizer, state, pairs, how, traces = problem()
    labels, key = jnp.arange(10), jax.random.key(3)
    program = jax.jit(partial(distill.advance, key, optimizer=optimizer, **how))

    rolled = [[jnp.roll(side, -low, axis=0) for side in pairs] for low in range(STEPS)]
    jax.block_until_ready(rolled)

    def run(cut, *, read):
        now = state
        for low in range(0, STEPS, cut):
            now, info = program(now, labels, jnp.int32(low), jnp.int32(cut), *rolled[low])
            if read:
                float(info.match.loss[0])
        jax.block_until_ready(now)

    once = f"{STEPS} steps a dispatch"
    found = in_turn(
        {
            once: partial(run, STEPS, read=True),
            "one step a dispatch": partial(run, 1, read=False),
            "one step a dispatch, its loss read": partial(run, 1, read=True),
        }
    )
    for name, seconds in found.items():
        ratio = seconds / found[once]
        print(f"{name}: {1e3 * seconds / STEPS:.2f} ms a step ({ratio:.2f})")
    traced = len(traces)
    run(5, read=False)
    print(f"new traces for another cut: {len(traces) - traced}")


def donation():
    network = make_network(ConvNet(classes=10), (32, 32, 3))
    config = DIGITS.distillation
    optimizer = distill.make_optimizer(config)
    images = jnp.zeros((500, 32, 32, 3))
    state = distill.init(images, alpha=0.04, optimizer=optimizer)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    pairs = jax.ShapeDtypeStruct((2, network.num_params), jnp.float32)
    many = partial(
        distill.advance,
        jax.random.key(0),
        network=network,
        optimizer=optimizer,
        config=config,
        augment_fn=as_it_is,
    )
    for donated in ((), (0,)):
        program = jax.jit(many, donate_argnums=donated)
        size = program.lower(state, jnp.arange(500), number, number, pairs, pairs).compile()
        found = size.memory_analysis()
        total = found.argument_size_in_bytes + found.output_size_in_bytes
        total += found.temp_size_in_bytes - found.alias_size_in_bytes
        name = "donated" if donated else "not donated"
        print(f"state of 500 images at 32x32x3 {name}: {total / 2**20:.1f} MiB in all")


def starts():
    with tempfile.TemporaryDirectory() as folder:
        code = START.format(scripts=str(Path(__file__).resolve().parent), folder=folder)
        seconds = []
        for _ in range(2):
            began = time.perf_counter()
            done = subprocess.run(
                [sys.executable, "-c", code], check=True, capture_output=True, text=True
            )
            seconds.append((time.perf_counter() - began, float(done.stdout)))
    (first, compiled), (second, found) = seconds
    print(
        f"a process that builds the step of width 128: {first:.1f} s, of them {compiled:.1f} s to "
        f"trace and compile; the next one {second:.1f} s, {found:.1f} s"
    )


def sweep():
    _, config, _, state, pairs, how, _ = problem()
    count, labels = len(THRESHOLDS), jnp.arange(10)
    differing = jax.tree.map(lambda x: jnp.full(count, x, jnp.float32), varied(config))
    differing = differing._replace(threshold=jnp.asarray(THRESHOLDS))
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * count), (state, tuple(pairs)))
    members = (jnp.stack([jax.random.key(3)] * count), stacked[0], differing, stacked[1])
    others = {name: value for name, value in how.items() if name != "config"}

    def one_program():
        piece = (labels, jnp.int32(0), jnp.int32(STEPS))
        jax.block_until_ready(advance_all(members, [piece], **how))

    def alone(threshold):
        own = replace(config, threshold=threshold or None)
        optimizer = distill.make_optimizer(own)
        program = partial(distill.advance, optimizer=optimizer, config=own, **others)
        return jax.jit(program)

    programs = [alone(threshold) for threshold in THRESHOLDS]

    def one_each():
        for program in programs:
            numbers = jnp.int32(0), jnp.int32(STEPS)
            jax.block_until_ready(program(members[0][0], state, labels, *numbers, *pairs))

    firsts = {}
    for name, way in (("one program", one_program), ("a program each", one_each)):
        began = time.perf_counter()
        way()
        firsts[name] = time.perf_counter() - began
    found = in_turn({"one program": one_program, "a program each": one_each})
    for name, seconds in found.items():
        print(
            f"sweep of {count} thresholds, {name}: first call {firsts[name]:.1f} s, then "
            f"{1e3 * seconds / STEPS:.2f} ms a step of all"
        )


def main():
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.device_kind}, {os.cpu_count()} cores")
    for part in (dispatches, donation, starts, sweep):
        part()


if __name__ == "__main__":
    main()
