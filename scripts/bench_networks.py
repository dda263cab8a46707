"""Five networks on a small set: in one program, in turn or at once, or side by side on the cores.

Prints the milliseconds that an epoch of all five takes each way, medians over rounds that take
turns, and what each is to the way that evaluation goes on this platform (`together.over_members`):

    .venv/bin/python scripts/bench_networks.py
"""

import argparse
import itertools
import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
from jax import lax

from ddpp_jax import evaluate
from ddpp_jax.configs import EvaluateConfig, ModelConfig
from ddpp_jax.networks import make_model, make_network
from ddpp_jax.training import PIECES, side_by_side

NETWORKS = 5
CASES = [
    # architecture, width, side, channels, images
    ("convnet2", 32, 8, 1, 10),
    ("convnet3", 32, 32, 3, 10),
    ("convnet3", 32, 32, 3, 100),
    ("convnet3", 128, 32, 3, 10),
    ("alexnet", 32, 32, 3, 100),
    ("vgg11", 32, 32, 3, 100),
    ("resnet18", 32, 32, 3, 100),
]
AS_EVALUATION = {"cpu": "side by side"}


def ways(network, images, labels, epochs):
    """Programs from keys and states to those after some epochs, by name."""
    config = EvaluateConfig(eval_epochs=10 * epochs)
    step = partial(
        evaluate.step,
        apply_fn=network.apply_fn,
        config=config,
        augment_fn=lambda key, x: x,
        parts_fn=network.parts,
    )

    def train(member, span):
        key, state = member

        def epoch(index, state):
            return step(key, state, index, images, labels, jnp.float32(0.01))[0]

        return key, lax.fori_loop(*span, epoch, state)

    whole = (jnp.int32(0), jnp.int32(epochs))
    cuts = [epochs * piece // PIECES for piece in range(PIECES + 1)]
    spans = [(jnp.int32(low), jnp.int32(high)) for low, high in itertools.pairwise(cuts)]
    one = jax.jit(train)

    def side(members):
        apart = [jax.tree.map(lambda leaf, n=n: leaf[n], members) for n in range(NETWORKS)]
        return side_by_side(lambda *xs: jax.block_until_ready(one(*xs)), apart, spans)

    return {
        "in turn, one program": jax.jit(
            lambda members: lax.map(lambda m: train(m, whole), members)
        ),
        "at once (vmap)": jax.jit(lambda members: jax.vmap(train, (0, None))(members, whole)),
        "side by side": side,
    }


def measure(architecture, width, side, channels, images, rounds):
    shape = (side, side, channels)
    model = make_model(
        architecture, ModelConfig(width=width), classes=10, image_size=side, channels=channels
    )
    network = make_network(model, shape)
    x = jax.random.normal(jax.random.key(0), (images, *shape))
    keys = jax.random.split(jax.random.key(1), NETWORKS)
    states = jax.vmap(partial(evaluate.init, network=network))(keys)
    # About as much work for every case, and enough for overhead not to count.
    epochs = max(2, 20_000_000 // (network.num_params * images))
    epochs = min(epochs, 30)
    programs = ways(network, x, jnp.arange(images) % 10, epochs)
    seconds = {name: [] for name in programs}
    for number in range(rounds + 1):
        for name, program in programs.items():
            began = time.perf_counter()
            jax.block_until_ready(program((keys, states)))
            if number:
                seconds[name].append((time.perf_counter() - began) / epochs)
    return {name: statistics.median(found) for name, found in seconds.items()}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--full", action="store_true", help="also width 128 of every architecture")
    given = parser.parse_args()
    device = jax.devices()[0]
    ours = AS_EVALUATION.get(device.platform, "at once (vmap)")
    print(f"jax {jax.__version__}, {device.device_kind}; evaluation goes {ours}")
    cases = CASES
    if given.full:
        cases = CASES + [(name, 128, *rest) for name, width, *rest in CASES if width < 128]
    for case in cases:
        found = measure(*case, given.rounds)
        architecture, width, side, channels, images = case
        line = ", ".join(
            f"{name} {1e3 * s:.1f} ms ({s / found[ours]:.2f})" for name, s in found.items()
        )
        print(
            f"{architecture}, width {width}, {images} images {side}x{side}x{channels}: {line}",
            flush=True,
        )


if __name__ == "__main__":
    main()
