"""Flat teachers: GSAM's direction against golden numbers, and teachers that are trained by it."""

import json
import shlex
from dataclasses import replace
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch_layout
from processes import call
from test_goldens import close

from ddpp_jax.configs import DataConfig, setting
from ddpp_jax.core import flatten_params, value_and_gradient
from ddpp_jax.data import load_raw
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.planning.identities import manifest_of
from ddpp_jax.training import Sharpness, cross_entropy, flat_direction

NETWORK = make_network(ConvNet(classes=4, width=6, depth=2, image_size=8, channels=3), (8, 8, 3))


@pytest.fixture
def golden(float64):
    return torch_layout.load("gsam.npz")


def params_of(golden, vector):
    return torch_layout.convnet_params(vector, golden["shapes"], side=2)


def flat(golden, vector):
    return flatten_params(params_of(golden, vector))[0]


def gradient_fn(golden, step):
    batch = torch_layout.images(golden["images"][step]), jnp.asarray(golden["labels"][step])

    def loss_fn(params, batch):
        images, labels = batch
        return cross_entropy(NETWORK.apply_fn(params, images), labels).mean()

    return partial(value_and_gradient, loss_fn, batch=batch)


@pytest.mark.parametrize("name", ["ftd", "big", "asam", "plain", "sam"])
def test_direction_and_three_steps(golden, name):
    sharpness = Sharpness(
        float(golden[f"{name}_rho"]),
        float(golden[f"{name}_alpha"]),
        bool(golden[f"{name}_adaptive"]),
    )
    params, rate = params_of(golden, golden["theta"]), float(golden["lr"])
    for step in range(3):
        seen, own = [], gradient_fn(golden, step)

        def recorded(at, own=own, seen=seen):
            found = own(at)
            seen.append((flatten_params(at)[0], *found))
            return found

        loss, direction = flat_direction(recorded, params, sharpness)
        close([loss, seen[1][1]], golden[f"{name}_losses"][step], 1e-9)
        if step == 0:
            close(seen[1][0] - seen[0][0], flat(golden, golden[f"{name}_perturbation"]), 1e-9)
            close(
                flatten_params(seen[1][2])[0],
                flat(golden, golden[f"{name}_gradient_perturbed"]),
                1e-9,
            )
            close(flatten_params(direction)[0], flat(golden, golden[f"{name}_direction"]), 1e-9)
        params = jax.tree.map(lambda p, d: p - rate * d, params, direction)
        close(flatten_params(params)[0], flat(golden, golden[f"{name}_thetas"][step]), 1e-9)


def test_no_slope_is_no_step():
    zeros = {"w": jnp.zeros(3)}
    for adaptive in (True, False):
        _, found = flat_direction(
            lambda w: (jnp.float32(0), jax.tree.map(jnp.zeros_like, w)),
            zeros,
            Sharpness(0.1, 0.3, adaptive),
        )
        np.testing.assert_array_equal(found["w"], 0)


SMALL = shlex.split("--width 8 --depth 1 --augment crop --teachers 1 --epochs 2")


def test_teachers_of_other_optimisers_never_mix(tmp_path):
    stores, losses = {}, {}
    for name in ("sgd", "sam", "gsam"):
        done = call(tmp_path, "teachers", *SMALL, "--teacher-optimizer", name, "--sam-rho", "0.5")
        assert done.returncode == 0, done.stderr
        (stores[name],) = set((tmp_path / "runs" / "teachers").iterdir()) - set(stores.values())
        manifest = json.loads((stores[name] / "manifest.json").read_text())
        assert manifest["teaching"].get("teacher_optimizer", "sgd") == name
        losses[name] = json.loads((stores[name] / "teacher-000.json").read_text())["losses"]
    assert len({tuple(found) for found in losses.values()}) == 3
    assert all(found[1] < found[0] for found in losses.values())


def test_a_rate_below_zero_is_refused(tmp_path):
    done = call(tmp_path, "teachers", "--sam-rho", "-1", "--dry-run")
    assert done.returncode == 2
    assert "--sam-rho is -1" in done.stderr


@pytest.mark.parametrize(
    ("stage", "flags", "said"),
    [
        ("distill", "--sam-rho 0.05 --gsam-alpha 1", "--gsam-alpha, --sam-rho"),
        ("distill", "--teacher-optimizer sam --gsam-alpha 1", "--gsam-alpha"),
        ("teachers", "--no-sam-adaptive", "--sam-adaptive"),
        ("teachers", "--teacher-optimizer gsam --sam-rho 0.05 --gsam-alpha 1", None),
    ],
)
def test_flags_of_another_optimiser_are_named(tmp_path, stage, flags, said):
    more = ["--max-start-epoch", "1", "--target-epochs", "1"] if stage == "distill" else []
    done = call(tmp_path, stage, *SMALL, *more, *shlex.split(flags), "--dry-run")
    assert done.returncode == 0, done.stderr
    words = " ".join(done.stderr.split())
    assert ("Nothing follows from" in words) == (said is not None)
    assert said is None or words.count(f"Nothing follows from {said} with the other settings") == 1


def test_flags_of_another_optimiser_lead_to_no_other_teachers():
    job, raw = setting("digits"), load_raw(DataConfig())

    def manifests(optimizer):
        return [
            manifest_of(replace(job, teaching=replace(job.teaching, **changes)), raw)
            for changes in (
                {"teacher_optimizer": optimizer, "gsam_alpha": alpha} for alpha in (0.3, 0.7)
            )
        ]

    plain, sam, gsam = map(manifests, ("sgd", "sam", "gsam"))
    assert plain[0] == plain[1] == manifest_of(job, raw)
    assert sam[0] == sam[1] != plain[0]
    assert gsam[0] != gsam[1]
