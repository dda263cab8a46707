"""Settings that are found, over several datasets and seeds: what the table says."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPTS = Path(__file__).parent.parent / "scripts"
TITLES = ("random real images", "MTT (no pruning)", "DDPP (threshold 0.1)", "full data (teachers)")


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import found

    return found


class Commands:
    """Stands in for the commands: sets that get better with the seed."""

    def __init__(self):
        self.calls = []

    def __call__(self, stage, *flags):
        flags = list(map(str, flags))
        self.calls.append((stage, flags))
        if "--print-settings" in flags:
            teaching = {"teacher_rate": 0.02, "teachers": 4, "epochs": 9}
            tuned = {"ipc": 1, "max_start_epoch": 5, "pixel_rate": 0.1, "steps": 60}
            return json.dumps({"teaching": teaching, "distillation": tuned})
        out = Path(flags[flags.index("--out") + 1])
        seed = int(out.name.split("seed")[1][0])
        means = dict(zip(TITLES, (0.3, 0.6 + 0.02 * seed, 0.62 + 0.01 * seed, 0.9), strict=True))
        means = {"herding": 0.4 + 0.01 * seed} if stage == "evaluate" else means
        rows = [{"method": m, "accuracies": [mean, mean + 0.01]} for m, mean in means.items()]
        out.mkdir(exist_ok=True)
        (out / "result.json").write_text(json.dumps({"rows": rows}))
        return ""


@pytest.fixture
def run(script, monkeypatch, tmp_path, capsys):
    commands = Commands()
    monkeypatch.setattr(script, "call", commands)

    def run(*words):
        monkeypatch.setattr(sys, "argv", ["found.py", *words, "--out", str(tmp_path / "out")])
        script.main()
        return capsys.readouterr().out, commands.calls

    return run


def test_rows_are_means_over_seeds_with_paired_differences(run):
    shown, calls = run("--seeds", "0,1,2", "--only", "digits", "shapes-3-16")
    table = shown[shown.index("Seeds [0, 1, 2], ") :]
    (row,) = (line for line in table.splitlines() if line.startswith("| digits | 30"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:6] == [
        *("digits", "30.5 ± 0.0", "41.5 ± 1.0", "62.5 ± 2.0", "63.5 ± 1.0", "90.5 ± 0.0")
    ]
    assert cells[6:8] == ["+33.0 ± 0.6", "+22.0 ± 0.0"]
    assert "| shapes-3-16 | 2 | 0.02 | 4 x 9 | 5 | 0.1 | 60 |" in table
    assert len([1 for stage, _ in calls if stage == "evaluate"]) == 6
    seeds = [flags[flags.index("--seed") + 1] for stage, flags in calls if stage == "select"]
    assert seeds == ["0", "0", "1", "1", "2", "2"]
    again, _ = run("--seeds", "0,1,2", "--only", "digits", "shapes-3-16")
    assert again == shown


def test_shapes_are_drawn_where_they_are_asked_for(run, tmp_path):
    run("--only", "shapes-3-16")
    assert [path.name for path in (tmp_path / "out").glob("*.npz")] == ["shapes-3-16.npz"]
    with np.load(tmp_path / "out" / "shapes-3-16.npz") as arrays:
        assert arrays["x_train"].shape == (60, 16, 16, 1)
        np.testing.assert_array_equal(np.bincount(arrays["y_train"]), [20, 20, 20])
        np.testing.assert_array_equal(np.bincount(arrays["y_test"]), [100, 100, 100])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "x"], "--seeds is 'x'; wanted whole numbers"),
        (["--only", "mnist"], "--only has 'mnist'; wanted some of digits, shapes-3-16"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(run, capsys, words, said):
    with pytest.raises(SystemExit) as left:
        run(*words)
    assert left.value.code == 2
    assert said in capsys.readouterr().err
