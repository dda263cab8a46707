"""The paper's tables: cells that are complete are not run again, and what the tables say."""

import csv
import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ddpp_jax.configs import SETTINGS
from ddpp_jax.storage import Leases

SCRIPTS = Path(__file__).parent.parent / "scripts"
MEANS = {
    "random real images": 0.2,
    "herding": 0.25,
    "forgetting (most forgotten)": 0.1,
    "forgetting (least forgotten)": 0.3,
    "k-centre": 0.15,
    "DSA": 0.35,
    "DM": 0.32,
    "CAFE": 0.37,
    "KIP": 0.33,
    "KIP by its kernel": 0.4,
    "MTT (no pruning)": 0.45,
    "DDPP (threshold 0.1)": 0.43,
    "full data (the teachers)": 0.6,
}

OF_METHOD = {
    "ddpp": list(MEANS)[-3:],
    "kip": ["KIP", "KIP by its kernel"],
    "mtt": ["MTT (no pruning)", "full data (the teachers)"],
    **{name.lower(): [name] for name in ("DSA", "DM", "CAFE")},
}


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import tables

    monkeypatch.setattr(tables, "CHOSEN", {})  # Whatever is chosen beside it.
    return tables


class Commands:
    """Stands in for the commands: leaves a result where each would, until one is killed."""

    def __init__(self, killed_at=None):
        self.calls, self.killed_at = [], killed_at

    def __call__(self, command, *, check):
        self.calls.append(command)
        if len(self.calls) == self.killed_at:
            raise subprocess.CalledProcessError(-9, command)
        flags = {command[i]: command[i + 1] for i in range(len(command) - 1)}
        stage, out = flags["-m"].removeprefix("ddpp_jax."), Path(flags["--out"])
        seed = int(flags.get("--seed") or re.search(r"seed(\d+)", out.name)[1])
        if stage == "distill":
            methods = OF_METHOD[flags.get("--method", "ddpp")]
            methods = methods[1:2] if "--no-baselines" in command else methods
        elif "mtt" in " ".join(command):
            methods = OF_METHOD["ddpp"][:2]
        else:
            methods = list(MEANS)[:5]
        out.mkdir(parents=True, exist_ok=True)
        (out / "distilled.safetensors").touch()
        if stage != "select":
            rows = [self.row(m, seed, "architecture" in str(command)) for m in methods]
            (out / "result.json").write_text(json.dumps({"rows": rows}))

    @staticmethod
    def row(method, seed, other_network):
        accuracies = MEANS[method] + 0.01 * seed + np.array([0.0, 0.02])
        row = {"method": method, "accuracies": accuracies.tolist(), "seed": seed}
        row |= {} if method.startswith("full") else {"ipc": 1, "settings": "12345678"}
        return row | ({"architecture": "vgg11"} if other_network else {})


def as_subprocess(commands):
    return SimpleNamespace(run=commands, CalledProcessError=subprocess.CalledProcessError)


def run(script, monkeypatch, folder, commands, table="1", scale="small"):
    monkeypatch.setattr("runner.subprocess", as_subprocess(commands))
    arguments = [table, "--scale", scale, "--data-dir", "data", "--out", str(folder)]
    monkeypatch.setattr(sys, "argv", ["tables.py", *arguments])
    script.main()


def test_a_killed_table_goes_on_with_the_cell_it_was_at(script, monkeypatch, tmp_path):
    whole = Commands()
    run(script, monkeypatch, tmp_path / "whole", whole)
    # Two columns and three seeds, each four distillations, five choices and their evaluation.
    assert len(whole.calls) == 2 * 3 * 10
    killed, rest = Commands(killed_at=20), Commands()
    with pytest.raises(SystemExit, match="status -9; then this one goes on"):
        run(script, monkeypatch, tmp_path / "cut", killed)
    run(script, monkeypatch, tmp_path / "cut", rest)
    assert len(killed.calls) - 1 + len(rest.calls) == len(whole.calls)
    for name in ("table1.md", "table1.csv"):
        assert (tmp_path / "whole" / name).read_text() == (tmp_path / "cut" / name).read_text()
    again = Commands()
    run(script, monkeypatch, tmp_path / "cut", again)
    assert again.calls == []


