"""Numbers that make no sense are refused at the flag, and what a run cannot do before it begins."""

import dataclasses
import fcntl
import inspect
import os
import re
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest
import small

from ddpp_jax.cli.program import run as run_command
from ddpp_jax.configs import (
    DIGITS,
    AttackConfig,
    ContinualConfig,
    DataConfig,
    DistributionConfig,
    EvaluateConfig,
    EvaluateJob,
    ModelConfig,
    SelectConfig,
    TeachConfig,
    TrajectoryConfig,
)
from ddpp_jax.configs.checks import MOST
from ddpp_jax.distill.health import Health
from ddpp_jax.errors import InputError

CONFIGS = (
    AttackConfig,
    DataConfig,
    ModelConfig,
    TeachConfig,
    TrajectoryConfig,
    DistributionConfig,
    EvaluateConfig,
    SelectConfig,
    ContinualConfig,
)
BEYOND = (1e39, -1e39, 1e-50, 1e-40, float("inf"), float("-inf"), float("nan"))
TINY = "--width 4 --depth 1 --teachers 1 --epochs 3 --max-start-epoch 1 --student-steps 1"


def fields(kind):
    for make in (*CONFIGS, lambda **given: dataclasses.replace(DIGITS, **given), EvaluateJob):
        names = dataclasses.fields(DIGITS if not isinstance(make, type) else make)
        for field in names:
            if re.search(rf"\b{kind}\b", str(field.type)) and field.name != "precision":
                yield make, field.name


FLOATS, WHOLE = list(fields("float")), list(fields("int"))


def test_every_number_is_looked_at():
    assert len(FLOATS) >= 10
    assert {name for _, name in WHOLE} - MOST.keys() == {"seed", "split_seed", "teacher_seed"}


@pytest.mark.parametrize("value", BEYOND)
@pytest.mark.parametrize(("make", "name"), FLOATS)
def test_numbers_beyond_float32_are_refused(make, name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} is .*; wanted"):
        make(**{name: value})


@pytest.mark.parametrize("value", [10**10, 10**30, 10**400, -1, -(10**400)])
@pytest.mark.parametrize(("make", "name"), WHOLE)
def test_sizes_that_make_no_sense_are_refused(make, name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} is .*; wanted") as caught:
        make(**{name: value})
    assert len(str(caught.value)) < 120


@pytest.mark.parametrize("name", ["epochs", "width", "ipc", "steps", "networks"])
def test_what_a_refusal_advises_is_taken(name):
    make = next(make for make, other in WHOLE if other == name)
    with pytest.raises(InputError) as caught:
        make(**{name: 10**12})
    least, most = map(int, re.search(r"wanted (\d+) to (\d+)", str(caught.value)).groups())
    for value in (least, most):
        assert getattr(make(**{name: value}), name) == value


def test_a_run_of_which_every_step_was_skipped_is_no_result():
    watch = Health(small.method(), [], lambda line: None)
    for step in (1, 2):
        watch.record({"step": step, "loss": None, "skipped": True})
    with pytest.raises(InputError, match="all 2 steps were skipped"):
        watch.require_progress()
    watch.record({"step": 3, "loss": 1.0, "kept_fraction": 1.0, "alpha": 0.1})
    watch.require_progress()


@pytest.fixture
def refused(tmp_path, capfd, monkeypatch):
    """What both a run and its dry run are refused for, which is the same line."""
    monkeypatch.chdir(tmp_path)

    def run(stage, flags, *, dry_alone=False):
        before = sorted(tmp_path.rglob("*"))
        lines = []
        for dry in (["--dry-run"], *([] if dry_alone else [[]])):
            with pytest.raises(SystemExit) as leaving:
                run_command(stage, [*shlex.split(flags), *dry])
            assert leaving.value.code == 2
            lines.append(capfd.readouterr().err)
            assert sorted(tmp_path.rglob("*")) == before
        assert len(set(lines)) == 1
        warnings, error = lines[0].rsplit("python -m ddpp_jax", 1)
        assert all(line.startswith("warning: ") for line in warnings.splitlines())
        assert error.count("\n") == 1
        return error

    return run


STAGES = [
    ("distill", TINY),
    ("distill", f"{TINY} --sweep seed=0,1"),
    ("select", "--width 4 --depth 1 --method herding --epochs 3"),
    ("evaluate", "set.npz --width 4 --depth 1"),
]


@pytest.fixture
def made_set(tmp_path):
    images = np.linspace(0, 1, 2 * 64).reshape(2, 8, 8, 1)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(2), lr=0.1)


