"""Kernel inducing points against golden numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_layout
from test_goldens import close
from test_infinite import NETWORKS

from ddpp_jax.methods import PixelHParams, RealSource, induce_points
from ddpp_jax.methods.kernel import coefficients, fit, predict
from ddpp_jax.networks import Infinite, among
from ddpp_jax.sets import DistilledSet


@pytest.fixture
def golden(float64):
    return torch_layout.load("kip.npz")


def regress(network, images, labels, unknown, ridge):
    return predict(network, fit(network, images, labels, ridge=ridge), unknown)


def loss_fn(golden, network, ridge):
    target, wanted = torch_layout.images(golden["target"]), jnp.asarray(golden["target_labels"])

    def loss(images, labels):
        guess = regress(network, images, labels, target, ridge)
        return jnp.square(guess - wanted).mean() / 2, guess

    return jax.jit(jax.value_and_grad(loss, argnums=(0, 1), has_aux=True))


@pytest.mark.parametrize(
    ("name", "end", "ridge"),
    [("d1", "", 1e-6), ("d2", "", 1e-6), ("d3", "_reg1e-2", 1e-2), ("p2", "", 1e-6)],
)
def test_loss_and_gradients(golden, name, end, ridge):
    images, labels = torch_layout.images(golden["support"]), jnp.asarray(golden["support_labels"])
    (loss, guess), gradients = loss_fn(golden, NETWORKS[name], ridge)(images, labels)
    close(guess, golden[f"{name}_pred{end}"], 1e-9)
    close(loss, golden[f"{name}_loss{end}"], 1e-9)
    close(gradients[0], torch_layout.images(golden[f"{name}_grad_images{end}"]), 1e-7)
    close(gradients[1], golden[f"{name}_grad_labels{end}"], 1e-9)


def test_float32_is_near_at_the_published_ridge():
    """1e-6 of the mean diagonal is near rounding; predictions are off by little all the same."""
    golden = torch_layout.load("kip.npz")
    images, target = (
        jnp.asarray(torch_layout.images(golden[name]), jnp.float32)
        for name in ("support", "target")
    )
    labels = jnp.asarray(golden["support_labels"], jnp.float32)
    found = jax.jit(lambda: regress(NETWORKS["d2"], images, labels, target, 1e-6))()
    assert found.dtype == jnp.float32
    close(found, golden["d2_pred"], 2e-3)


def test_ridge_by_numpy():
    generator = np.random.default_rng(0)
    features = generator.normal(size=(9, 20))
    own, others = features[:6] @ features[:6].T, features[6:] @ features[:6].T
    labels = generator.normal(size=(6, 2))
    inverse = np.linalg.inv(own + 0.1 * np.diag(own).mean() * np.eye(6))
    found = coefficients(jnp.asarray(own), jnp.asarray(labels), ridge=0.1)
    np.testing.assert_allclose(others @ found, others @ inverse @ labels, rtol=1e-3, atol=1e-4)


def test_equal_images_give_finite_gradients():
    """One of the distilled images is one of the real ones, and two of them are equal."""
    generator = np.random.default_rng(0)
    target = jnp.asarray(generator.normal(size=(3, 4, 4, 1)), jnp.float32)
    images = jnp.concatenate([target[:1], target[1:2], target[1:2]])

    def loss(images):
        labels = jnp.eye(3) - 1 / 3
        guess = regress(Infinite(2), images, labels, target, 1e-2)
        return jnp.square(guess - labels).mean()

    found, gradient = jax.jit(jax.value_and_grad(loss))(images)
    assert np.isfinite(found)
    assert np.isfinite(gradient).all()
    assert np.abs(gradient).max() < 100


def test_gradients_by_finite_differences(float64):
    generator = np.random.default_rng(0)
    target, images, along = (jnp.asarray(generator.normal(size=(n, 4, 4, 2))) for n in (3, 4, 4))
    labels = jnp.asarray(generator.normal(size=(4, 2)))

    @jax.jit
    def loss(images):
        guess = regress(Infinite(1, front=True), images, labels, target, 1e-3)
        return jnp.square(guess).mean()

    step = 1e-5
    slope = (loss(images + step * along) - loss(images - step * along)) / (2 * step)
    np.testing.assert_allclose((jax.grad(loss)(images) * along).sum(), slope, rtol=1e-6)


def test_kernel_is_the_mean_over_wide_networks():
    """Outputs of random finite networks in the same parametrisation have the NNGP's covariance."""
    generator, draws, width = np.random.default_rng(0), 4000, 64
    images = generator.normal(size=(2, 2, 2, 1))
    kernel, inputs = np.zeros((2, 2)), images
    for _ in range(draws):
        weights = generator.normal(size=(3, 3, 1, width)) * np.sqrt(2 / 9)
        padded = np.pad(inputs, ((0, 0), (1, 1), (1, 1), (0, 0)))
        slices = [padded[:, r : r + 2, c : c + 2] for r in range(3) for c in range(3)]
        shifts = sum(s @ weights[r // 3, r % 3] for r, s in enumerate(slices)) + np.sqrt(
            0.01
        ) * generator.normal(size=width)
        pooled = np.maximum(shifts, 0).mean(axis=(1, 2))
        outputs = pooled @ generator.normal(size=(width, 1)) * np.sqrt(2 / width)
        outputs = outputs + np.sqrt(0.01) * generator.normal()
        kernel += outputs @ outputs.T / draws
    found, _ = among(Infinite(1), jnp.asarray(images, jnp.float32))
    np.testing.assert_allclose(found.nngp, kernel, rtol=0.1)


def method_of(pool, **options):
    return induce_points(
        Infinite(1),
        RealSource(lambda seed, done: None, pool, 4),
        optimizer=optax.scale_by_adam(),
        ridge=1e-3,
        **options,
    )


def stepped(steps, **options):
    pool = torch_layout.pool(
        np.random.default_rng(0).normal(size=(3, 4, 1, 4, 4)).astype(np.float32)
    )
    method = method_of(pool, **options)
    images = np.random.default_rng(1).normal(size=(3, 4, 4, 1)).astype(np.float32)
    start = DistilledSet(images, np.arange(3, dtype=np.int32), 0.01)
    state, losses = method.init(jax.random.key(0), start), []
    step = jax.jit(method.step)
    for n in range(steps):
        state, info = step(jax.random.key(n), state, pool, PixelHParams(0.05))
        losses.append(float(info.metrics["loss"]))
    return method.distilled(state), losses


def test_loss_falls():
    _, losses = stepped(30)
    assert losses[-1] < 0.8 * losses[0]


def test_learned_labels_stay_probabilities():
    small, losses = stepped(30, learns_labels=True)
    assert losses[-1] < 0.8 * losses[0]
    assert small.labels.shape == (3, 3)
    np.testing.assert_allclose(small.labels.sum(axis=1), 1, rtol=1e-5)
    assert small.labels.min() >= 0
    assert np.any(np.asarray(small.labels) != np.eye(3))
