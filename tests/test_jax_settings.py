"""The library under JAX's own settings: double precision, strict promotion, other random keys."""

import contextlib
import functools
import os

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small

import ddpp_jax
from ddpp_jax import evaluate, teachers
from ddpp_jax._types import OPERATIONS
from ddpp_jax.core import augment, difference_mask, random_mask
from ddpp_jax.methods import Pair, Parts
from ddpp_jax.methods.draws import draw
from ddpp_jax.methods.matching import Variables, objective
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import TeacherStore


@contextlib.contextmanager
def x64_and_strict():
    with jax.enable_x64(True), jax.numpy_dtype_promotion("strict"):
        yield


SAME_BITS = {
    "x64": lambda: jax.enable_x64(True),
    "strict": lambda: jax.numpy_dtype_promotion("strict"),
    "both": x64_and_strict,
}


def augmented(dtype=jnp.float32):
    images = np.random.default_rng(0).normal(size=(5, 8, 8, 3))
    return {
        name: augment(jax.random.key(3), jnp.asarray(images, dtype), operations=(name,))
        for name in OPERATIONS
    }


def masks():
    student = {"a": jnp.asarray([1, 2, 3], jnp.float32), "b": jnp.asarray([4.0], jnp.bfloat16)}
    target = {"a": jnp.asarray([1, -2, 0.1], jnp.float32), "b": jnp.asarray([4.5], jnp.bfloat16)}
    start = jax.tree.map(jnp.zeros_like, target)
    pruned = ddpp_jax.prune_mask(student, target, threshold=0.1)
    vector, unflatten = ddpp_jax.flatten_params(student)
    return (
        pruned,
        ddpp_jax.trajectory_loss(student, target, start, mask=pruned),
        difference_mask(student, target, kept=ddpp_jax.kept_fraction(pruned)),
        random_mask(jax.random.key(0), pruned),
        unflatten(vector),
    )


def unrolled(dtype=jnp.float32, *, rate=0.1, **how):
    params = {"w": jnp.ones(3, dtype), "b": jnp.ones(2, dtype)}
    xs = jnp.asarray(np.random.default_rng(0).normal(size=(4, 3)), dtype)

    def slope(params, x):
        return ((params["w"] * x).sum() - params["b"].sum()) ** 2

    def loss(params):
        ended, _ = ddpp_jax.unroll(slope, params, xs, lr=rate, **how)
        return ddpp_jax.trajectory_loss(ended, jax.tree.map(lambda x: x * 2, params), params)

    return jax.value_and_grad(loss)(params)


def distilled(folder):
    settings = small.distillation(student_batch=3)
    members = [small.member(folder, settings)]
    found = small.run(folder, members, settings)["DDPP"].distilled
    return found.images, np.float32(found.alpha)


def taught(folder):
    network, store = small.network(), TeacherStore(folder)
    teachers.run(small.CONFIG, small.dataset(), network, store, Report(None))
    return [store.read(index, range(4), num_params=network.num_params) for index in range(2)]


def evaluated(_):
    data = small.dataset()
    found = evaluate.run(
        jax.random.key(0),
        evaluate.Procedure(small.CONFIG.evaluation, ("crop", "scale"), 3),
        small.network(),
        DistilledSet(data.x_train.astype(np.float64), data.y_train.astype(np.int64), 0.05),
        {"test": (data.x_test, data.y_test)},
        Report(None),
    )
    return found["test"].confusion


STAGES = (distilled, taught, evaluated)


@functools.cache
def plainly(stage, folder):
    return stage(folder)


@pytest.fixture(scope="session")
def plain_folder(tmp_path_factory):
    return tmp_path_factory.mktemp("plain")


def same(found, wanted):
    assert jax.tree.structure(found) == jax.tree.structure(wanted)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))


@pytest.mark.parametrize("setting", SAME_BITS)
@pytest.mark.parametrize("part", [augmented, masks, unrolled])
def test_parts_give_the_same_bits(part, setting):
    # As users compile it; otherwise tests leave LLVM's optimisation out.
    compiled = {"xla_backend_optimization_level": 3}
    if "xla_cpu_use_fusion_emitters" in os.environ["XLA_FLAGS"]:
        compiled["xla_cpu_use_fusion_emitters"] = True
    wanted = jax.jit(part, compiler_options=compiled)()
    with SAME_BITS[setting]():
        same(jax.jit(lambda: part(), compiler_options=compiled)(), wanted)


@pytest.mark.parametrize("stage", STAGES)
def test_stages_give_the_same_bits(stage, plain_folder, tmp_path):
    wanted = plainly(stage, plain_folder / stage.__name__)
    with x64_and_strict():
        same(stage(tmp_path), wanted)


@pytest.mark.parametrize("setting", ["x64", "both"])
def test_float64_stays_float64(setting):
    momentum = {"optimizer_fn": lambda rate: optax.sgd(rate, momentum=0.9)}
    with SAME_BITS[setting]():
        for images in augmented(jnp.float64).values():
            assert images.dtype == jnp.float64
        for rate in (0.1, 1, jnp.float32(0.1)):
            for how in ({}, {"remat": False}, momentum):
                loss, gradient = unrolled(jnp.float64, rate=rate, **how)
                assert {loss.dtype, gradient["w"].dtype} == {jnp.dtype(jnp.float64)}


def test_a_distillation_step_in_float64_agrees_with_float32():
    """The gradient of Algorithm 1, all in double precision under strict promotion."""
    network, data = small.network(), small.dataset()
    start, target = small.trajectories(network)[0, :2]
    labels = jnp.asarray(data.y_train[:6])

    def gradient(dtype):
        draws = draw(jax.random.key(1), images=6, steps=3, batch=3)
        images = Variables(jnp.asarray(data.x_train[:6], dtype), jnp.asarray(0.01, dtype))
        pair = (jnp.asarray(np.asarray(x), dtype) for x in (start, target))
        found, _ = jax.grad(objective, has_aux=True)(
            images,
            labels,
            Pair(*pair, jnp.int32(0), jnp.int32(0)),
            draws,
            0.1,
            network=network,
            mask_key=jax.random.key(2),
            parts=Parts(augment_fn=functools.partial(augment, operations=("crop",))),
        )
        return jax.tree.leaves(found)

    single = gradient(jnp.float32)
    with x64_and_strict():
        double = gradient(jnp.float64)
        assert {leaf.dtype for leaf in double} == {jnp.dtype(jnp.float64)}
    for one, other in zip(single, double, strict=True):
        scale = np.abs(np.asarray(other)).max()
        np.testing.assert_allclose(np.asarray(one), np.asarray(other), atol=1e-4 * scale)


@pytest.mark.parametrize("keys", ["rbg", "unsafe_rbg"])
def test_stages_work_with_other_random_keys(keys, plain_folder, tmp_path):
    plain = plainly(distilled, plain_folder / "distilled")
    with jax.default_prng_impl(keys):
        found = distilled(tmp_path)
    assert np.isfinite(found[0]).all()
    assert (found[0] != plain[0]).any()
