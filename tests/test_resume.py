"""Processes that are killed, disks that are full, files that are damaged, processes that meet."""

import errno
import json
import random
import shlex
import signal
import subprocess
import time

import numpy as np
import pytest
from processes import call, call_once, start, without_flags
from test_storage import flip_a_byte

from ddpp_jax.storage import TeacherStore, read_rows

SMALL = shlex.split(
    "--augment crop --width 8 --depth 1 --teachers 3 --epochs 5 --student-steps 4 "
    "--max-start-epoch 2 --steps 220 --no-baselines --networks 3 --eval-epochs 600 --eval-every 110"
)


def wait_for(path, process):
    deadline = time.monotonic() + 300
    while not path.exists():
        assert process.poll() is None, f"it ended before {path} was there"
        assert time.monotonic() < deadline
        time.sleep(0.005)


def checkpoint(run, step, process):
    """The folder of a run's checkpoints, once one of some step is whole."""
    wait_for(run / "checkpoints", process)
    (folder,) = (run / "checkpoints").iterdir()
    wait_for(folder / f"step-{step:06d}.json", process)
    return folder


def kill(process):
    process.kill()
    process.communicate()
    return process.returncode == -signal.SIGKILL


@pytest.fixture(scope="session")
def whole(tmp_path_factory):
    """An uninterrupted run, shown to nobody."""
    flags = (*SMALL, "--out", "run", "--quiet")
    folder, done = call_once(tmp_path_factory, "whole", "distill", *flags)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    return folder


def check_same(folder, whole):
    """What one folder holds is what an uninterrupted run gives."""
    ours, theirs = (place / "run" for place in (folder, whole))
    for name in ("distilled.safetensors", "distilled.png"):
        assert (ours / name).read_bytes() == (theirs / name).read_bytes()
    assert read_rows(ours / "metrics.jsonl") == read_rows(theirs / "metrics.jsonl")
    rows = [json.loads((run / "result.json").read_text())["rows"] for run in (ours, theirs)]
    assert rows[0] == rows[1]


def trajectories(folder):
    (store,) = (folder / "runs" / "teachers").iterdir()
    return [TeacherStore(store).read(i, range(6), num_params=1386) for i in range(3)]


STAGES = {
    "teachers": ("runs/teachers", 1.0),
    "distillation": ("run/metrics.jsonl", 1.5),
    "evaluation": ("run/distilled.safetensors", 0.5),
}


def test_killed_at_random_moments_of_every_stage_it_ends_with_the_same_bits(whole, tmp_path):
    moments = random.Random(5)
    killed = dict.fromkeys(STAGES, 0)
    for stage, (marker, longest) in STAGES.items():
        for _ in range(2):
            process = start(tmp_path, "distill", *SMALL, "--out", "run")
            wait_for(tmp_path / marker, process)
            time.sleep(moments.uniform(0, longest))
            killed[stage] += kill(process)
    assert min(killed.values()) > 0, killed
    done = call(tmp_path, "distill", *SMALL, "--out", "run")
    assert done.returncode == 0, done.stderr
    check_same(tmp_path, whole)
    names = [sorted(p.name for p in (place / "run").rglob("*")) for place in (tmp_path, whole)]
    assert names[0] == names[1]
    np.testing.assert_array_equal(trajectories(tmp_path), trajectories(whole))


def test_an_evaluation_that_is_killed_goes_on_to_the_same_figures(whole, tmp_path):
    """Two networks' worth: the first evaluation is kept, the second is cut short."""
    run = str(whole / "run")
    flags = (
        run,
        "--architectures",
        "convnet1,convnet2",
        "--eval-epochs",
        "4000",
        "--out",
        "evaluated",
    )
    done = call(whole, "evaluate", *flags)
    assert done.returncode == 0, done.stderr
    moments = random.Random(6)
    for _ in range(2):
        process = start(tmp_path, "evaluate", *flags)
        wait_for(tmp_path / "evaluated" / "evaluations.json", process)
        time.sleep(moments.uniform(0, 0.3))
        assert kill(process)
    assert not (tmp_path / "evaluated" / "result.json").exists()
    done = call(tmp_path, "evaluate", *flags)
    assert done.returncode == 0, done.stderr
    ours, theirs = (
        json.loads((place / "evaluated" / "result.json").read_text()) for place in (tmp_path, whole)
    )
    assert ours["rows"] == theirs["rows"]
    names = [sorted(p.name for p in (place / "evaluated").iterdir()) for place in (tmp_path, whole)]
    assert names[0] == names[1]


