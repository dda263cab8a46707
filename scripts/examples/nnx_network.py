"""The pruned matching loss for a network written in Flax NNX; of Equinox, the same two calls.

A module is split into its parameters, a pytree, and the rest; the loss puts them together again.
(`nnx.split` and `nnx.merge` here; `eqx.partition` and `eqx.combine` there.)

    .venv/bin/python scripts/examples/nnx_network.py
"""

import argparse

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from sklearn.datasets import load_digits

from ddpp_jax import kept_fraction, prune_mask, trajectory_loss, unroll

CLASSES, STUDENT_STEPS = 10, 10


class Net(nnx.Module):
    """A small convolutional network."""

    def __init__(self, rngs):
        self.first = nnx.Conv(1, 16, (3, 3), rngs=rngs)
        self.second = nnx.Linear(16 * 4 * 4, CLASSES, rngs=rngs)

    def __call__(self, images):
        features = nnx.avg_pool(nnx.relu(self.first(images)), (2, 2), (2, 2))
        return self.second(features.reshape(len(images), -1))


def split(seed):
    """The graph of a fresh network, and its parameters as a pytree."""
    graph, params = nnx.split(Net(nnx.Rngs(seed)), nnx.Param)
    return graph, nnx.to_pure_dict(params)


GRAPH, _ = split(0)


def logits(params, images):
    state = nnx.state(nnx.merge(GRAPH, _as_state(params)), nnx.Param)
    return nnx.merge(GRAPH, state)(images)


def _as_state(params):
    return nnx.State(jax.tree.map(nnx.Param, params))


def loss_fn(params, batch):
    images, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=60, help="distillation steps")
    given = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images = jnp.asarray(images.reshape(-1, 8, 8, 1) / 8 - 1, jnp.float32)
    labels = jnp.asarray(labels)

    # A teacher: three epochs of minibatches of 40, kept at the start and at the end.
    _, start = split(1)
    batches = jax.random.permutation(jax.random.key(0), len(labels))[:1760].reshape(-1, 40)
    train = jax.jit(
        lambda params: unroll(loss_fn, params, (images[batches], labels[batches]), lr=0.1)[0]
    )
    target = train(train(train(start)))

    first = jnp.stack([jnp.argmax(labels == c) for c in range(CLASSES)])
    pixels, classes, alpha = images[first], jnp.arange(CLASSES), 0.2

    def matching_loss(pixels):
        steps = jnp.arange(STUDENT_STEPS)
        batch_fn = lambda _: (pixels, classes)  # noqa: E731
        student, _ = unroll(loss_fn, start, steps, lr=alpha, batch_fn=batch_fn)
        mask = prune_mask(student, target, threshold=0.1)
        return trajectory_loss(student, target, start, mask=mask), kept_fraction(mask)

    optimizer = optax.sgd(5.0, 0.5)
    state = optimizer.init(pixels)
    gradient_fn = jax.jit(jax.value_and_grad(matching_loss, has_aux=True))
    for number in range(given.steps + 1):
        (loss, kept), gradient = gradient_fn(pixels)
        if number in (0, given.steps):
            print(f"step {number}: loss {loss:.3f}, kept {100 * kept:.1f} %", flush=True)
        updates, state = optimizer.update(gradient, state)
        pixels = optax.apply_updates(pixels, updates)


if __name__ == "__main__":
    main()
