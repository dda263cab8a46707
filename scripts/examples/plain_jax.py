"""The digits distilled for a network of one's own, a dict of arrays, in plain JAX.

Teachers, distillation and the test of its result, with three functions of ddpp_jax and nothing else
of it:

    .venv/bin/python scripts/examples/plain_jax.py
"""

import argparse
from functools import partial

import jax
import jax.numpy as jnp
import optax
from sklearn.datasets import load_digits

from ddpp_jax import kept_fraction, prune_mask, trajectory_loss, unroll

CLASSES, HIDDEN, BATCH = 10, 64, 48
TEACHERS, EPOCHS, TEACHER_RATE = 4, 12, 0.1
STUDENT_STEPS, TARGET_EPOCHS, THRESHOLD = 40, 2, 0.1
PIXEL_RATE, ALPHA_RATE = 2.0, 1e-3


def init(key):
    """A network with one hidden layer: any nested dict of arrays will do."""
    first, second = jax.random.split(key)
    return {
        "hidden": {"w": jax.random.normal(first, (64, HIDDEN)) / 8, "b": jnp.zeros(HIDDEN)},
        "out": {"w": jax.random.normal(second, (HIDDEN, CLASSES)) / 8, "b": jnp.zeros(CLASSES)},
    }


def logits(params, images):
    hidden = jax.nn.relu(images @ params["hidden"]["w"] + params["hidden"]["b"][None])
    return hidden @ params["out"]["w"] + params["out"]["b"][None]


def loss_fn(params, batch):
    images, labels = batch
    return optax.softmax_cross_entropy_with_integer_labels(logits(params, images), labels).mean()


def teacher(key, images, labels):
    """The parameters before the first epoch and after each, stacked along the first axis."""

    def epoch(params, key):
        order = jax.random.permutation(key, len(labels))[: len(labels) // BATCH * BATCH]
        batches = order.reshape(-1, BATCH)
        step_fn = partial(unroll, loss_fn, lr=TEACHER_RATE, remat=False)
        after, _ = step_fn(params, (images[batches], labels[batches]))
        return after, params

    key, init_key = jax.random.split(key)
    last, before = jax.lax.scan(epoch, init(init_key), jax.random.split(key, EPOCHS))
    return jax.tree.map(lambda rows, row: jnp.concatenate([rows, row[None]]), before, last)


def matching_loss(distilled, labels, start, target):
    """The paper's loss, of a student trained on the distilled images from a teacher's epoch on."""
    steps = jnp.arange(STUDENT_STEPS)
    student, _ = unroll(
        loss_fn, start, steps, lr=distilled["alpha"], batch_fn=lambda _: (distilled["x"], labels)
    )
    mask = prune_mask(student, target, threshold=THRESHOLD)
    return trajectory_loss(student, target, start, mask=mask), kept_fraction(mask)


def accuracy(key, distilled, labels, test_images, test_labels):
    """Of a fresh network that is trained on the distilled images alone, from 0 to 1."""
    steps = jnp.arange(200)
    params, _ = unroll(
        loss_fn,
        init(key),
        steps,
        lr=distilled["alpha"],
        batch_fn=lambda _: (distilled["x"], labels),
    )
    return (logits(params, test_images).argmax(axis=1) == test_labels).mean()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=600, help="distillation steps")
    given = parser.parse_args()

    images, labels = load_digits(return_X_y=True)
    images, labels = jnp.asarray(images / 8 - 1, jnp.float32), jnp.asarray(labels)
    order = jax.random.permutation(jax.random.key(0), len(labels))
    train, test = order[:1442], order[1442:]

    teach = partial(teacher, images=images[train], labels=labels[train])
    trajectories = jax.jit(jax.vmap(teach))(jax.random.split(jax.random.key(1), TEACHERS))

    one_of_each = jnp.stack([train[jnp.argmax(labels[train] == c)] for c in range(CLASSES)])
    distilled, classes = {"x": images[one_of_each], "alpha": jnp.float32(0.2)}, jnp.arange(CLASSES)
    optimizer = optax.multi_transform(
        {"x": optax.sgd(PIXEL_RATE, 0.5), "alpha": optax.sgd(ALPHA_RATE, 0.5)},
        {"x": "x", "alpha": "alpha"},
    )
    state = optimizer.init(distilled)

    @jax.jit
    def step(key, distilled, state):
        which, epoch = jax.random.randint(key, (2,), 0, jnp.array([TEACHERS, EPOCHS // 2]))
        start = jax.tree.map(lambda leaf: leaf[which, epoch], trajectories)
        target = jax.tree.map(lambda leaf: leaf[which, epoch + TARGET_EPOCHS], trajectories)
        (loss, kept), gradient = jax.value_and_grad(matching_loss, has_aux=True)(
            distilled, classes, start, target
        )
        updates, state = optimizer.update(gradient, state)
        return optax.apply_updates(distilled, updates), state, loss, kept

    accuracies = jax.jit(jax.vmap(accuracy, in_axes=(0, None, None, None, None)))
    keys = jax.random.split(jax.random.key(2), 5)

    def say(done, *figures):
        found = accuracies(keys, distilled, classes, images[test], labels[test])
        more = "".join(f", {name} {float(value):.3f}" for name, value in figures)
        print(
            f"step {done}: accuracy {100 * found.mean():.1f} ± {100 * found.std():.1f} %{more}",
            flush=True,
        )

    say(0)
    for number in range(given.steps):
        key = jax.random.fold_in(jax.random.key(3), number)
        distilled, state, loss, kept = step(key, distilled, state)
    say(given.steps, ("loss", loss), ("kept", kept), ("alpha", distilled["alpha"]))


if __name__ == "__main__":
    main()
