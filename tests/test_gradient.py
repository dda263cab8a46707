"""Gradient matching against golden numbers, and the loops around it."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_layout
from jax import lax
from test_distribution import operation
from test_goldens import close

from ddpp_jax.core import augment
from ddpp_jax.methods import GradientLoops, PixelHParams, RealSource, match_gradients
from ddpp_jax.methods.gradient import _trained, class_distance, row_distances
from ddpp_jax.methods.pixels import begin, descend
from ddpp_jax.methods.real import over_classes, same_for_all
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.sets import DistilledSet
from ddpp_jax.training import Training, cross_entropy

NETWORK = make_network(ConvNet(classes=3, width=6, depth=2, image_size=8, channels=3), (8, 8, 3))


@pytest.fixture
def golden(float64):
    return torch_layout.load("dc.npz")


def params_of(golden, name="theta"):
    return torch_layout.convnet_params(golden[name], golden["shapes"], side=2)


def matched(golden, images, *, outer=0, theta="theta", augment_fn=lambda key, images: images):
    """The distance of each class and the gradient; the key of a class is its number."""
    params = params_of(golden, theta)

    def distance(label, key, real, own):
        real, own = (same_for_all(augment_fn, label, x) for x in (real, own))
        return class_distance(params, label, real, own, network=NETWORK)

    pool = torch_layout.pool(golden["real"][outer])
    return over_classes(distance, jax.random.key(0), pool, images, batch=5)


@pytest.mark.parametrize("name", ["unit", "unit4"])
def test_distance_of_each_output(golden, name):
    """Zero rows, short rows and parallel ones among them."""
    real, own = (jnp.asarray(np.moveaxis(golden[f"{name}_{w}"], 0, -1)) for w in ("real", "syn"))
    close(row_distances(real, own), golden[f"{name}_rows"], 1e-12)
    if name == "unit":
        gradient = jax.grad(lambda own: row_distances(real, own).sum())(own)
        close(gradient.T, golden["unit_grad_syn"], 1e-12)


def test_distances_and_gradients(golden):
    by_class, gradient = matched(golden, torch_layout.images(golden["images"]))
    close(by_class, golden["layer_distance"].sum(axis=1), 1e-9)
    close(by_class.sum(), golden["loss"], 1e-9)
    close(gradient, torch_layout.images(golden["outer_grad_0"]), 1e-9)
    of_class = torch_layout.images(golden["grad_images_class1"])
    close(gradient[2:4], of_class[2:4], 1e-9)


@pytest.mark.parametrize("case", ["a", "b"])
def test_siamese_augmentation(golden, case):
    branches = [operation(golden, name) for name in json.loads(str(golden[f"dsa_{case}_ops"]))]
    by_class, gradient = matched(
        golden,
        torch_layout.images(golden["images"]),
        augment_fn=lambda key, images: lax.switch(key, branches, key, images),
    )
    close(by_class, golden[f"dsa_{case}_class_distance"], 1e-9)
    close(by_class.sum(), golden[f"dsa_{case}_loss"], 1e-9)
    close(gradient, torch_layout.images(golden[f"dsa_{case}_grad_images"]), 1e-9)


def test_two_updates_with_the_network_trained_between(golden):
    optimizer, rate = optax.trace(float(golden["momentum"])), float(golden["lr_img"])
    labels = jnp.asarray(golden["labels"])
    start = DistilledSet(torch_layout.images(golden["images"]), golden["labels"], 0.01)
    state = begin(optimizer)(jax.random.key(0), start)
    params = params_of(golden)
    for outer, theta in enumerate(("theta", "theta_inner")):
        same(params, params_of(golden, theta))
        by_class, gradient = matched(golden, state.images, outer=outer, theta=theta)
        close(by_class.sum(), golden[f"outer_loss_{outer}"], 1e-9)
        close(gradient, torch_layout.images(golden[f"outer_grad_{outer}"]), 1e-8)
        state = descend(state, gradient, rate, optimizer)
        close(state.images, torch_layout.images(golden[f"images_after_{outer + 1}"]), 1e-8)
        for batch in golden["inner_batches"]:

            def loss_fn(params, images=state.images, batch=batch):
                logits = NETWORK.apply_fn(params, images[batch])
                return cross_entropy(logits, labels[batch]).mean()

            slope = jax.grad(loss_fn)(params)
            params = jax.tree.map(lambda p, g: p - float(golden["lr_net"]) * g, params, slope)


def test_training_between_updates(golden):
    """`_trained`, a golden minibatch at a time, each of which it takes whole and in order."""
    training = Training(
        NETWORK.apply_fn, optax.sgd(float(golden["lr_net"])), 256, lambda key, images: images
    )
    params, labels = params_of(golden), jnp.asarray(golden["labels"])
    images = torch_layout.images(golden["images_after_1"])
    for step, batch in enumerate(golden["inner_batches"]):
        key = jax.random.key(step)
        params = _trained(key, params, images[batch], labels[batch], training, 1)
        if step == 0:
            same(params, params_of(golden, "theta_after_first_batch"))
    same(params, params_of(golden, "theta_inner"))


def same(params, wanted):
    close(ravel(params), ravel(wanted), 1e-9)


def ravel(params):
    return jnp.concatenate([leaf.ravel() for leaf in jax.tree.leaves(params)])


SMALL = make_network(ConvNet(classes=3, width=4, depth=1, image_size=4, channels=1), (4, 4, 1))


def stepped(loops, augment_fn=None, seed=0):
    """The images after a step on noise."""
    real = np.random.default_rng(0).normal(size=(3, 6, 1, 4, 4)).astype(np.float32)
    pool = torch_layout.pool(real)
    method = match_gradients(
        SMALL,
        RealSource(lambda seed, done: None, pool, 4),
        optimizer=optax.trace(0.5),
        loops=loops,
        augment_fn=augment_fn,
    )
    images = np.random.default_rng(1).normal(size=(6, 4, 4, 1)).astype(np.float32)
    start = DistilledSet(images, np.repeat(np.arange(3, dtype=np.int32), 2), 0.01)
    state = method.init(jax.random.key(0), start)
    state, info = jax.jit(method.step)(jax.random.key(seed), state, pool, PixelHParams(0.1))
    assert not info.skipped
    return np.asarray(state.images)


def test_one_update_trains_no_network():
    one = stepped(GradientLoops(updates=1, epochs=1))
    np.testing.assert_array_equal(one, stepped(GradientLoops(updates=1, epochs=9, rate=5.0)))


def test_between_updates_the_network_is_trained():
    few, many = (stepped(GradientLoops(updates=2, epochs=epochs)) for epochs in (1, 5))
    assert np.any(few != many)
    assert np.any(stepped(GradientLoops(updates=1)) != stepped(GradientLoops(updates=2, rate=1e-9)))


def test_training_in_minibatches_differs_from_whole_sets():
    whole, parts = (stepped(GradientLoops(updates=2, epochs=3, batch=b)) for b in (6, 2))
    assert np.any(whole != parts)


def test_augmentation_is_drawn():
    found = [stepped(GradientLoops(), augment, seed) for seed in (0, 1)]
    assert np.any(found[0] != found[1])
    assert np.any(found[0] != stepped(GradientLoops()))
