"""The infinitely wide ConvNet against golden kernels."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_layout
from test_goldens import close

from ddpp_jax.networks.infinite import Infinite, among, between

NETWORKS = {
    "d1": Infinite(1),
    "d2": Infinite(2),
    "d3": Infinite(3),
    "p2": Infinite(2, front=True),
    "p3": Infinite(3, front=True),
}


@pytest.fixture
def golden(float64):
    return torch_layout.load("kip.npz")


@pytest.mark.parametrize("name", NETWORKS)
def test_kernels(golden, name):
    network = NETWORKS[name]
    support, target = (torch_layout.images(golden[n]) for n in ("support", "target"))

    @jax.jit
    def both(support, target):
        own, of = among(network, support)
        return own, between(network, target, support, of)

    own, others = both(support, target)
    for kind in ("nngp", "ntk"):
        close(getattr(own, kind), golden[f"{name}_{kind}_ss"], 1e-12)
        close(getattr(others, kind), golden[f"{name}_{kind}_ts"], 1e-12)


def dense(network, first, second):
    """The tangent kernel by the covariance of all pairs of places, in plain NumPy."""

    def box(k):
        side = k.shape[0]
        padded = np.zeros([side + 2] * 4)
        padded[1:-1, 1:-1, 1:-1, 1:-1] = k
        shifts = [(a, b) for a in range(3) for b in range(3)]
        parts = [padded[a : a + side, b : b + side, a : a + side, b : b + side] for a, b in shifts]
        return sum(parts) / 9

    def pool(k):
        half = k.shape[0] // 2
        k = k[: 2 * half, : 2 * half, : 2 * half, : 2 * half]
        return k.reshape([half, 2] * 4).mean(axis=(1, 3, 5, 7))

    def diagonal(k):
        return np.einsum("abab->ab", k)

    pairs = {"ij": (first, second), "ii": (first, first), "jj": (second, second)}
    k = {name: np.einsum("abc,dec->abde", x, y) / x.shape[2] for name, (x, y) in pairs.items()}
    t = {name: np.zeros_like(value) for name, value in k.items()}
    for _ in range(network.blocks):
        k = {name: 2 * box(value) + 0.01 for name, value in k.items()}
        t = {name: k[name] + 2 * box(value) for name, value in t.items()}
        of = {"i": diagonal(k["ii"]), "j": diagonal(k["jj"])}
        for name in k:
            product = of[name[0]][:, :, None, None] * of[name[1]][None, None]
            cosine = np.clip(k[name] / np.sqrt(product), -1, 1)
            angle = np.arccos(cosine)
            factor = (np.pi - angle) / (2 * np.pi)
            k[name] = np.sqrt(product) * np.sin(angle) / (2 * np.pi) + factor * k[name]
            t[name] = t[name] * factor
        k, t = ({name: pool(value) for name, value in every.items()} for every in (k, t))
    return 2 * diagonal(k["ij"]).mean() + 0.01 + 2 * diagonal(t["ij"]).mean()


@pytest.mark.parametrize("side", [7, 10, 11])
def test_sides_that_pooling_does_not_divide(float64, side):
    first, second = np.random.default_rng(side).normal(size=(2, side, side, 2))
    network = Infinite(2)

    @jax.jit
    def both(first, second):
        _, of = among(network, second)
        return between(network, first, second, of).ntk

    found = both(jnp.asarray(first[None]), jnp.asarray(second[None]))
    np.testing.assert_allclose(found[0, 0], dense(network, first, second), rtol=1e-9)


@pytest.mark.parametrize("tile", [1, 4, 12, 100])
def test_in_float32_too(tile):
    golden = torch_layout.load("kip.npz")
    support, target = (
        jnp.asarray(torch_layout.images(golden[name]), jnp.float32)
        for name in ("support", "target")
    )

    @jax.jit
    def both(support, target):
        own, of = among(NETWORKS["d2"], support, tile=tile)
        return own.ntk, between(NETWORKS["d2"], target, support, of, tile=tile).ntk

    for found, name in zip(both(support, target), ("ss", "ts"), strict=True):
        assert found.dtype == jnp.float32
        close(found, golden[f"d2_ntk_{name}"], 2e-6)


def test_tiles_change_nothing(float64):
    first, second = (
        jnp.asarray(np.random.default_rng(n).normal(size=(n, 4, 4, 1))) for n in (5, 3)
    )

    @functools.partial(jax.jit, static_argnums=0)
    def kernel(tile):
        own, of = among(Infinite(1), second, tile=tile)
        return own.ntk, between(Infinite(1), first, second, of, tile=tile).ntk

    for tile in (2, 3, 7, 100):
        for found, wanted in zip(kernel(tile), kernel(1), strict=True):
            close(found, wanted, 1e-12)


def test_memory_hardly_grows_with_the_images():
    """Of the gradient too: what is kept is one pair's, and some numbers of each image."""

    def held(count):
        def total(images):
            own, _ = among(Infinite(2), images)
            return own.ntk.sum()

        images = jax.ShapeDtypeStruct((count, 16, 16, 3), jnp.float32)
        compiled = jax.jit(jax.grad(total)).lower(images).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    covariance = 4 * Infinite(2).entries(16)
    assert held(12) - held(4) < 8 * covariance
