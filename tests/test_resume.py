"""Processes that are stopped, and processes that meet."""

import json
import shlex
import signal
import time

import pytest
from processes import call, call_once, start

from ddpp_jax.results import read_rows

SMALL = shlex.split(
    "--augment crop --width 8 --depth 1 --teachers 2 --epochs 3 --student-steps 4 "
    "--max-start-epoch 2 --steps 120 --no-baselines --networks 1 --eval-epochs 5 --eval-every 60"
)


def wait_for(path, process):
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, "it ended before it was stopped"
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An uninterrupted run, shown to nobody."""
    flags = (*SMALL, "--out", "run", "--quiet")
    folder, done = call_once(tmp_path_factory, "whole", "distill", *flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder / "run"


def test_killed_and_started_again_it_ends_with_the_same_bits(whole, tmp_path):
    process = start(tmp_path, "distill", *SMALL, "--out", "run")
    wait_for(tmp_path / "run" / "checkpoints" / "step-000050", process)
    process.kill()
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert not (tmp_path / "run" / "distilled.safetensors").exists()
    done = call(tmp_path, "distill", *SMALL, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert "2 found, 0 to train" in done.stdout
    ours, theirs = (folder / "distilled.safetensors" for folder in (tmp_path / "run", whole))
    assert ours.read_bytes() == theirs.read_bytes()
    assert read_rows(tmp_path / "run" / "metrics.jsonl") == read_rows(whole / "metrics.jsonl")


def test_without_baselines_only_the_distilled_set_is_judged(whole):
    rows = json.loads((whole / "result.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["ours (threshold 0.1)"]
    assert not (whole / "mtt").exists()
    assert not (whole / "checkpoints").exists()


def test_a_second_process_is_turned_away_and_the_first_obeys_ctrl_c(tmp_path):
    first = start(tmp_path, "distill", *SMALL, "--steps", "100000", "--out", "run")
    wait_for(tmp_path / "run" / "config.json", first)
    second = call(tmp_path, "distill", *SMALL, "--steps", "100000", "--out", "run")
    assert second.returncode == 2
    assert "another process is working in run" in second.stderr
    assert second.stderr.count("\n") == 1
    first.send_signal(signal.SIGINT)
    _, shown = first.communicate(timeout=60)
    assert first.returncode == 130
    assert "interrupted; the same command goes on" in shown
    assert "Traceback" not in shown
