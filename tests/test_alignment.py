"""Feature alignment against golden numbers, and its two loops."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_layout
from test_goldens import close

from ddpp_jax.methods import PixelHParams, RealSource, alignment, features
from ddpp_jax.methods.alignment import AlignmentLoops, align_features
from ddpp_jax.methods.features import gradient_of, loss, weights
from ddpp_jax.methods.pixels import begin, descend
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.sets import DistilledSet

NETWORK = make_network(ConvNet(classes=3, width=4, depth=3, image_size=16, channels=3), (16, 16, 3))


@pytest.fixture
def golden(float64):
    return torch_layout.load("cafe.npz")


def params_of(golden):
    return torch_layout.convnet_params(golden["theta"], golden["shapes"], side=2)


def means(golden, images):
    """Of each class, by the features of each block and the flat ones."""
    found = NETWORK.blocks_fn(params_of(golden), images)
    return tuple(x.reshape(3, -1, *x.shape[1:]).mean(axis=1) for x in found)


def aligned(golden, images):
    pool = torch_layout.pool(golden["real"])
    return gradient_of(
        jax.random.key(0),
        params_of(golden),
        images,
        pool,
        NETWORK,
        batch=golden["real"].shape[1],
        augment_fn=None,
    )


def test_features_of_each_block(golden):
    images = torch_layout.images(golden["images"])
    real = torch_layout.pool(golden["real"]).images
    found = [
        jnp.square(a - b).sum()
        for a, b in zip(means(golden, real), means(golden, images), strict=True)
    ]
    close(jnp.stack([*found, found[-1]]), golden["alignment"], 1e-9)
    close(jnp.asarray([*weights(4)[:3], 1, 1]), golden["weights"], 1e-12)


def test_loss_and_gradient(golden):
    images = torch_layout.images(golden["images"])
    gradient, (total, align, discriminate) = aligned(golden, images)
    close(discriminate, golden["discrimination"], 1e-9)
    close(align, (golden["weights"] * golden["alignment"]).sum(), 1e-9)
    close(total + golden["real_cross_entropy"], golden["total"], 1e-9)
    close(gradient, torch_layout.images(golden["grad_images_total"]), 1e-9)


def test_terms_apart(golden, monkeypatch):
    """Without the second term, the gradient of the first."""
    monkeypatch.setattr(features, "DISCRIMINATION", 0.0)
    gradient, _ = aligned(golden, torch_layout.images(golden["images"]))
    close(gradient, torch_layout.images(golden["grad_images_alignment"]), 1e-9)


def test_two_steps_with_momentum(golden):
    optimizer = optax.trace(float(golden["momentum"]))
    start = DistilledSet(torch_layout.images(golden["images"]), golden["labels"], 0.01)
    state = begin(optimizer)(jax.random.key(0), start)
    for step in (0, 1):
        gradient, (total, _, _) = aligned(golden, state.images)
        close(total + golden["real_cross_entropy"], golden["step_totals"][step], 1e-9)
        state = descend(state, gradient, float(golden["lr_img"]), optimizer)
    close(state.images, torch_layout.images(golden["images_after_2"]), 1e-8)


def test_real_images_in_parts_give_the_same(golden):
    images = torch_layout.images(golden["images"])
    whole = aligned(golden, images)
    parts = gradient_of(
        jax.random.key(0),
        params_of(golden),
        images,
        torch_layout.pool(golden["real"]),
        NETWORK._replace(at_once=2),
        batch=4,
        augment_fn=None,
    )
    jax.tree.map(lambda a, b: close(a, b, 1e-10), parts, whole)


def test_discrimination_by_hand():
    """One real image of each of two classes, and centres of two numbers."""
    rows, centres = jnp.array([[[1.0, 0.0]], [[0.0, 2.0]]]), jnp.array([[3.0, 0.0], [0.0, 1.0]])
    _, (_, found) = loss((centres[..., None], centres), (centres[..., None], centres), rows)
    wanted = np.log(1 + np.exp(-3.0)) + np.log(1 + np.exp(-2.0))
    np.testing.assert_allclose(found, wanted, rtol=1e-6)


SMALL = make_network(ConvNet(classes=3, width=4, depth=1, image_size=4, channels=1), (4, 4, 1))


def method_of(loops, pool, steps=10):
    return align_features(
        SMALL,
        RealSource(lambda seed, done: None, pool, 4),
        optimizer=optax.trace(0.5),
        loops=loops._replace(steps=steps),
    )


def stepped(loops, seed=0, steps=10, made=0):
    """A step on noise: what it shows, and how far the images went."""
    pool = torch_layout.pool(
        np.random.default_rng(0).normal(size=(3, 30, 1, 4, 4)).astype(np.float32)
    )
    method = method_of(loops, pool, steps)
    images = np.random.default_rng(1).normal(size=(3, 4, 4, 1)).astype(np.float32)
    state = method.init(jax.random.key(0), DistilledSet(images, np.arange(3, dtype=np.int32), 0.01))
    state = state._replace(made=jnp.int32(made))
    after, info = jax.jit(method.step)(jax.random.key(seed), state, pool, PixelHParams(1e-3))
    assert not info.skipped
    assert int(after.made) == made + 1
    return info.metrics, np.asarray(after.pixels.images) - images


def test_a_network_that_has_settled_is_replaced_at_once():
    """Ten accuracies are wanted before anything ends; training ends once they have moved."""
    shown, _ = stepped(AlignmentLoops(settled=2.0, moved=-1.0, queries=10))
    assert shown["updates"] == 10
    assert shown["epochs"] == 9 * 10


def test_loops_that_would_never_end_do():
    shown, _ = stepped(AlignmentLoops(settled=0.0, moved=-1.0, queries=10))
    assert shown["updates"] == alignment._MOST_UPDATES
    shown, _ = stepped(AlignmentLoops(settled=2.0, moved=2.0, queries=10))
    assert shown["epochs"] == 9 * alignment._MOST_EPOCHS


def test_the_rate_is_halved_three_times():
    loops = AlignmentLoops(settled=2.0, moved=-1.0, queries=10)
    first = stepped(loops)[1]
    for made, share in ((5, 1), (6, 2), (8, 4), (9, 8)):
        later = stepped(loops, made=made)[1]
        # Tiny steps: what a network finds hardly changes along them.
        np.testing.assert_allclose(np.abs(first).sum() / np.abs(later).sum(), share, rtol=0.2)
