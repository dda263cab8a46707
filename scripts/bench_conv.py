"""The two forms of the 3x3 convolution side by side, in the programs that they serve.

For a distillation step (second-order gradients through a scan) and for a teacher's SGD steps (a
scan) it prints the seconds and the temporary memory of each form, and their ratio, all from one
process:

    .venv/bin/python scripts/bench_conv.py
"""

import platform
import time
from functools import partial

import jax
import jax.numpy as jnp
import optax

from ddpp_jax import distill
from ddpp_jax.configs import DistillConfig
from ddpp_jax.models import ConvNet, layers, make_network
from ddpp_jax.training import train_epoch

FORMS = {"slices": layers.by_slices, "lax.conv": layers.by_lax}
REPEATS = 3


def as_it_is(key, images):
    return images


def distillation_step(model, shape, *, steps):
    network = make_network(model, shape)
    config = DistillConfig(student_steps=steps, target_epochs=1, max_start_epoch=1)
    optimizer = distill.make_optimizer(config)
    state = distill.init(
        jax.random.normal(jax.random.key(0), (10, *shape)), alpha=0.01, optimizer=optimizer
    )
    trajectory = 0.05 * jax.random.normal(jax.random.key(1), (1, 2, network.num_params))
    step = partial(
        distill.step, network=network, optimizer=optimizer, config=config, augment_fn=as_it_is
    )
    return step, (jax.random.key(2), state, jnp.arange(10), trajectory)


def teacher_steps(model, shape, *, steps, batch_size):
    network, optimizer = make_network(model, shape), optax.sgd(0.01)
    params = network.init_fn(jax.random.key(0))
    images = jax.random.normal(jax.random.key(1), (batch_size * steps, *shape))
    epoch = partial(
        train_epoch,
        apply_fn=network.apply_fn,
        optimizer=optimizer,
        batch_size=batch_size,
        augment_fn=as_it_is,
    )
    labels = jnp.arange(batch_size * steps) % 10
    return epoch, (jax.random.key(2), params, optimizer.init(params), images, labels)


def measure(program, arguments):
    """Seconds of the fastest of a few calls, and MiB of temporary memory."""
    compiled = jax.jit(program).lower(*arguments).compile()
    seconds = []
    for _ in range(REPEATS + 1):
        began = time.perf_counter()
        jax.block_until_ready(compiled(*arguments))
        seconds.append(time.perf_counter() - began)
    return min(seconds[1:]), compiled.memory_analysis().temp_size_in_bytes / 2**20


def main():
    small = ConvNet(classes=10, width=32, depth=2, image_size=8, channels=1), (8, 8, 1)
    large = ConvNet(classes=10, width=128, depth=3, image_size=32, channels=3), (32, 32, 3)
    programs = {
        "distillation step, width 32, 8x8x1, J 20": partial(distillation_step, *small, steps=20),
        "distillation step, width 128, 32x32x3, J 10": partial(distillation_step, *large, steps=10),
        "6 teacher steps of 256 images, width 32, 8x8x1": partial(
            teacher_steps, *small, steps=6, batch_size=256
        ),
        "2 teacher steps of 32 images, width 128, 32x32x3": partial(
            teacher_steps, *large, steps=2, batch_size=32
        ),
    }
    print(f"jax {jax.__version__}, {jax.devices()[0].device_kind}, {platform.machine()}")
    for name, make in programs.items():
        found = {}
        for form, convolution in FORMS.items():
            layers.convolve = convolution
            found[form] = measure(*make())
        line = ", ".join(f"{form} {s:.3f} s, {m:.0f} MiB" for form, (s, m) in found.items())
        print(f"{name}: {line}; ratio {found['lax.conv'][0] / found['slices'][0]:.1f}", flush=True)


if __name__ == "__main__":
    main()
