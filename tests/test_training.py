"""Epochs, accuracy and several networks in one program."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

from ddpp_jax.training import (
    Training,
    accuracies,
    cross_entropy,
    predictions,
    train_epoch,
)

DATA = small.dataset()
NETWORK = small.network()
PARAMS = NETWORK.init_fn(jax.random.key(0))


def epoch(images, labels, batch_size, seen=None, parts_fn=None):
    optimizer = optax.sgd(0.5)

    def augment_fn(key, batch):
        if seen is not None:
            jax.debug.callback(lambda x: seen.append(np.asarray(x)), batch)
        return batch

    return train_epoch(
        jax.random.key(3),
        PARAMS,
        optimizer.init(PARAMS),
        jnp.asarray(images),
        jnp.asarray(labels),
        Training(NETWORK.apply_fn, optimizer, batch_size, augment_fn, parts_fn),
    )


def test_parts_of_a_batch_are_the_whole_one():
    # The last batch holds 8 images of 16, so that its parts weigh differently.
    whole = epoch(DATA.x_train, DATA.y_train, 16)
    parts = epoch(DATA.x_train, DATA.y_train, 16, parts_fn=lambda size: size // 4)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), parts, whole)


def test_a_whole_batch_is_one_step_of_gradient_descent():
    def loss_fn(params):
        logits = NETWORK.apply_fn(params, jnp.asarray(DATA.x_train))
        return cross_entropy(logits, jnp.asarray(DATA.y_train)).mean()

    loss, gradient = jax.value_and_grad(loss_fn)(PARAMS)
    params, _, mean_loss = epoch(DATA.x_train, DATA.y_train, 256)
    assert mean_loss == pytest.approx(float(loss), rel=1e-6)
    expected = jax.tree.map(lambda p, g: p - 0.5 * g, PARAMS, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-6), params, expected)


def test_every_image_counts_once_and_the_last_batch_only_its_own():
    seen = []
    params, _, _ = epoch(DATA.x_train, DATA.y_train, 16, seen)
    jax.effects_barrier()
    assert [len(batch) for batch in seen] == [16, 16, 16]
    order = [
        int(np.flatnonzero(np.all(DATA.x_train == image, axis=(1, 2, 3)))[0])
        for image in np.concatenate(seen)[:40]
    ]
    assert sorted(order) == list(range(40))
    assert order != list(range(40))
    expected = PARAMS

    def loss_fn(params, batch):
        logits = NETWORK.apply_fn(params, jnp.asarray(DATA.x_train)[batch])
        return cross_entropy(logits, jnp.asarray(DATA.y_train)[batch]).mean()

    for batch in (order[:16], order[16:32], order[32:]):
        gradient = jax.grad(loss_fn)(expected, jnp.asarray(batch))
        expected = jax.tree.map(lambda p, g: p - 0.5 * g, expected, gradient)
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, atol=1e-5), params, expected)


@pytest.mark.parametrize("batch_size", [1, 7, 20, 1000])
def test_accuracy_counts_every_image_once(batch_size):
    def apply_fn(params, images):
        return jax.nn.one_hot(jnp.asarray(images[:, 0, 0, 0], int), 3)

    labels = jnp.arange(20) % 3
    images = jnp.broadcast_to(
        labels.at[:5].set(0)[:, None, None, None].astype(float), (20, 1, 1, 1)
    )
    expected = float(np.mean(np.asarray(images[:, 0, 0, 0]) == np.asarray(labels)))
    stacked = {"of two networks": jnp.zeros((2, 1))}
    found = predictions(stacked, images, apply_fn=apply_fn, batch_size=batch_size)
    np.testing.assert_array_equal(found, [images[:, 0, 0, 0].astype(int)] * 2)
    assert accuracies(stacked, images, labels, apply_fn=apply_fn) == pytest.approx([expected] * 2)


def test_soft_labels_that_are_certain_are_hard_labels():
    logits = jax.random.normal(jax.random.key(0), (5, 3))
    labels = jnp.array([0, 2, 1, 1, 0])
    hard, soft = cross_entropy(logits, labels), cross_entropy(logits, jax.nn.one_hot(labels, 3))
    np.testing.assert_allclose(hard, soft, rtol=1e-5)
    torn = cross_entropy(logits, jnp.full((5, 3), 1 / 3))
    np.testing.assert_allclose(torn, -jax.nn.log_softmax(logits).mean(axis=1), rtol=1e-5)
