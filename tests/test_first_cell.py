"""Runs of the paper's first cell in one table and one picture."""

import json
import sys
from pathlib import Path

import pytest

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


def make_run(folder, teachers, seed, accuracies):
    """A run that evaluated both methods after 0 and 100 steps, and DDPP once more."""
    (folder / "mtt").mkdir(parents=True)
    config = {"config": {"teaching": {"teachers": teachers}, "seed": seed}}
    (folder / "config.json").write_text(json.dumps(config))
    for place, ahead in ((folder, 0.01 * seed), (folder / "mtt", 0.0)):
        rows = [{"step": 0, "accuracy": accuracies[0]}, {"step": 1, "loss": 0.9}]
        rows += [{"step": 100, "accuracy": accuracies[1] + ahead}]
        rows += [{"step": 200, "accuracy": 0.5}] * (place == folder)
        (place / "metrics.jsonl").write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    return folder


def test_seeds_are_paired_and_teachers_told_apart(run, tmp_path):
    folders = [
        make_run(tmp_path / "a", 10, 0, (0.18, 0.42)),
        make_run(tmp_path / "b", 10, 2, (0.16, 0.40)),
        make_run(tmp_path / "c", 40, 1, (0.17, 0.45)),
    ]
    shown, picture = run(*folders)
    assert shown.splitlines()[2:] == [
        "| 10 | 2 | 0 | 17.0 ± 1.4 | 17.0 ± 1.4 | +0.0 ± 0.00 |",
        "| 10 | 2 | 100 | 41.0 ± 1.4 | 42.0 ± 0.0 | +1.0 ± 1.00 |",
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
