"""What the benchmarks count, and that their comparisons run."""

import json
import subprocess
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
sys.path.insert(0, str(SCRIPTS))

import benchmark  # noqa: E402
from bench import cases  # noqa: E402

STEP = cases.Case("step", width=32, student_steps=3, side=16, depth=2)
TINY = [sys.executable, str(SCRIPTS / "benchmark.py"), "--tiny", "--rounds", "1"]


def run(folder, *flags):
    return subprocess.run(
        [*TINY, "--out", "out", *flags],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=900,
    )


@pytest.mark.parametrize("kind", ["step", "networks"])
def test_the_count_by_the_mathematics_is_xlas_but_for_what_is_recomputed(kind):
    case = replace(STEP, kind=kind)
    counted = cases.JaxProgram(case).xla_counts()["flops"] / case.flops
    # XLA leaves out what falls on the padding, and counts norms, pooling, updates, recomputation.
    low, high = (1.0, 1.6) if kind == "step" else (0.9, 1.2)
    assert low < counted < high


@pytest.mark.parametrize("kind", cases.UPDATES)
def test_the_count_of_an_update_is_xlas_too(kind):
    case = cases.Case(kind, width=32, side=16, depth=2)
    counted = cases.JaxProgram(case).xla_counts()["flops"] / case.flops
    assert 0.9 < counted < 1.6


def test_operations_grow_with_what_is_done():
    assert replace(STEP, student_steps=6).flops == 2 * STEP.flops
    assert replace(STEP, ipc=4).flops == 4 * STEP.flops
    assert replace(STEP, networks=3).flops == 3 * STEP.flops
    networks = replace(STEP, kind="networks")
    assert networks.flops == networks.images * networks.units * 2 * (
        2 * 9 * 3 * 32 * 256 + 1.5 * (2 * 9 * 32 * 32 * 64 + 2 * 32 * 16 * 10)
    )


def test_no_two_cases_have_one_name():
    every = cases.MAIN + cases.ON_GPU + cases.MEMBERS + cases.MEMBERS_ON_GPU + cases.TINY
    every += [case for family in cases.GROWTH.values() for case in family]
    assert len({case.name for case in every}) == len(set(every))


def test_pictures_are_drawn(tmp_path):
    every = [case for family in cases.GROWTH.values() for case in family]
    side = {
        "seconds": 0.2,
        "peak_mib": 300.0,
        "temporary_bytes": 3e7,
        "xla": {"flops": 1e9, "bytes": 1e8},
    }
    rows = [
        {"name": c.name, "flops": c.flops, "jax": side, "best": side}
        | {"ratio": 1.5, "eager_ratio": 1.7}
        for c in every
    ]
    benchmark.save_times(rows[:3], tmp_path / "times.png")
    benchmark.save_growth(rows, tmp_path / "growth.png")
    most = {"flops": 4e11, "bytes": 3e10}
    benchmark.save_roofline(rows[:3], most, tmp_path / "roofline.png")
    assert all(path.stat().st_size > 10_000 for path in tmp_path.iterdir())


def test_the_ways_of_several_members_are_compared(tmp_path):
    done = run(tmp_path, "--members")
    assert done.returncode == 0, done.stderr
    whole = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    (found,) = whole["cases"]
    assert found["name"] == cases.TINY[1].name
    assert found["chosen"] == cases.SIDE_BY_SIDE
    assert set(found["ratios"]) == set(cases.WAYS)
    assert found["ratios"][found["chosen"]] == 1
    assert all(ratio > 0 for ratio in found["ratios"].values())
    assert found["name"] in done.stdout
    assert whole["limits"]["most"]["flops"] > 0
    again = run(tmp_path, "--members")
    assert again.returncode == 2
    assert "out is not empty" in again.stderr


@pytest.mark.skipif(find_spec("torch") is None, reason="the extra `bench` is not installed")
def test_the_comparison_with_pytorch_runs(tmp_path):
    done = run(tmp_path, "--roofline")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "benchmark.json").read_text())
    assert [row["name"] for row in found["cases"]] == [case.name for case in cases.TINY]
    assert all(row["ratio"] > 0 and len(row["torch"]) >= 2 for row in found["cases"])
    assert (tmp_path / "out" / "roofline.png").exists()