@pytest.mark.usefixtures("made_set")
@pytest.mark.parametrize(("stage", "flags"), STAGES)
def test_a_folder_that_cannot_be_claimed_is_refused(refused, tmp_path, stage, flags):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    assert "mine holds other files" in refused(stage, f"{flags} --out mine")
    (tmp_path / "file").write_text("")
    assert "file is a file" in refused(stage, f"{flags} --out file/run")
    (tmp_path / "held").mkdir()
    with (tmp_path / "held" / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "another process is working in held" in refused(stage, f"{flags} --out held")


@pytest.mark.usefixtures("made_set")
@pytest.mark.parametrize(("stage", "flags"), STAGES)
def test_a_folder_that_may_not_be_written_to_is_refused(refused, monkeypatch, stage, flags):
    monkeypatch.setattr(os, "access", lambda place, mode: "locked" not in str(place))
    Path("locked").mkdir()
    assert "locked may not be written to" in refused(stage, f"{flags} --out locked/run")


@pytest.mark.usefixtures("made_set")
@pytest.mark.parametrize(
    ("stage", "flags", "advice"),
    [
        ("teachers", "--width 4 --depth 1 --epochs 3", "--epochs 3 or --teachers 10"),
        ("distill", TINY, "lower --width 4 or --epochs 3"),
        ("select", "--width 4 --depth 1 --method herding --epochs 3", "lower --width 4"),
        ("evaluate", "set.npz --width 4 --depth 1 --networks 2", "lower --width 4 or --networks 2"),
    ],
)
def test_memory_is_asked_for_before_it_is_taken(refused, monkeypatch, stage, flags, advice):
    real = psutil.virtual_memory()

    def little():
        asked_by = {frame.function for frame in inspect.stack(0)}
        fits = "require_memory" in asked_by  # As images do.
        return SimpleNamespace(available=real.available if fits else 0)

    monkeypatch.setattr(psutil, "virtual_memory", little)
    monkeypatch.setattr("ddpp_jax.planning.sizes.device_room", lambda: 2**30)
    error = refused(stage, flags, dry_alone=True)
    assert advice in error
    assert "of memory at the least" in error


def test_data_that_cannot_be_normalised_are_refused(refused, tmp_path):
    flat = np.zeros((8, 8, 8, 3), np.uint8)
    flat[..., 0] = np.arange(8, dtype=np.uint8)
    labels = np.arange(8) % 2
    np.savez(tmp_path / "flat.npz", x_train=flat, y_train=labels, x_test=flat, y_test=labels)
    for stage in ("teachers", "distill", "select"):
        flags = "--settings digits --dataset flat.npz --width 4 --depth 1"
        assert "is the same everywhere" in refused(stage, flags)


def test_dry_runs_of_all_commands_start_nothing(tmp_path, capfd, monkeypatch, made_set):
    monkeypatch.chdir(tmp_path)
    for stage, flags in STAGES[1:]:
        with pytest.raises(SystemExit) as leaving:
            run_command(stage, [*shlex.split(flags), "--dry-run", "--profile", "traces"])
        assert leaving.value.code == 0
        shown = capfd.readouterr()
        assert shown.out
        assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


@pytest.mark.parametrize(
    ("side", "flags", "advised"),
    [
        (1, "", "--image-size 2 --depth 1"),
        (8, "--depth 4", "--depth 3"),
        (8, "--student-batch 3", "--student-batch 2"),
        (8, "--student-batch 10000", "--student-batch 2"),
    ],
)
def test_what_is_advised_is_accepted(tmp_path, capfd, monkeypatch, side, flags, advised):
    monkeypatch.chdir(tmp_path)
    images = np.random.default_rng(0).uniform(size=(8, side, side, 1))
    labels = np.arange(8) % 2
    np.savez("data.npz", x_train=images, y_train=labels, x_test=images, y_test=labels)
    common = "digits --dataset data.npz --width 4 --teachers 1 --epochs 3 --max-start-epoch 1"
    codes = []
    for more in (flags, advised):
        depth = "" if "depth" in more or side == 1 else " --depth 1"
        command = f"{common} --student-steps 1 {more}{depth} --sweep seed=0,1 --dry-run"
        with pytest.raises(SystemExit) as leaving:
            run_command("distill", shlex.split(command))
        codes.append(leaving.value.code)
        error = capfd.readouterr().err
        if more == flags:
            assert all(word in error for word in advised.split()[:2])
    assert codes == [2, 0]
