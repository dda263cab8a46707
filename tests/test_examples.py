"""The examples of the README run as they stand."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parent.parent / "scripts" / "examples"


def run(name, steps, tmp_path, *flags):
    done = subprocess.run(
        [sys.executable, EXAMPLES / name, "--steps", str(steps), *flags],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_plain_jax_distils_for_a_network_of_ones_own(tmp_path):
    shown = run("plain_jax.py", 60, tmp_path)
    first, last = (float(x) for x in re.findall(r"accuracy ([\d.]+)", shown))
    assert last > first + 2  # Points of test accuracy, after a seventh of the example's steps.


def test_a_network_of_nnx_lowers_its_loss(tmp_path):
    shown = run("nnx_network.py", 30, tmp_path)
    first, last = (float(x) for x in re.findall(r"loss ([\d.]+)", shown))
    assert last < first


def test_other_masks_keep_what_they_say(tmp_path):
    lines = run("other_masks.py", 12, tmp_path, "--eval-epochs", "5").splitlines()[1:]
    kept = {line[:30].strip(): float(line.split()[-1]) for line in lines}
    assert set(kept) == {
        "ratio (the paper)",
        "difference",
        "difference, each tensor",
        "random, same count",
        "none (MTT)",
        "ratio, student with momentum",
    }
    assert kept["none (MTT)"] == 100
    assert 50 < kept["ratio (the paper)"] < 100
    for name in ("difference", "random, same count"):
        assert kept[name] == pytest.approx(kept["ratio (the paper)"], abs=1.5)
