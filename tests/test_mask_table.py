"""The table of masks: what it runs, what it compares, and what it says."""

import csv
import dataclasses
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from scipy.stats import ttest_1samp

from ddpp_jax._types import MASKS
from ddpp_jax.configs import members_of, setting
from ddpp_jax.storage import write_rows

SCRIPTS = Path(__file__).parent.parent / "scripts"
GAINS = {"none": 0.0, "ratio": 0.02, "random": -0.01, "learned": 0.0005}
SEEDS = (0, 1, 2, 3)


@pytest.fixture
def scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(SCRIPTS))
    import mask_table
    import tables

    return SimpleNamespace(masks=mask_table, tables=tables)


def accuracies(mask, seed, shift=0.0):
    """Of two networks: a gain of the mask, one of the seed, and some noise."""
    noise = np.random.default_rng([seed, len(mask)]).normal(0, 0.002)
    mean = 0.3 + 0.01 * seed + GAINS.get(mask, 0.005) + (0 if mask == "none" else noise) + shift
    return [mean - 0.01, mean + 0.01]


def commands(calls):
    """Stands in for the commands: leaves a result where each would."""

    def run(command, *, check):
        assert check
        calls.append(command)
        flags = {command[i]: command[i + 1] for i in range(len(command) - 1)}
        out = Path(flags["--out"])
        out.mkdir(parents=True)
        if flags["-m"] == "ddpp_jax.distill":
            masks = flags["--sweep"].removeprefix("mask=").split(",")
            means = {"loss": 0.5, "kept_fraction": 0.9}
            for mask in masks:
                (out / f"mask-{mask}").mkdir()
                names = ("step", "loss", "numerator_removed", "denominator_removed")
                steps = [(1, 0.4, 0.2, 0.1), (2, 0.6, 0.5, 0.0), (3, None, None, None)]
                rows = [
                    dict(zip(names, step, strict=True)) for step in [(0, 1.0, 1.0, 1.0), *steps]
                ]
                write_rows(out / f"mask-{mask}" / "metrics.jsonl", rows)
            seed = int(flags["--seed"])
            rows = [
                {"value": mask, "accuracies": found, "means": means}
                for mask in masks
                if (found := accuracies(mask, seed)) is not None
            ]
        else:
            folders = [word for word in command if "/mask-" in word]
            rows = [
                {
                    "file": folder,
                    "architecture": name,
                    "accuracies": accuracies(folder.rpartition("mask-")[2], 0, shift),
                }
                for folder in folders
                for name, shift in (("vgg11", -0.1), ("resnet18", -0.2))
            ]
        (out / "result.json").write_text(json.dumps({"rows": rows}))

    return SimpleNamespace(run=run, CalledProcessError=subprocess.CalledProcessError)


def break_down(monkeypatch, broke_fn):
    """Let the distillations break down for which `broke_fn(mask, seed)` is true."""
    whole = globals()["accuracies"]

    def some(mask, seed, shift=0.0):
        # Other architectures, whose accuracies are shifted, see the sets of other seeds too.
        return None if not shift and broke_fn(mask, seed) else whole(mask, seed, shift)

    monkeypatch.setitem(globals(), "accuracies", some)


def make(scripts, monkeypatch, folder, *flags):
    calls = []
    monkeypatch.setattr(scripts.tables, "subprocess", commands(calls))
    given = ["tables.py", "masks", "--data-dir", "data", "--seeds", ",".join(map(str, SEEDS))]
    monkeypatch.setattr(sys, "argv", [*given, "--out", str(folder), *flags])
    scripts.tables.main()
    return calls


def test_what_is_run_and_said(scripts, monkeypatch, tmp_path, capsys):
    flags = ("--cells", "cifar10-ipc1,cifar100-ipc1")
    calls = make(scripts, monkeypatch, tmp_path, *flags)
    # Two cells and four seeds, each three thresholds, a share, and other architectures.
    assert len(calls) == 2 * 4 * 5
    assert all("--teacher-seed" in call for call in calls if "--sweep" in call)
    assert make(scripts, monkeypatch, tmp_path, *flags) == []
    with (tmp_path / "masks.csv").open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 2 * (1 + 4 * 6 + 2)
    found = {(line["cell"], line["mask"], line["pruning"]): line for line in lines}
    differences = np.array(
        [np.mean(accuracies("ratio", s)) - np.mean(accuracies("none", s)) for s in SEEDS]
    )
    ratio = found["cifar10-ipc1", "ratio", "threshold 0.1"]
    assert float(ratio["difference"]) == pytest.approx(differences.mean())
    assert float(ratio["difference_error"]) == pytest.approx(differences.std(ddof=1) / 2)
    assert float(ratio["loss"]) == pytest.approx((0.4 * 0.9 / 0.8 + 0.6 / 0.5) / 2)
    text = capsys.readouterr().out
    assert f"| ratio | threshold 0.1 | 90.0 | 0.8250 | {100 * float(ratio['mean']):.2f} ±" in text
    assert "**CIFAR-100, 1** (4 seeds)" in text
    assert "| mask | vgg11, % | less none | resnet18, % | less none |" in text
    assert "| none | 20.0 |  | 10.0 |  |" in text
    own, plain = (np.mean(accuracies(mask, 0)) for mask in ("ratio", "none"))
    less = f"{100 * (own - plain):+.2f}"
    assert f"| ratio | {100 * (own - 0.1):.1f} | {less} ± 0.00 | {100 * (own - 0.2):.1f} |" in text
    assert (tmp_path / "masks.png").stat().st_size > 10_000