def test_cells_that_another_process_is_at_come_last(script, monkeypatch, tmp_path):
    commands, looks = Commands(), []
    monkeypatch.setattr("runner.subprocess", as_subprocess(commands))
    with Leases(tmp_path) as theirs, Leases(tmp_path) as ours:
        runner = script.Runner(tmp_path, "data", ours)

        def look(seconds):
            """While this process waits, the other one comes to its end."""
            looks.append(seconds)
            theirs.give_back("cell-0")

        monkeypatch.setattr("runner.time.sleep", look)
        assert theirs.take("cell-0")
        order = []

        def fn(seed):
            found = runner.call(f"cell-{seed}", "select", "digits", "--seed", str(seed))
            order.append(seed)
            return found

        found = script.each([0, 1, 2], fn)
        assert order == [1, 2, 0]
        names = {seed: place.name.rpartition("-")[0] for seed, place in found.items()}
        assert names == {seed: f"cell-{seed}" for seed in range(3)}
        assert len(looks) == 1
        assert len(commands.calls) == 3
        assert theirs.take("cell-1"), "what is done is given back"


def test_other_flags_are_another_cell(script, monkeypatch, tmp_path):
    commands = Commands()
    monkeypatch.setattr("runner.subprocess", as_subprocess(commands))
    runner = script.Runner(tmp_path, "data")
    for number, seed in enumerate(("1", "1", "2")):
        runner.call("cell", "select", "digits", "--seed", seed)
        assert len(commands.calls) == (1, 1, 2)[number]
    other = dataclasses.replace(SETTINGS["digits"], real_rate=0.02)
    monkeypatch.setitem(SETTINGS, "digits", other)
    runner.call("cell", "select", "digits", "--seed", "2")
    assert len(commands.calls) == 3
    assert len(list(tmp_path.glob("cell-*"))) == 3  # Other flags or settings, another folder.
    for left in tmp_path.glob("cell-*/distilled.safetensors"):
        left.unlink()
    runner.call("cell", "select", "digits", "--seed", "2")
    assert len(commands.calls) == 4


CSV = """cell,method,knob,value,tries,held_out
cifar10-ipc1,mtt,pixel-rate,30,5,40.0
cifar10-ipc1,ddpp,pixel-rate,{ddpp},5,41.0
cifar10-ipc1,dm,pixel-rate,3,5,35.0
cifar10-16-ipc1,kip,pixel-rate,0.1,5,20.0
"""


@pytest.mark.parametrize(("ddpp", "runs"), [("30", 1), ("10", 2)])
def test_tables_take_what_was_chosen(script, monkeypatch, tmp_path, ddpp, runs):
    (tmp_path / "chosen.csv").write_text(CSV.format(ddpp=ddpp))
    monkeypatch.setattr(script, "CHOSEN", script.read_chosen(tmp_path / "chosen.csv"))
    commands = Commands()
    run(script, monkeypatch, tmp_path / "out", commands)
    distilled = [command for command in commands.calls if "ddpp_jax.distill" in command]
    first = [command for command in distilled if "cifar10-small-ipc1" in command]
    methods = [flag_of(command, "--method") or "ddpp" for command in first]
    assert methods.count("mtt") == (runs - 1) * 3
    rates = {flag_of(c, "--method") or "ddpp": flag_of(c, "--pixel-rate") for c in first}
    both = {"ddpp": ddpp, "dm": "3", "dsa": None, "cafe": None}
    assert rates == both | ({"mtt": "30"} if runs == 2 else {})
    assert all(flag_of(c, "--pixel-rate") is None for c in distilled if c not in first)
    text = (tmp_path / "out" / "table1.md").read_text()
    assert f"DDPP `--pixel-rate {ddpp}` of 5" in text
    assert "DM `--pixel-rate 3` of 5" in text
    assert "KIP" not in text.rpartition("Chosen on held-out")[2]
    for row in ("MTT (no pruning)", "DDPP (threshold 0.1)"):
        assert f"| {row} |" in text


