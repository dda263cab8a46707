"""Scripts that no other file tests, run small."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
SMALL = (
    "--augment crop --width 8 --depth 1 --teachers 2 --epochs 4 --student-steps 4 "
    "--max-start-epoch 2 --steps 4 --networks 2 --eval-epochs 4"
)


def read(folder, *words):
    done = subprocess.run(
        [sys.executable, SCRIPTS / "reading.py", *words],
        cwd=folder,
        env=os.environ | {"JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_dataset_is_loaded_by_stages(tmp_path):
    shown = read(tmp_path, "data", "--zca")
    stages = re.findall(r"^(.*): .* s \(([\d.]+) of the whole\)$", shown, flags=re.MULTILINE)
    assert [name for name, _ in stages] == [
        "read",
        "transform fitted or read",
        "normalised",
        "on the device",
    ]
    assert sum(float(share) for _, share in stages) == pytest.approx(1, abs=0.03)
    assert "peak memory" in shown


def test_teachers_are_written_checked_read_and_distilled_from(tmp_path):
    shown = read(tmp_path, "teachers", "--teachers", "2", "--epochs", "4", "--steps", "2")
    lines = shown.splitlines()
    assert lines[0].startswith("2 teachers of 4 epochs, ")
    for how in ("streamed from disk", "held on the device"):
        (line,) = [line for line in lines if line.startswith(how)]
        assert re.search(r"s a step, [\d.]+ % of it waiting for teachers", line)
    assert not list(tmp_path.iterdir())


def test_what_a_setting_does_is_read_from_its_run(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import settings

    monkeypatch.chdir(tmp_path)
    cells = settings.outcome(tmp_path / "run", [*SMALL.split(), "--threshold", "none"]).split(" | ")
    assert re.fullmatch(r"\d+\.\d ± \d+\.\d", cells[0])
    assert cells[2] == "100.0"
    assert "--threshold" in settings.outcome(tmp_path / "other", ["--threshold", "many"])
