"""What the benchmarks count and try, and that the comparison runs."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from ddpp_jax import unroll
from ddpp_jax.networks.convolution import by_slices

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import bench_cases  # noqa: E402
import bench_forms  # noqa: E402
import bench_pictures  # noqa: E402

STEP = bench_cases.Case("step", width=32, student_steps=3, side=16, depth=2)


@pytest.mark.parametrize("kind", ["step", "networks"])
def test_the_count_by_the_mathematics_is_xlas_but_for_what_is_recomputed(kind):
    case = replace(STEP, kind=kind)
    counted = bench_cases.Ours(case, "-").xla_counts()["flops"] / case.flops
    # XLA leaves out what falls on the padding, and counts norms, pooling, updates, recomputation.
    low, high = (1.0, 1.6) if kind == "step" else (0.9, 1.2)
    assert low < counted < high


def test_operations_grow_with_what_is_done():
    assert replace(STEP, student_steps=6).flops == 2 * STEP.flops
    assert replace(STEP, ipc=4).flops == 4 * STEP.flops
    networks = replace(STEP, kind="networks")
    assert networks.flops == networks.images * networks.units * 2 * (
        2 * 9 * 3 * 32 * 256 + 1.5 * (2 * 9 * 32 * 32 * 64 + 2 * 32 * 16 * 10)
    )


def test_winograd_is_a_convolution():
    images = jax.random.normal(jax.random.key(0), (2, 6, 8, 16))
    kernel = jax.random.normal(jax.random.key(1), (3, 3, 16, 5))
    expected = by_slices(images, kernel)
    found = bench_forms.winograd(images, kernel)
    np.testing.assert_allclose(found, expected, atol=1e-4 * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("form", [bench_forms.checkpointed_unroll, bench_forms.segmented_unroll])
def test_other_students_have_the_same_gradient(form):
    images = jax.random.normal(jax.random.key(0), (4, 3))

    def distance(images, unroll_fn):
        def loss_fn(params, batch):
            return jnp.mean(jnp.tanh(batch @ params) ** 2)

        student, losses = unroll_fn(
            loss_fn,
            jnp.ones(3),
            jnp.arange(6) % 4,
            lr=jnp.float32(0.1),
            batch_fn=lambda index: jnp.roll(images, index, axis=0)[:2],
            parts=2,
        )
        return jnp.sum(student**2) + losses.sum()

    found, expected = (jax.grad(partial(distance, unroll_fn=f))(images) for f in (form, unroll))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)


def test_pictures_are_drawn(tmp_path):
    cases = [case for family in bench_cases.GROWTH.values() for case in family]
    side = {
        "seconds": 0.2,
        "peak_mib": 300.0,
        "temporary_bytes": 3e7,
        "xla": {"flops": 1e9, "bytes": 1e8},
    }
    rows = [
        {"name": c.name, "flops": c.flops, "ours": side, "best": side}
        | {"ratio": 1.5, "eager_ratio": 1.7}
        for c in cases
    ]
    bench_pictures.save_times(rows[:3], tmp_path / "times.png")
    bench_pictures.save_growth(rows, bench_cases.GROWTH, tmp_path / "growth.png")
    limits = {"flops": 4e11, "bytes": 3e10}
    bench_pictures.save_roofline(rows[:3], limits, tmp_path / "roofline.png")
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())


@pytest.mark.skipif(find_spec("torch") is None, reason="the extra `bench` is not installed")
def test_the_comparison_runs(tmp_path):
    command = [sys.executable, str(SCRIPTS / "benchmark.py"), "--tiny", "--rounds", "1"]
    done = subprocess.run(
        [*command, "--out", "out", "--roofline"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert [row["name"] for row in found["cases"]] == [case.name for case in bench_cases.TINY]
    assert all(row["ratio"] > 0 and len(row["torch"]) >= 2 for row in found["cases"])
    assert (tmp_path / "out" / "roofline.png").exists()
    again = subprocess.run(
        [*command, "--out", "out"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert again.returncode == 2
    assert "out is not empty" in again.stderr
