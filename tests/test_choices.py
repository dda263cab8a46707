"""Settings chosen on held-out images: what is tried, chosen, combined and compared."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ddpp_jax.storage import write_rows

SCRIPTS = Path(__file__).parent.parent / "scripts"


@pytest.fixture
def script(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import choices

    return choices


def value_of(command, flag):
    return command[command.index(flag) + 1] if flag in command else None


class Commands:
    """Stands in for distillations: accuracies that follow from the flags."""

    def __init__(self):
        self.calls, self.refuses, self.breaks = [], False, (None, None)
        self.labels, self.lost = -0.2, ()

    def accuracy(self, command):
        rate = float(value_of(command, "--pixel-rate") or 10)
        accuracy = 0.5 - 0.1 * abs(np.log10(rate / 30))
        accuracy += 0.05 * (value_of(command, "--match") == "nearest")
        accuracy += 0.1 * float(value_of(command, "--image-average") or 0)
        accuracy += self.labels * ("--learn-labels" in command)
        return accuracy + 0.01 * (value_of(command, "--method") == "ddpp")

    def __call__(self, command, *, check):
        assert check
        self.calls.append(command)
        if self.refuses:
            raise subprocess.CalledProcessError(2, command)
        accuracy = self.accuracy(command)
        out = Path(value_of(command, "--out"))
        out.mkdir(parents=True, exist_ok=True)
        write_rows(out / "metrics.jsonl", [{"step": 1, "loss": 0.5}])
        if "MTT" in self.lost and value_of(command, "--method") == "mtt":
            raise subprocess.CalledProcessError(2, command)
        if "--sweep" in command:
            knob, _, values = value_of(command, "--sweep").partition("=")
            at = command.index(f"--{knob}") + 1
            rows = [
                {"value": value, "held_out_mean": self.accuracy(varied)}
                for value in values.split(",")
                if (knob, value) not in (("label-rate", "18"), ("label-rate", "0.22"))
                and (varied := [*command[:at], value, *command[at + 1 :]])
            ]
            (out / "result.json").write_text(json.dumps({"rows": rows}))
            return
        if value_of(command, "--sam-rho") in ("0.3", "0.1"):
            raise subprocess.CalledProcessError(2, command)
        flag, at_seed = self.breaks
        if flag in command and value_of(command, "--seed") == at_seed:
            raise subprocess.CalledProcessError(2, command)
        seed = int(value_of(command, "--seed"))
        means = {"MTT (no pruning)": accuracy}
        if "--no-baselines" not in command:
            if value_of(command, "--method") == "ddpp":
                means["DDPP (threshold 0.1)"] = accuracy + 0.05
            means = {"random real images": 0.2, "random real images, teachers' labels": 0.3} | means
            means["full data (the teachers)"] = 0.9
        rows = [
            {"method": title, "accuracies": [mean + 0.02 * seed, mean + 0.02 * seed + 0.01]}
            for title, mean in means.items()
        ]
        if "--held-out" in command:
            rows[0]["held_out_mean"] = accuracy
        (out / "result.json").write_text(json.dumps({"rows": rows}))


@pytest.fixture
def run(script, monkeypatch, tmp_path, capsys):
    commands = Commands()
    monkeypatch.setattr("runner.subprocess.run", commands)

    def run(*words):
        out = ["--data-dir", "data", "--out", str(tmp_path / "out")]
        monkeypatch.setattr(sys, "argv", ["choices.py", *words, *out])
        script.main()
        return capsys.readouterr().out, commands.calls

    run.commands, run.choice_entries = commands, sys.modules["choice_entries"]
    return run


def test_as_many_values_are_tried_for_every_entry(script):
    for entries in script.ENTRIES.values():
        for cell, (named, _) in script.CELLS.items():
            for entry in (entry for entry in entries if cell in entry.cells):
                values = entry.tries(named)
                assert len(set(values)) == 5
                assert all(value > 0 for value in values)


def test_the_best_on_held_out_images_is_chosen(run, tmp_path):
    shown, calls = run("methods", "--cells", "digits", "--only", "DSA")
    assert "**30: 50.0**" in shown  # MTT's own rate on the digits, 10, times three.
    assert "| digits | DSA | `--pixel-rate`, at an edge |" in shown
    left = (tmp_path / "out" / "chosen.csv").read_text().splitlines()
    assert left[1:] == ["digits,mtt,pixel-rate,30,5,50.0", "digits,dsa,pixel-rate,0.9,5,34.8"]
    assert "| digits | MTT | `--pixel-rate` |" in shown
    assert "**0.9:" in shown
    assert len(calls) == 2  # All values side by side.
    for command in calls:
        assert value_of(command, "--held-out") == "0.1"
        assert value_of(command, "--seed") == "100"
        assert "--data-dir" not in command  # The digits have none.
    again, calls = run("methods", "--cells", "digits", "--only", "DSA")
    assert len(calls) == 2
    assert again.strip().endswith(shown.strip().split("\n\n")[-1])


def test_what_was_chosen_before_stays(run, tmp_path):
    run("methods", "--cells", "digits", "--only", "DSA")
    run("methods", "--cells", "cifar10-16-ipc1", "--only", "KIP")
    run("methods", "--cells", "digits", "--only", "DM")
    rows = (tmp_path / "out" / "chosen.csv").read_text().splitlines()[1:]
    assert [tuple(row.split(",")[:2]) for row in rows] == [
        *(("digits", "mtt"), ("digits", "dsa")),
        *(("cifar10-16-ipc1", "mtt"), ("cifar10-16-ipc1", "kip")),
        ("digits", "dm"),
    ]


def test_what_gains_is_combined_and_compared_by_seed(run):
    only = ("--only", "nearest step", "averaged images", "learned labels", "DDPP")
    shown, calls = run("parts", "--cells", "digits", "--seeds", "0,1,2", *only)
    # With a second seed what was chosen for MTT and its three parts is tried once more.
    assert len([command for command in calls if value_of(command, "--seed") == "101"]) == 4
    compared = [command for command in calls if value_of(command, "--seed") in ("0", "1", "2")]
    assert len(compared) == 3 * (5 + 2)
    for command in compared:
        assert "--held-out" not in command
        assert value_of(command, "--pixel-rate") == "30.0"
    together = [c for c in compared if {"--match", "--image-average"} <= set(c)]
    assert len(together) == 6
    assert {value_of(command, "--method") for command in together} == {"mtt", "ddpp"}
    assert all("--learn-labels" not in command for command in together)
    rows = [line.split(" | ", 2) for line in shown.splitlines() if line.count(" | ") == 4]
    lines = {title: figures for _, title, figures in rows if title != "what"}
    assert lines["MTT"].startswith("52.5 ± 2.0 |")
    assert "+14.8 ± 0.0 |" in lines["nearest step + averaged images"]
    assert "+15.8 ± 0.0 |" in lines["nearest step + averaged images + pruning"]
    assert "-20.0" in lines["learned labels"]
    assert lines["random real images, teachers' labels"].startswith("32.5 ± 2.0 | -20.0")


def test_a_try_that_breaks_down_is_not_chosen_and_found_out_once(run):
    shown, calls = run("parts", "--cells", "digits", "--only", "learned labels")
    assert "18: 0.0 |" in shown
    before = len(calls)
    again, _ = run("parts", "--cells", "digits", "--only", "learned labels")
    assert len(calls) == before
    assert "18: 0.0 |" in again


def test_tries_with_teachers_of_their_own_go_one_by_one(run):
    shown, calls = run("parts", "--cells", "digits", "--only", "flat teachers")
    assert len(calls) == 1 + 5
    assert "0.1: 0.0, 0.3: 0.0 |" in shown  # They break down.
    run("parts", "--cells", "digits", "--only", "flat teachers")
    assert len(calls) == 1 + 5


def test_other_settings_are_tried_anew(run, monkeypatch):
    _, calls = run("parts", "--cells", "digits", "--only", "flat teachers")
    changed = {"data": {"dataset": "digits"}, "steps": 7}
    monkeypatch.setattr("runner.settings_of", lambda *_: changed)
    run("parts", "--cells", "digits", "--only", "flat teachers")
    assert len(calls) == 2 * (1 + 5)  # Those that broke down, too.


def test_a_command_that_is_refused_ends_it_whatever_was_there(run, monkeypatch):
    run("parts", "--cells", "digits", "--only", "learned labels")
    monkeypatch.setattr(run.commands, "refuses", True)
    monkeypatch.setattr(run.choice_entries, "FACTORS", (1, 2, 3, 4, 5))
    with pytest.raises(SystemExit, match="a command left with status 2"):
        run("parts", "--cells", "digits", "--only", "learned labels")


def test_a_seed_that_breaks_down_is_left_out_of_the_comparison(run, monkeypatch):
    monkeypatch.setattr(run.commands, "breaks", ("--match", "1"))
    shown, _ = run("parts", "--cells", "digits", "--seeds", "0,1,2", "--only", "nearest step")
    (row,) = (line for line in shown.splitlines() if line.startswith("| digits | nearest step | 5"))
    assert "57.5 ± 2.8 (1 broke down) | +5.0 ± 0.0 |" in row


def titles(found):
    return [(entry.title, entry.method, value) for entry, value in found]


def test_what_is_joined(script):
    tries = {
        "MTT": {1.0: 0.5},
        "DDPP": {5.0: 0.5},
        "nearest step": {2.0: 0.6},
        "averaged images": {0.9: 0.7},
        "learned labels": {3.0: 0.8},
        "start images": {1.0: 0.9},
        "skipped steps": {0.7: 0.5},
    }
    entries = [entry for entry in script.ENTRIES["parts"] if entry.title in tries]
    gained = {title: max(own.values()) for title, own in tries.items()}
    gained |= {"start images": 0.5}  # With the second seed it gains nothing.
    gained |= {"skipped steps": 0.9}  # And with the first one.
    gained.pop("DDPP")
    both = "nearest step + averaged images"
    found = script.combined(entries, tries, gained)
    assert titles(found) == [
        (both, "mtt", 0.9),
        (f"{both} + pruning", "ddpp", 0.9),
        (f"{both} + learned labels", "mtt", 3.0),
        (f"{both} + learned labels + pruning", "ddpp", 3.0),
    ]
    assert all(entry.joined for entry, _ in found)
    plain, pruned, labels, _ = (entry for entry, _ in found)
    # The rate is that of the last part that tries one; with no such part that of the method.
    assert plain.flags == ("--pixel-rate", "2.0", "--match", "nearest", "--image-average", "0.9")
    assert pruned.beside == found[3][0].beside == ()
    assert labels.beside == ("random real images, teachers' labels",)
    one = script.combined(entries, tries, gained | {"averaged images": 0.1})
    assert [entry.title for entry, _ in one] == [
        "nearest step + pruning",
        "nearest step + learned labels",
        "nearest step + learned labels + pruning",
    ]
    alone = script.combined(entries, tries, dict.fromkeys(gained, 0.1) | {"learned labels": 0.8})
    assert titles(alone) == [("learned labels + pruning", "ddpp", 3.0)]
    assert alone[0][0].flags[:2] == ("--pixel-rate", "5.0")
    assert script.combined(entries, tries, dict.fromkeys(gained, 0.5)) == []
    assert script.combined(entries, tries, gained | {"MTT": 0.0}) == []  # It broke down.


def test_a_part_that_another_one_holds_is_left_out(script):
    tries = {"MTT": {1.0: 0.5}, "later start epochs": {3: 0.7}, "growing start epochs": {4: 0.6}}
    entries = [entry for entry in script.ENTRIES["parts"] if entry.title in tries]
    gained = {title: max(own.values()) for title, own in tries.items()}
    found = script.combined(entries, tries, gained)
    assert titles(found) == [("growing start epochs + pruning", "ddpp", 4)]


def test_labels_of_what_is_joined_have_a_row_of_their_own(run, monkeypatch):
    monkeypatch.setattr(run.commands, "labels", 0.2)
    only = ("--only", "averaged images", "learned labels")
    shown, _ = run("parts", "--cells", "digits", "--seeds", "0,1,2", *only)
    title = "averaged images + learned labels"
    assert f"| random real images, teachers' labels ({title}) | 32.5" in shown
    assert shown.count("random real images, teachers' labels (") == 1
    assert shown.count("| random real images | 22.5") == 1
    # Its own accuracy, and not that of MTT beside it.
    own, pruned = (
        next(line for line in shown.splitlines() if f"| {one} |" in line).split(" | ")[2]
        for one in (title, f"{title} + pruning")
    )
    assert float(pruned.split()[0]) - float(own.split()[0]) == pytest.approx(1.0)


def test_nothing_is_tried_again_where_nothing_can_be_joined(run):
    _, calls = run("methods", "--cells", "digits", "--seeds", "0", "--only", "DDPP", "DSA")
    assert {value_of(command, "--seed") for command in calls} == {"100", "0"}


def test_a_cell_where_all_of_mtt_breaks_down_is_named(run, monkeypatch):
    monkeypatch.setattr(run.commands, "lost", ("MTT",))
    with pytest.raises(SystemExit, match="every try of MTT on digits broke down"):
        run("parts", "--cells", "digits", "--seeds", "0,1", "--only", "nearest step")


def test_kip_is_tried_where_its_kernel_is_affordable(run):
    _, calls = run("methods", "--cells", "cifar10-16-ipc1")
    methods = [value_of(command, "--method") for command in calls]
    assert methods == ["mtt", "ddpp", "kip"]
    for command in calls:
        assert value_of(command, "--image-size") == "16"
        assert value_of(command, "--data-dir") == "data"
        assert len(value_of(command, "--sweep").split(",")) == 5


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--seeds", "a"], "--seeds is 'a'; wanted whole numbers"),
        (["--seeds", "1,100"], "--seeds has 100, which settings are chosen with"),
        (["--cells", "mnist"], "--cells has 'mnist'; wanted some of digits"),
        (["--only", "luck"], "--only has 'luck'; wanted some of MTT"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(run, capsys, words, said):
    with pytest.raises(SystemExit) as left:
        run("methods", *words)
    assert left.value.code == 2
    assert said in capsys.readouterr().err


def test_the_last_flag_of_a_name_stands(script):
    given = ("--rate", 1, "--learn", "--rate", 2)
    assert script.merged(given) == ("--rate", "2", "--learn")