def test_what_was_to_be_tested_is_tested_and_nothing_else(scripts, monkeypatch, tmp_path, capsys):
    make(scripts, monkeypatch, tmp_path, "--cells", "cifar10-ipc1,cifar100-ipc1")
    with (tmp_path / "masks-tests.csv").open(newline="") as file:
        tests = list(csv.DictReader(file))
    assert [(one["cell"], one["less"]) for one in tests] == [
        *(("cifar10-ipc1", other) for other in ("none", "random")),
        *(("cifar100-ipc1", other) for other in ("none", "random")),
    ]
    for one, other in zip(tests, ("none", "random") * 2, strict=True):
        less = np.array(
            [np.mean(accuracies("ratio", s)) - np.mean(accuracies(other, s)) for s in SEEDS]
        )
        assert float(one["difference"]) == pytest.approx(less.mean())
        assert float(one["error"]) == pytest.approx(less.std(ddof=1) / 2)
        assert float(one["p"]) == pytest.approx(ttest_1samp(less, 0).pvalue)
    corrected = scripts.masks.holm([float(one["p"]) for one in tests])
    assert [float(one["p_holm"]) for one in tests] == pytest.approx(list(corrected))
    assert "| CIFAR-10, 1 | random | +" in capsys.readouterr().out


def test_teachers_of_their_own(scripts, monkeypatch, tmp_path):
    calls = make(scripts, monkeypatch, tmp_path, "--own-teachers", "--cells", "cifar10-ipc10")
    assert not any("--teacher-seed" in call for call in calls)
    text = (tmp_path / "masks-own-teachers.md").read_text()
    assert "Each seed has teachers of its own." in text


def test_holms_correction_by_hand(scripts):
    np.testing.assert_allclose(scripts.masks.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(scripts.masks.holm([0.5, 0.9]), [1.0, 1.0])
    np.testing.assert_allclose(scripts.masks.holm([0.04, np.nan, 0.01]), [0.04, np.nan, 0.02])


@pytest.mark.parametrize(
    "flags", [("--cells", "mnist"), ("--scale", "paper"), ("--dry-run",)], ids=lambda f: f[0]
)
def test_what_cannot_be_compared_is_refused(scripts, monkeypatch, tmp_path, flags, capsys):
    with pytest.raises(SystemExit):
        make(scripts, monkeypatch, tmp_path / "out", *flags)
    assert "scripts/tables: error:" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_every_setting_of_a_cell_takes_its_masks(scripts):
    assert {mask for group in scripts.masks.GROUPS for mask in group.masks} == set(MASKS)
    for _, name, _ in scripts.masks.CELLS.values():
        for group in scripts.masks.GROUPS:
            flag, value = group.flags
            changes = {flag.removeprefix("--").replace("-", "_"): float(value)}
            job = setting(name)
            settings = dataclasses.replace(job.distillation, **changes)
            job = dataclasses.replace(job, distillation=settings)
            members = members_of(job, f"mask={','.join(group.masks)}")
            assert [member.value for member in members] == list(group.masks)
            assert len({member.job.distillation for member in members}) == len(members)


def test_a_distillation_that_broke_down_is_left_out(scripts, monkeypatch, tmp_path, capsys):
    """The others are compared, over the seeds that have them."""
    break_down(monkeypatch, lambda mask, seed: (mask, seed) == ("depth", 2))
    make(scripts, monkeypatch, tmp_path, "--cells", "cifar10-ipc1")
    with (tmp_path / "masks.csv").open(newline="") as file:
        seeds = {line["mask"]: line["seeds"] for line in csv.DictReader(file)}
    assert seeds["depth"] == "3"
    assert seeds["ratio"] == "4"
    assert "(1 broke down)" in capsys.readouterr().out


def test_a_mask_that_always_breaks_down_has_no_row(scripts, monkeypatch, tmp_path, capsys):
    break_down(monkeypatch, lambda mask, seed: mask == "depth" or (mask, seed) == ("none", 0))
    make(scripts, monkeypatch, tmp_path, "--cells", "cifar10-ipc1")
    text = capsys.readouterr().out
    assert "| depth |" not in text
    (line,) = [line for line in text.splitlines() if line.startswith("| none |  | 90.0 |")]
    assert "(1 broke down)" in line
    with (tmp_path / "masks-tests.csv").open(newline="") as file:
        assert [one["seeds"] for one in csv.DictReader(file)] == ["3", "4"]


def test_masks_stand_in_one_order_whichever_came_first(scripts, monkeypatch, tmp_path):
    break_down(monkeypatch, lambda mask, seed: (mask, seed) == ("depth", 0))
    make(scripts, monkeypatch, tmp_path, "--cells", "cifar10-ipc1")
    with (tmp_path / "masks.csv").open(newline="") as file:
        found = [(line["mask"], line["pruning"]) for line in csv.DictReader(file)]
    assert tuple(found) == scripts.masks.ORDER


def test_what_is_not_known_is_not_said_to_be_nothing(scripts, monkeypatch, tmp_path, capsys):
    """The plain distillations of all seeds broke down."""
    break_down(monkeypatch, lambda mask, seed: mask == "none")
    make(scripts, monkeypatch, tmp_path, "--cells", "cifar10-ipc1")
    text = capsys.readouterr().out
    assert "| none |" not in text
    (line, *_) = [line for line in text.splitlines() if line.startswith("| ratio | threshold 0.1")]
    assert line.endswith("|  |")
