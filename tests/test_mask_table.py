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
    import chosen
    import mask_table
    import runner
    import tables

    monkeypatch.setattr(chosen, "read_chosen", dict)  # Whatever is chosen beside it.

    return SimpleNamespace(masks=mask_table, runner=runner, tables=tables)


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
        if flags["-m"] == "ddpp_jax.select":
            assert "--student-batch" not in flags
            (out / "distilled.safetensors").touch()
            return
        if flags["-m"] == "ddpp_jax.distill":
            masks = flags["--sweep"].removeprefix("mask=").split(",")
            means = {"loss": 0.5, "kept_fraction": 0.9}
            for mask in masks:
                (out / f"mask-{mask}").mkdir()
                names = ("step", "loss", "numerator_removed", "denominator_removed")
                steps = [(0.9, 0.0, 0.0)] * 12
                steps += [(1.0, 1.0, 1.0), (0.4, 0.2, 0.1), (0.6, 0.5, 0.0), (None, None, None)]
                rows = [dict(zip(names, (n, *s), strict=True)) for n, s in enumerate(steps)]
                write_rows(out / f"mask-{mask}" / "metrics.jsonl", rows)
            seed = int(flags["--seed"])
            rows = [
                {
                    "value": mask,
                    "accuracies": found,
                    "means": means,
                    "diverged": int(mask == "signs"),
                }
                for mask in masks
                if (found := accuracies(mask, seed)) is not None
            ]
            if not rows:
                raise subprocess.CalledProcessError(2, command)
        elif "--architectures" not in flags:
            rows = [{"accuracies": [0.1, 0.12]}]
        else:
            folders = [word for word in command if "/mask-" in word]
            shift = {"vgg11": -0.1, "resnet18": -0.2}[flags["--architectures"]]
            rows = [
                {
                    "file": folder,
                    "architecture": flags["--architectures"],
                    "accuracies": accuracies(folder.rpartition("mask-")[2], 0, shift),
                }
                for folder in folders
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
    monkeypatch.setattr(scripts.runner, "subprocess", commands(calls))
    given = ["tables.py", "masks", "--data-dir", "data", "--seeds", ",".join(map(str, SEEDS))]
    monkeypatch.setattr(sys, "argv", [*given, "--out", str(folder), *flags])
    scripts.tables.main()
    return calls


def read(folder, *words):
    with (folder / f"masks-{'-'.join(words)}.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_is_run_and_said(scripts, monkeypatch, tmp_path, capsys):
    flags = ("--cells", "cifar10-ipc1,cifar100-ipc1")
    calls = make(scripts, monkeypatch, tmp_path, *flags)
    # Two cells and four seeds, each three thresholds, a share, two other architectures, and real
    # images that are chosen and evaluated.
    assert len(calls) == 2 * 4 * 8
    evaluated = {
        call[call.index("--architectures") + 1]: call for call in calls if "--architectures" in call
    }
    assert "--rate" in evaluated["vgg11"]
    assert "--rate" not in evaluated["resnet18"]
    assert all("--teacher-seed" in call for call in calls if "--sweep" in call)
    assert make(scripts, monkeypatch, tmp_path, *flags) == []
    lines = read(tmp_path, "cifar10-ipc1", "cifar100-ipc1")
    assert len(lines) == 2 * (1 + 1 + 4 * 6 + 2)
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
    assert "| random real images |  |  |  | 11.00 ± 0.00 | " in text
    assert "(4 networks diverged)" in text
    own, plain = (np.mean(accuracies(mask, 0)) for mask in ("ratio", "none"))
    less = f"{100 * (own - plain):+.2f}"
    assert f"| ratio | {100 * (own - 0.1):.1f} | {less} ± 0.00 | {100 * (own - 0.2):.1f} |" in text
    assert (tmp_path / "masks-cifar10-ipc1-cifar100-ipc1.png").stat().st_size > 10_000


def test_what_was_to_be_tested_is_tested_and_nothing_else(scripts, monkeypatch, tmp_path, capsys):
    make(scripts, monkeypatch, tmp_path, "--cells", "cifar10-ipc1,cifar100-ipc1")
    tests = read(tmp_path, "cifar10-ipc1", "cifar100-ipc1", "tests")
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
        test = ttest_1samp(less, 0)
        assert float(one["p"]) == pytest.approx(test.pvalue)
        low, high = test.confidence_interval()
        assert [float(one["low"]), float(one["high"])] == pytest.approx([low, high])
    # The third cell's two questions count too.
    corrected = scripts.masks.holm([float(one["p"]) for one in tests], tests=6)
    assert [float(one["p_holm"]) for one in tests] == pytest.approx(list(corrected))
    assert "| CIFAR-10, 1 | random | +" in capsys.readouterr().out


def test_teachers_of_their_own(scripts, monkeypatch, tmp_path):
    calls = make(scripts, monkeypatch, tmp_path, "--own-teachers", "--cells", "cifar10-ipc10")
    assert not any("--teacher-seed" in call for call in calls)
    assert {call[call.index("-m") + 1] for call in calls} == {"ddpp_jax.distill"}
    text = (tmp_path / "masks-own-teachers-cifar10-ipc10.md").read_text()
    assert "Each seed has teachers of its own." in text
    assert "here nothing is tested" in text
    tests = read(tmp_path, "own-teachers", "cifar10-ipc10", "tests")
    assert {one["p"] for one in tests} == {one["p_holm"] for one in tests} == {"nan"}
    assert all(float(one["low"]) < float(one["high"]) for one in tests)


def test_some_groups_alone(scripts, monkeypatch, tmp_path, capsys):
    flags = ("--cells", "cifar10-ipc1", "--groups", "threshold-0.1,share-0.25")
    calls = make(scripts, monkeypatch, tmp_path, *flags)
    assert "vgg11 --rate 0.01; resnet18 at the learned alpha" in capsys.readouterr().out
    make(scripts, monkeypatch, tmp_path, *flags)
    swept = [call for call in calls if "--sweep" in call]
    assert len(swept) == 2 * len(SEEDS)
    assert "--groups threshold-0.1,share-0.25" in capsys.readouterr().out
    pruning = {
        line["pruning"] for line in read(tmp_path, "cifar10-ipc1", "threshold-0.1", "share-0.25")
    }
    assert pruning == {"", "threshold 0.1", "share 0.25"}


def test_the_rate_is_the_one_chosen_for_plain_matching(scripts, monkeypatch, tmp_path, capsys):
    import chosen

    choice = chosen.Choice("cifar10-ipc1", "mtt", "pixel-rate", "330", "5", "30.0")
    monkeypatch.setattr(chosen, "read_chosen", lambda: {("cifar10-ipc1", "mtt"): choice})
    calls = make(scripts, monkeypatch, tmp_path, "--cells", "cifar10-ipc1,cifar10-ipc10")
    rates = {
        (call[3], call[call.index("--pixel-rate") + 1] if "--pixel-rate" in call else None)
        for call in calls
        if "--sweep" in call
    }
    assert rates == {("cifar10-small-ipc1", "330"), ("cifar10-small-ipc10", None)}
    text = capsys.readouterr().out
    assert "**CIFAR-10, 1** (4 seeds, pixel rate 330, chosen for MTT on held-out images)" in text


def test_a_group_that_breaks_down_whole_leaves_the_others(scripts, monkeypatch, tmp_path, capsys):
    monkeypatch.setitem(scripts.masks.OF_EACH, "0.3", ("depth",))
    groups = (*scripts.masks.GROUPS[:2], scripts.masks.group_of("0.3"))
    monkeypatch.setattr(scripts.masks, "GROUPS", groups)
    break_down(monkeypatch, lambda mask, seed: mask == "depth")
    names = ",".join(group.name for group in groups)
    # One that makes no steps is refused, and one that makes some breaks down.
    flags = ("--cells", "cifar10-ipc1", "--groups", names)
    calls = make(scripts, monkeypatch, tmp_path, *flags)
    assert any("mask=depth" in call for call in calls)
    assert {line["pruning"] for line in read(tmp_path, "cifar10-ipc1")} == {
        "",
        "threshold 0.1",
        "threshold 0.03",
    }
    assert make(scripts, monkeypatch, tmp_path, *flags) == []
    capsys.readouterr()


def test_holms_correction_by_hand(scripts):
    np.testing.assert_allclose(scripts.masks.holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(scripts.masks.holm([0.5, 0.9]), [1.0, 1.0])
    np.testing.assert_allclose(scripts.masks.holm([0.04, np.nan, 0.01]), [0.04, np.nan, 0.02])
    np.testing.assert_allclose(scripts.masks.holm([0.04, 0.01], tests=5), [0.16, 0.05])


@pytest.mark.parametrize(
    "flags",
    [
        ("--cells", "mnist"),
        ("--groups", "all"),
        ("--groups", "share-0.25"),
        ("--scale", "paper"),
        ("--dry-run",),
    ],
    ids="".join,
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
    seeds = {line["mask"]: line["seeds"] for line in read(tmp_path, "cifar10-ipc1")}
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
    tests = read(tmp_path, "cifar10-ipc1", "tests")
    assert [one["seeds"] for one in tests] == ["3", "4"]


def test_masks_stand_in_one_order_whichever_came_first(scripts, monkeypatch, tmp_path):
    break_down(monkeypatch, lambda mask, seed: (mask, seed) == ("depth", 0))
    make(scripts, monkeypatch, tmp_path, "--cells", "cifar10-ipc1")
    found = [(line["mask"], line["pruning"]) for line in read(tmp_path, "cifar10-ipc1")]
    assert tuple(found) == scripts.masks.ORDER


def test_what_is_not_known_is_not_said_to_be_nothing(scripts, monkeypatch, tmp_path, capsys):
    """The plain distillations of all seeds broke down."""
    break_down(monkeypatch, lambda mask, seed: mask == "none")
    make(scripts, monkeypatch, tmp_path, "--cells", "cifar10-ipc1")
    text = capsys.readouterr().out
    assert "| none |" not in text
    (line, *_) = [line for line in text.splitlines() if line.startswith("| ratio | threshold 0.1")]
    assert line.endswith("|  |")
