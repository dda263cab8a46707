"""Who is told of a run beside the console."""

import sys
from types import SimpleNamespace

import pytest

from ddpp_jax.errors import InputError
from ddpp_jax.progress import PROGRESS, Report
from ddpp_jax.storage import read_rows


def work(report, folder, error=None):
    with report.run(folder, {"seed": 0}), report.progress("distil", 3, unit="step", done=1) as tick:
        tick(2, {"loss": 0.5})
        if error is not None:
            raise error
        tick(3, {"loss": float("nan")})


def test_a_run_notes_its_stages(tmp_path):
    work(Report(None, command="python -m ddpp_jax.distill"), tmp_path)
    rows = read_rows(tmp_path / PROGRESS)
    assert [row["event"] for row in rows] == ["start", "stage", "tick", "end", "finish"]
    assert rows[0]["command"] == "python -m ddpp_jax.distill"
    stage = {"event": "stage", "stage": "distil", "total": 3, "unit": "step", "done": 1}
    assert rows[1] == {"row": 2} | stage
    assert rows[2]["values"] == {"loss": None}
    assert rows[3]["done"] == 3
    assert rows[3]["memory_mib"] > 10


def test_a_run_that_fails_says_so_and_the_next_one_adds_to_it(tmp_path):
    with pytest.raises(OSError, match="full"):
        work(Report(None), tmp_path, OSError("the disk is full"))
    work(Report(None), tmp_path)
    rows = read_rows(tmp_path / PROGRESS)
    ends = [row for row in rows if row["event"] in ("stop", "finish")]
    assert [row["event"] for row in ends] == ["stop", "finish"]
    assert ends[0]["error"] == "the disk is full"
    assert [row["done"] for row in rows if row["event"] == "end"] == [2, 3]


def test_ticks_are_noted_now_and_then(tmp_path):
    report = Report(None)
    with report.run(tmp_path, {}), report.progress("fast", 1000, unit="step") as tick:
        for done in range(1000):
            tick(done + 1, {})
    assert sum(row["event"] == "tick" for row in read_rows(tmp_path / PROGRESS)) < 5


@pytest.mark.parametrize("name", ["trackio", "wandb"])
def test_a_tracker_is_told_of_every_tick(tmp_path, monkeypatch, name):
    calls = []
    stub = SimpleNamespace(
        __name__=name,
        init=lambda **about: calls.append(("init", about)),
        log=lambda values: calls.append(("log", values)),
        finish=lambda **how: calls.append(("finish", how)),
    )
    monkeypatch.setitem(sys.modules, name, stub)
    (tmp_path / "run").mkdir()
    work(Report(None, track=name), tmp_path / "run")
    assert calls[0] == ("init", {"project": "ddpp-jax", "name": "run", "config": {"seed": 0}})
    assert calls[1] == ("log", {"distil/step": 2, "distil/loss": 0.5})
    assert calls[-1] == ("finish", {})
    with pytest.raises(OSError, match="full"):
        work(Report(None, track=name), tmp_path / "run", OSError("full"))
    assert calls[-1] == ("finish", {"exit_code": 1} if name == "wandb" else {})


def test_a_tracker_that_cannot_begin_is_one_line(tmp_path, monkeypatch):
    def refuse(**about):
        raise RuntimeError("no login")

    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(__name__="wandb", init=refuse))
    with pytest.raises(InputError, match="wandb cannot begin: no login"):
        work(Report(None, track="wandb"), tmp_path)


def test_a_row_that_a_kill_tore_is_cut(tmp_path):
    work(Report(None), tmp_path)
    path = tmp_path / PROGRESS
    path.write_bytes(path.read_bytes()[:-9])
    work(Report(None), tmp_path)
    events = [row["event"] for row in read_rows(path)]
    assert events == ["start", "stage", "tick", "end", "start", "stage", "tick", "end", "finish"]


def test_a_tracker_that_is_not_installed_is_refused_before_anything_starts(monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(InputError, match="pip install wandb"):
        Report(None, track="wandb")


def test_tensorboard_gets_scalars(tmp_path):
    pytest.importorskip("tensorboardX")
    work(Report(None, track="tensorboard"), tmp_path)
    found = list((tmp_path / "tensorboard").glob("events*"))
    assert len(found) == 1
    assert b"distil/loss" in found[0].read_bytes()
