"""What each precision does to the matching loss, its gradient, and the time of a step:

    .venv/bin/python scripts/bench_precision.py

Relative to `highest`, from real digits and one real teacher trained on them; the final accuracy is
that of `python -m ddpp_jax.distill --precision ...`.
"""

import statistics
import time
from functools import partial

import jax
import jax.numpy as jnp
import optax

from ddpp_jax import distill
from ddpp_jax.configs import DIGITS, DataConfig
from ddpp_jax.core import flatten_params
from ddpp_jax.data import fit_transform, load_raw, normalised
from ddpp_jax.methods import draw
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.training import train_epoch

PRECISIONS = ("highest", "default", "bfloat16")
EPOCHS, ROUNDS = 4, 5


def as_it_is(key, images):
    return images


def trajectory(network, data):
    optimizer = optax.sgd(DIGITS.teaching.teacher_rate)
    epoch = jax.jit(
        partial(
            train_epoch,
            apply_fn=network.apply_fn,
            optimizer=optimizer,
            batch_size=DIGITS.teaching.teacher_batch,
            augment_fn=as_it_is,
        )
    )
    params = network.init_fn(jax.random.key(0))
    state, kept = optimizer.init(params), [params]
    for index in range(EPOCHS):
        params, state, _ = epoch(
            jax.random.key(index), params, state, jnp.asarray(data.x_train), data.y_train
        )
        kept.append(params)
    return [flatten_params(params)[0] for params in kept]


def main():
    raw = load_raw(DataConfig())
    data = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
    model = ConvNet(classes=10, width=32, depth=2, image_size=8, channels=1)
    networks = {name: make_network(model, (8, 8, 1), precision=name) for name in PRECISIONS}
    vectors = trajectory(networks["highest"], data)
    start, target = vectors[1], vectors[1 + DIGITS.distillation.target_epochs]
    images = jnp.stack([jnp.asarray(data.x_train[data.y_train == n][0]) for n in range(10)])
    point = distill.Distilled(images, jnp.float32(DIGITS.distillation.alpha))
    draws = draw(jax.random.key(1), num_images=10, config=DIGITS.distillation)
    found, seconds = {}, {name: [] for name in PRECISIONS}
    programs = {
        name: jax.jit(
            jax.value_and_grad(
                partial(
                    distill.objective,
                    network=network,
                    threshold=DIGITS.distillation.threshold,
                    augment_fn=as_it_is,
                ),
                has_aux=True,
            )
        )
        for name, network in networks.items()
    }
    for number in range(ROUNDS + 1):
        for name, program in programs.items():
            began = time.perf_counter()
            found[name] = program(point, jnp.arange(10), start, target, draws)
            jax.block_until_ready(found[name])
            if number:
                seconds[name].append(time.perf_counter() - began)
    (loss, _), gradient = found["highest"]
    device = jax.devices()[0]
    print(f"jax {jax.__version__}, {device.device_kind}; J {DIGITS.distillation.student_steps}")
    base = statistics.median(seconds["highest"])
    for name in PRECISIONS:
        (own_loss, match), own = found[name]
        pixels = jnp.linalg.norm(own.images - gradient.images) / jnp.linalg.norm(gradient.images)
        print(
            f"{name}: loss {float(own_loss):.6f} ({float(own_loss / loss - 1):+.1e}), gradient of "
            f"the pixels off by {float(pixels):.1e}, of alpha by "
            f"{abs(float(own.alpha / gradient.alpha - 1)):.1e}, kept "
            f"{float(match.kept_fraction):.4f}, time {statistics.median(seconds[name]) / base:.2f}"
        )


if __name__ == "__main__":
    main()
