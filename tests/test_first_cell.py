"""Runs of the paper's first cell in one table and one picture."""

import json
import sys
from pathlib import Path

import pytest

from ddpp_jax.storage import write_rows

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import first_cell

    def run(*folders):
        out = tmp_path / "curve.png"
        monkeypatch.setattr(sys, "argv", ["first_cell.py", *map(str, folders), "--out", str(out)])
        first_cell.main()
        return capsys.readouterr().out, out

    return run


def make_run(folder, teachers, seed, accuracies, rate=100.0):
    """A run that evaluated both methods after 0 and 100 steps, and DDPP once more."""
    (folder / "mtt").mkdir(parents=True)
    distillation = {"steps": 200, "eval_every": 100, "pixel_rate": rate}
    config = {"teaching": {"teachers": teachers}, "distillation": distillation}
    config |= {"seed": seed, "random_draws": 2}
    (folder / "config.json").write_text(json.dumps({"config": config}))
    for place, ahead in ((folder, 0.01 * seed), (folder / "mtt", 0.0)):
        first = {"step": 0, "of": "x", "method": "DDPP", "shows": {}}
        rows = [first | {"accuracy": accuracies[0]}, {"step": 1, "loss": 0.9}]
        rows += [{"step": 100, "loss": 0.9, "accuracy": accuracies[1] + ahead}]
        rows += [{"step": 200, "loss": 0.9, "accuracy": 0.5}] * (place == folder)
        write_rows(place / "metrics.jsonl", rows)
    return folder


def test_seeds_are_paired_and_teachers_told_apart(run, tmp_path):
    folders = [
        make_run(tmp_path / "a", 10, 0, (0.18, 0.42)),
        make_run(tmp_path / "b", 10, 2, (0.16, 0.40)),
        make_run(tmp_path / "c", 40, 1, (0.17, 0.45)),
    ]
    shown, picture = run(*folders)
    assert shown.splitlines()[2:6] == [
        "| 10 | 2 | 0 | 17.0 ± 1.4 | 17.0 ± 1.4 | +0.0 ± 0.0 |",
        "| 10 | 2 | 100 | 41.0 ± 1.4 | 42.0 ± 0.0 | +1.0 ± 1.0 |",
        "| 40 | 1 | 0 | 17.0 | 17.0 | +0.0 |",
        "| 40 | 1 | 100 | 45.0 | 46.0 | +1.0 |",
    ]
    assert picture.read_bytes().startswith(b"\x89PNG")
    assert picture.stat().st_size > 10_000


def test_what_is_no_such_run_is_named(run, tmp_path):
    first = make_run(tmp_path / "a", 10, 0, (0.18, 0.42))
    with pytest.raises(SystemExit, match="nothing is no run of distill with MTT beside DDPP"):
        run(tmp_path / "nothing")
    with pytest.raises(SystemExit, match="second run of seed 0 with 10 teachers"):
        run(first, first)
    other = make_run(tmp_path / "b", 10, 1, (0.18, 0.42), rate=10.0)
    with pytest.raises(SystemExit, match="b has other settings than"):
        run(first, other)