def test_table_2_takes_no_choice_of_mtt(script, monkeypatch, tmp_path):
    rows = CSV.format(ddpp=10).replace("cifar10-ipc1", "digits")
    (tmp_path / "chosen.csv").write_text(rows)
    monkeypatch.setattr(script, "CHOSEN", script.read_chosen(tmp_path / "chosen.csv"))
    commands = Commands()
    run(script, monkeypatch, tmp_path / "out", commands, table="2")
    assert all(flag_of(command, "--method") in (None, "kip") for command in commands.calls)
    rates = [flag_of(c, "--pixel-rate") for c in commands.calls if flag_of(c, "--image-size")]
    assert rates == [None, "0.1"] * 3 or rates == ["0.1", None] * 3
    text = (tmp_path / "out" / "table2.md").read_text().rpartition("Chosen on held-out")[2]
    assert "DDPP `--pixel-rate 10` of 5; CIFAR-10 at 16x16, 1: KIP `--pixel-rate 0.1`" in text
    assert "MTT" not in text


def test_dry_runs_are_of_all_that_a_table_distils(script, monkeypatch, tmp_path):
    (tmp_path / "chosen.csv").write_text(CSV.format(ddpp=10))
    monkeypatch.setattr(script, "CHOSEN", script.read_chosen(tmp_path / "chosen.csv"))
    one, ten = script.COLUMNS["1", "small"]
    assert script.beside("1", one) == ("dsa", "dm", "cafe", "mtt")
    assert script.beside("1", ten) == ("dsa", "dm", "cafe")
    assert script.beside("2", one) == ("kip",)
    # The paper's columns of Table 2 are distilled for Table 1, with MTT beside.
    same = script.COLUMNS["2", "paper"][0]
    assert "--no-baselines" not in script.distillation(same, 0, table="2")
    assert "--no-baselines" in script.distillation(script.COLUMNS["2", "small"][0], 0, table="2")


def flag_of(command, name):
    return command[command.index(name) + 1] if name in command else None


def test_a_folder_of_something_else_is_refused(script, monkeypatch, tmp_path):
    (tmp_path / "table1.md").write_text("years of work")
    with pytest.raises(SystemExit, match=r"scripts/tables: .* holds other files"):
        run(script, monkeypatch, tmp_path, Commands())
    assert (tmp_path / "table1.md").read_text() == "years of work"


