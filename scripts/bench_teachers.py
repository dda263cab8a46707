"""How many teachers to train at once, and by which form of convolution:

    .venv/bin/python scripts/bench_teachers.py --images 2560 --groups 1 2 5 10 20

A group in turn, at once over XLA's own convolution (which becomes a grouped one), and at once over
slices and one product (which becomes a batched one). Prints milliseconds for each SGD step and
teacher, and how long 200 teachers of 50 epochs on 50,000 images would take at the fastest.
"""

import argparse
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ddpp_jax.networks import ConvNet, layers, make_network
from ddpp_jax.networks.convolution import by_lax, by_slices, convolve
from ddpp_jax.training import train_epoch

BATCH = 256


def ways():
    def in_turn(fn):
        return lambda *xs: lax.map(lambda x: fn(*x), xs)

    return {
        "in turn": (convolve, in_turn),
        "at once, lax.conv": (by_lax, jax.vmap),
        "at once, slices": (by_slices, jax.vmap),
    }


def measure(form, over, group, images, width, rounds):
    layers.convolve = form
    network, optimizer = (
        make_network(ConvNet(classes=10, width=width), (32, 32, 3)),
        optax.sgd(0.01),
    )
    x = jax.random.normal(jax.random.key(0), (images, 32, 32, 3))
    y = jnp.arange(images) % 10
    keys = jax.random.split(jax.random.key(1), group)
    params = jax.vmap(network.init_fn)(keys)
    epoch = partial(
        train_epoch,
        apply_fn=network.apply_fn,
        optimizer=optimizer,
        batch_size=BATCH,
        augment_fn=lambda key, images: images,
        parts_fn=network.parts,
    )
    program = jax.jit(over(lambda key, p: epoch(key, p, optimizer.init(p), x, y)[0]))
    seconds = []
    for number in range(rounds + 1):
        began = time.perf_counter()
        jax.block_until_ready(program(keys, params))
        if number:
            seconds.append(time.perf_counter() - began)
    return statistics.median(seconds) / group / -(-images // BATCH)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, nargs="+", default=[1, 2, 5, 10])
    parser.add_argument("--images", type=int, default=2560)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, width {given.width}")
    fastest = float("inf")
    for group in given.groups:
        found = {
            name: measure(form, over, group, given.images, given.width, given.rounds)
            for name, (form, over) in ways().items()
        }
        fastest = min(fastest, *found.values())
        line = ", ".join(f"{name} {1e3 * seconds:.2f} ms" for name, seconds in found.items())
        print(f"{group} teachers: {line} a step of {BATCH} and teacher", flush=True)
    whole = fastest * 200 * 50 * -(-50_000 // BATCH) / 60
    print(f"200 teachers of 50 epochs on 50,000 images at the fastest: {whole:,.0f} minutes")


if __name__ == "__main__":
    main()