def test_the_best_sets_of_a_run_that_is_not_finished_are_not_evaluated(whole, tmp_path):
    process = start(tmp_path, "distill", *SMALL, "--out", "run")
    wait_for(tmp_path / "run" / "distilled-best-test.safetensors", process)
    assert kill(process)
    for flags in ((), ("--which", "best-test")):
        done = call(tmp_path, "evaluate", "run", *flags)
        assert done.returncode == 2
        assert "run is of a run that is not finished; start its command again" in done.stderr


def test_a_damaged_checkpoint_is_named_and_the_one_before_it_is_used(whole, tmp_path):
    process = start(tmp_path, "distill", *SMALL, "--out", "run")
    checkpoints = checkpoint(tmp_path / "run", 100, process)
    assert kill(process)
    newest = max(path for path in checkpoints.iterdir() if path.suffix == ".json").stem
    path = flip_a_byte(checkpoints / newest)
    done = call(tmp_path, "distill", *SMALL, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert f"warning: {path.relative_to(tmp_path)} is damaged" in done.stderr
    assert done.stderr.count("\n") == 1
    check_same(tmp_path, whole)


@pytest.fixture
def small_disk(tmp_path):
    """A disk of two megabytes."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("a small disk can be mounted by root alone")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True)


def fill(disk, left):
    """Leave no more than so many bytes on the disk."""
    free = int(subprocess.check_output(["stat", "-f", "-c", "%a %S", disk]).split()[0]) * 4096
    try:
        (disk / "filler").write_bytes(bytes(free - left))
    except OSError as error:  # The run may write at the same time, and what is full is full.
        if error.errno != errno.ENOSPC:
            raise


@pytest.mark.parametrize("left", [0, 90_000])
def test_a_full_disk_is_one_line_and_what_was_kept_is_used(whole, tmp_path, small_disk, left):
    flags = (*SMALL, "--out", "disk/run")
    process = start(tmp_path, "distill", *flags)
    checkpoints = checkpoint(small_disk / "run", 50, process)
    fill(small_disk, left)
    shown = without_flags(process.communicate(timeout=300)[1])
    assert process.returncode == 1
    assert shown.count("\n") == 1, shown
    assert "the disk is full" in shown
    assert "the same command goes on" in shown
    kept = sorted(path.name for path in checkpoints.iterdir())
    assert any(name.endswith(".json") for name in kept), kept
    assert not any("tmp" in name for name in kept), kept
    (small_disk / "filler").unlink()
    done = call(tmp_path, "distill", *flags)
    assert done.returncode == 0, done.stderr
    assert "0 to train" in done.stdout
    ours, theirs = tmp_path / "disk" / "run", whole / "run"
    name = "distilled.safetensors"
    assert (ours / name).read_bytes() == (theirs / name).read_bytes()


def test_teachers_that_the_disk_cannot_hold_are_not_begun(tmp_path, small_disk):
    fill(small_disk, 50_000)
    done = call(tmp_path, "teachers", *shlex.split("--teachers 3 --teachers-dir disk/teachers"))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "3 teachers of 21 snapshots need 2.6 MiB, but the disk of disk/teachers" in done.stderr


def test_a_folder_that_may_not_be_written_to_is_one_line(tmp_path, small_disk):
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    done = call(tmp_path, "distill", *SMALL, "--out", "disk/run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "disk may not be written to; change that, or choose another folder" in done.stderr


def test_without_baselines_only_the_distilled_set_is_evaluated(whole):
    rows = json.loads((whole / "run" / "result.json").read_text())["rows"]
    assert [row["method"] for row in rows] == ["DDPP (threshold 0.1)"]
    assert not (whole / "run" / "mtt").exists()
    assert not (whole / "run" / "checkpoints").exists()


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