def test_what_table_1_says(script, monkeypatch, tmp_path, capsys):
    run(script, monkeypatch, tmp_path, Commands())
    text = (tmp_path / "table1.md").read_text()
    assert text in capsys.readouterr().out + "\n"
    # Means over seeds 0, 1, 2: one point apart; networks two points apart.
    assert "| MTT (no pruning) | 47.0 ± 1.0 (1.0) | 46.3 ± 0.8 | 47.0 ± 1.0 (1.0) |" in text
    assert "| k-centre | 17.0 ± 1.0 (1.0) | - |" in text
    assert "DDPP (threshold 0.1) less random real images: +23.0 ± 0.0 points" in text
    assert "the paper has DDPP (threshold 0.1) above MTT (no pruning); here DDPP (thresh" in text
    assert "the paper has herding" not in text  # the same order here as there
    assert "one seed only" not in text
    with (tmp_path / "table1.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 2 * (len(MEANS) - 2)
    assert {row["seeds"] for row in rows} == {"3"}
    assert float(rows[0]["mean"]) == pytest.approx(22.0)
    with Image.open(tmp_path / "table1.png") as image:
        assert min(image.size) > 300


@pytest.mark.parametrize("scale", ["small", "paper"])
@pytest.mark.parametrize(("table", "columns"), [("1", 2), ("2", 2), ("3", 4), ("4", 2)])
def test_every_table_and_scale_names_settings_that_there_are(
    script, monkeypatch, tmp_path, table, columns, scale
):
    from ddpp_jax.configs import check_architecture

    cells = script.COLUMNS[table, scale]
    assert len(cells) >= columns
    for column in cells:
        assert column.setting in SETTINGS
        check_architecture(column.architecture)
    if table != "1":
        run(script, monkeypatch, tmp_path, Commands(), table=table, scale=scale)
        assert "DDPP (threshold 0.1)" in (tmp_path / f"table{table}.md").read_text()


def test_the_papers_figures_are_those_of_the_published_tables(script):
    """Against the sheet of published numbers, where it is there."""
    sheet = SCRIPTS.parent.parent / "shared" / "paper-settings.md"
    if not sheet.exists():
        pytest.skip("the sheet of published numbers is not here")
    lines = sheet.read_text().splitlines()
    rows = [line.replace("*", "").strip("| ").split(" | ") for line in lines if "±" in line]
    first = [row for row in rows if len(row) >= 9]
    assert len(first) == 6
    of_table = {number: {} for number in "1234"}
    for (number, name), column in script.PAPER.items():
        of_table[number][name] = column
    for (name, column), row in zip(of_table["1"].items(), first, strict=True):
        cells = [tuple(map(float, cell.split("±"))) for cell in row[-8:]]
        assert list(column.values())[:8] == cells
        assert name.rpartition("ipc")[2] in row
    text = " ".join(lines)
    words = {"convnet": "ConvNet", "alexnet": "AlexNet", "vgg11": "VGG11", "resnet18": "ResNet18"}
    table_2 = text[text.index("Table 2") : text.index("Table 3")]
    for column in of_table["2"].values():
        assert f"/{column['KIP'][0]}/{column[script.DDPP][0]}" in table_2
    for name, column in of_table["3"].items():
        mean, deviation = column[script.DDPP]
        assert f"{words[name]} {mean}±{deviation}" in text
    for key, start in ((script.DDPP, "): "), (script.MTT, "; MTT ")):
        listed = ", ".join("{}±{}".format(*column[key]) for column in of_table["4"].values())
        assert start + listed in text
    listed = ", ".join("{}±{}".format(*c[script.MTT]) for c in of_table["3"].values())
    assert listed in text


NAMES = [
    name if method == "ddpp" else f"{name}, {method}"
    for name in ("cifar10-small-ipc1", "cifar10-small-ipc10")
    for method in ("ddpp", "dsa", "dm", "cafe")
]


def test_what_a_table_costs_is_said_without_a_run(script, monkeypatch, tmp_path, capsys):
    commands = []

    def dry_run(command, **_):
        commands.append(command)
        refused = len(commands) > 1
        said = "lines of settings\nTime: about 3 min from the start\n  teachers: 1 min\n"
        return SimpleNamespace(
            returncode=int(refused), stdout=said, stderr="warning: old\nno such dataset\n"
        )

    monkeypatch.setattr(script, "subprocess", as_subprocess(dry_run))
    folder = tmp_path / "new"
    flags = ["1", "--data-dir", "data", "--out", str(folder), "--dry-run"]
    monkeypatch.setattr(sys, "argv", ["tables.py", *flags])
    script.main()
    assert capsys.readouterr().out.splitlines() == [
        "== cifar10-small-ipc1",
        "Time: about 3 min from the start",
        "  teachers: 1 min",
        *(line for name in NAMES[1:] for line in (f"== {name}", "no such dataset")),
    ]
    assert all(command[-1] == "--dry-run" for command in commands)
    assert not folder.exists()
