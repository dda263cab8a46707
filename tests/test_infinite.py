"""The infinitely wide ConvNet against golden kernels."""

import jax
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
