"""Distribution matching against golden numbers, and what it draws."""

import json
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_layout
from jax import lax
from test_goldens import close

import ddpp_jax
from ddpp_jax.core import augment
from ddpp_jax.methods import PixelHParams, RealImages, RealSource, match_distributions, pool_like
from ddpp_jax.methods.distribution import class_distance
from ddpp_jax.methods.real import draw_places, over_classes, same_for_all
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.sets import DistilledSet


@pytest.fixture
def golden(float64):
    return torch_layout.load("dm.npz")


NETWORK = make_network(ConvNet(classes=3, width=6, depth=2, image_size=8, channels=3), (8, 8, 3))


def features_fn(golden, step):
    params = torch_layout.convnet_params(golden["thetas"][step], golden["shapes"], side=2)
    return partial(NETWORK.features_fn, params)


def distances(golden, step, images, augment_fn=lambda key, images: images):
    """The loss of each class and the gradient; the key of a class is its number."""

    def distance(label, key, real, own):
        return class_distance(
            same_for_all(augment_fn, label, real),
            same_for_all(augment_fn, label, own),
            features_fn=features_fn(golden, step),
        )

    pool = torch_layout.pool(golden["real"][step])
    return over_classes(distance, jax.random.key(0), pool, images, batch=5)


def test_distances_and_gradients(golden):
    images = torch_layout.images(golden["images"])
    for step in (0, 1):
        by_class, gradient = distances(golden, step, images)
        close(by_class, golden[f"class_loss_{step}"], 1e-9)
        close(by_class.sum(), golden[f"loss_{step}"], 1e-9)
        close(gradient, torch_layout.images(golden[f"grad_images_{step}"]), 1e-9)
        images = torch_layout.images(golden["images_after_1"])


def test_two_steps_with_momentum(golden):
    """The steps of the method itself, with the networks and the real images of the golden file."""
    step_of = {}
    network = NETWORK._replace(
        init_fn=lambda key: jnp.zeros(()),
        features_fn=lambda params, images: features_fn(golden, step_of["now"])(images),
    )
    pools = [torch_layout.pool(golden["real"][step]) for step in (0, 1)]
    method = match_distributions(
        network,
        RealSource(lambda seed, done: None, pools[0], 5),
        optimizer=optax.trace(float(golden["momentum"])),
        augment_fn=lambda key, images: images,
    )
    start = DistilledSet(torch_layout.images(golden["images"]), golden["labels"], 0.01)
    state = method.init(jax.random.key(0), start)
    hparams = PixelHParams(float(golden["lr_img"]))
    for step in (0, 1):
        step_of["now"] = step
        state, info = method.step(jax.random.key(step), state, pools[step], hparams)
        assert not info.skipped
        close(info.metrics["loss"], golden[f"loss_{step}"], 1e-9)
        close(state.images, torch_layout.images(golden[f"images_after_{step + 1}"]), 1e-8)


def test_cut_into_parts_the_distance_is_the_same(golden):
    real, images = (
        torch_layout.pool(golden["real"][0]).images,
        torch_layout.images(golden["images"]),
    )
    found = [
        class_distance(real[:4], images[:2], features_fn=features_fn(golden, 0), parts=parts)
        for parts in (1, 2, 4)
    ]
    close(jnp.stack(found), found[0], 1e-12)


def operation(golden, name):
    """One of DSA's, by the draws of the golden file for the class that the key is."""

    def draw(what, key):
        return jnp.asarray(golden[f"dsa_{what}"])[key][None]

    def colour(key, x):
        for part in ("brightness", "saturation", "contrast"):
            x = getattr(ddpp_jax, part)(x, draw(f"u_{part}", key))
        return x

    return {
        "color": colour,
        "flip": lambda key, x: ddpp_jax.flip(x, draw("u_flip", key)),
        "crop": lambda key, x: ddpp_jax.crop(x, draw("shift_rows", key), draw("shift_cols", key)),
        "cutout": lambda key, x: ddpp_jax.cutout(x, draw("hole_row", key), draw("hole_col", key)),
        "scale": lambda key, x: ddpp_jax.scale(x, draw("u_scale_x", key), draw("u_scale_y", key)),
        "rotate": lambda key, x: ddpp_jax.rotate(x, draw("u_rotate", key)),
    }[name]


@pytest.mark.parametrize("case", ["a", "b"])
def test_siamese_augmentation(golden, case):
    """One operation and one strength for all real and all distilled images of a class."""
    branches = [operation(golden, name) for name in json.loads(str(golden[f"dsa_{case}_ops"]))]
    by_class, gradient = distances(
        golden,
        0,
        torch_layout.images(golden["images"]),
        lambda key, images: lax.switch(key, branches, key, images),
    )
    close(by_class, golden[f"dsa_{case}_class_loss"], 1e-9)
    close(by_class.sum(), golden[f"dsa_{case}_loss"], 1e-9)
    close(gradient, torch_layout.images(golden[f"dsa_{case}_grad_images"]), 1e-9)


def test_all_images_of_a_class_are_augmented_alike():
    one = jax.random.normal(jax.random.key(0), (8, 8, 3))
    images = jnp.stack([one, one, one])
    for seed in range(8):
        found = same_for_all(augment, jax.random.key(seed), images)
        np.testing.assert_array_equal(found[0], found[1])
        np.testing.assert_array_equal(found[0], found[2])


def drawn(seed, steps, labels, batch=3):
    """The places that some steps draw."""
    pool = RealImages(np.zeros((len(labels), 1, 1, 1), np.float32), labels).take(1, rows=1)
    keys = jax.vmap(lambda step: jax.random.fold_in(jax.random.key(seed), step))(steps)
    return np.asarray(jax.vmap(lambda key: draw_places(key, pool, batch))(keys))


def test_real_images_are_of_their_class_and_none_comes_twice():
    labels = np.array([0] * 5 + [1] * 3 + [2] * 9, np.int32)
    np.random.default_rng(0).shuffle(labels)
    found = drawn(0, jnp.arange(40), labels)
    assert found.shape == (40, 3, 3)
    for label in range(3):
        assert set(labels[found[:, label]].ravel()) == {label}
        assert all(len(set(step)) == 3 for step in found[:, label])
        assert set(found[:, label].ravel()) == set(np.flatnonzero(labels == label))


def test_a_pool_is_as_it_was_foretold():
    labels = np.array([0] * 5 + [1] * 3 + [2] * 9, np.int32)
    pool = RealImages(np.zeros((17, 4, 4, 1), np.float32), labels).take(1, rows=1)
    like = pool_like((4, 4, 1), labels)
    assert jax.tree.map(lambda x: (x.shape, x.dtype), pool) == jax.tree.map(
        lambda x: (x.shape, x.dtype), like
    )
