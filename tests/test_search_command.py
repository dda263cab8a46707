"""The command of a search among architectures, as a user calls it."""

import csv
import json
import shlex
import shutil

import numpy as np
import pytest
from test_commands import invoke  # noqa: F401

from ddpp_jax import search
from ddpp_jax.cli import searching
from ddpp_jax.cli.program import run as run_command
from ddpp_jax.configs import DataConfig
from ddpp_jax.data import fit_transform, load_raw, normalised, transform_arrays, unit
from ddpp_jax.report import write_report
from ddpp_jax.sets import DistilledSet, load_distilled, write_distilled
from ddpp_jax.storage import read_rows

GRID = (
    "--augment none --per-class 20 --width 4 --depth 1 --widths 4 --depths 1,4 --poolings max "
    "--activations relu,sigmoid --norms batch --proxy-epochs 3 --full-epochs 2 --eval-batch 64"
)
PROXIES = "--proxies random early-stop herding mine.safetensors"


def call(folder, flags, capfd, monkeypatch):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as leaving:
        run_command("search", shlex.split(flags))
    shown = capfd.readouterr()
    assert leaving.value.code == 0, shown.err
    return shown


@pytest.fixture
def found(tmp_path, capfd, monkeypatch):
    """A whole search, small: its folder and what was shown."""
    raw = load_raw(DataConfig(per_class=20, held_out=0.1))
    dataset = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
    places = np.concatenate([np.flatnonzero(raw.y_train == n)[:2] for n in range(10)])
    small = DistilledSet(
        dataset.x_train[places],
        dataset.y_train[places],
        0.05,
        raw.class_names,
        transform_arrays(dataset.transform),
        unit(raw.x_train[places]),
        {"method": "mine", "ipc": 2},
    )
    write_distilled(tmp_path / "mine.safetensors", small)
    shown = call(tmp_path, f"{GRID} {PROXIES} --out run", capfd, monkeypatch)
    return tmp_path, shown


def test_a_search_from_flags_to_page(found, capfd, monkeypatch):
    folder, shown = found
    run = folder / "run"
    assert "2 of the grid's 4 networks are left out" in shown.out
    assert "2 networks on 4 proxies (random, early-stop, herding, mine) for 3 epochs" in shown.out
    assert "mine.safetensors may have been made from images that are held out" in shown.err
    result = json.loads((run / "result.json").read_text())
    proxies = {one["name"]: one for one in result["search"]["proxies"]}
    assert list(proxies) == ["random", "early-stop", "herding", "mine"]
    assert [one["images"] for one in proxies.values()] == [20, 180, 20, 20]
    assert [row["method"] for row in result["rows"]][-1] == "chosen by full data"
    rows = read_rows(run / "networks.jsonl")
    assert len(rows) == 2 * 5
    with (run / "networks.csv").open() as file:
        table = list(csv.DictReader(file))
    by_network = {row["network"]: row for row in table}
    for row in rows:
        line = by_network[row["network"]]
        assert float(line[f"{row['set']}, test"]) == np.mean(row["test"])
        assert float(line[f"{row['set']}, held-out"]) == np.mean(row["held_out"])
    page = (run / "report.html").read_text()
    for words in ("Networks and proxies", "a search among architectures", "herding", "w4-d1-relu"):
        assert words in page
    assert (run / "proxies.png").stat().st_size > 10_000
    # What it chose of the real images are sets as any others.
    for name in ("random", "herding"):
        chosen = load_distilled(run / name)
        assert np.bincount(chosen.hard_labels).tolist() == [2] * 10
    _resumed(folder, result, capfd, monkeypatch)
    _dry(folder, capfd, monkeypatch)
    _some_in_full(folder, rows, capfd, monkeypatch)
    write_report(run)  # As `python -m ddpp_jax.report` does.
    assert "Networks and proxies" in (run / "report.html").read_text()


def _resumed(folder, result, capfd, monkeypatch):
    """A search that was killed ends with the same figures, trains nothing twice, and says so."""
    run, killed = folder / "run", folder / "killed"
    shutil.copytree(run, killed)
    for name in ("result.json", "networks.csv", "proxies.png", "report.html"):
        (killed / name).unlink()
    lines = (killed / "networks.jsonl").read_text().splitlines(keepends=True)
    (killed / "networks.jsonl").write_text("".join(lines[:6]) + lines[6][:30])
    trained = []
    train = search.Grid.train
    monkeypatch.setattr(
        search.Grid, "train", lambda *given: trained.append(given[2].name) or train(*given)
    )
    flags = f"{GRID} {PROXIES} --out killed"
    call(folder, flags, capfd, monkeypatch)
    assert len(trained) == 4
    again = json.loads((killed / "result.json").read_text())
    assert _figures(again) == _figures(result)
    shown = call(folder, flags, capfd, monkeypatch)
    assert "killed is complete; its results:" in shown.out
    assert len(trained) == 4


def _figures(result):
    networks = [[one["test"], one["held_out"]] for one in result["search"]["networks"]]
    return networks, [
        [one["correlations"], one["chosen"], one["chosen_accuracy"]]
        for one in result["search"]["proxies"]
    ]


def _dry(folder, capfd, monkeypatch):
    """What would be done: networks, trainings, room and time; nothing begins."""
    tried = []
    monkeypatch.setattr(
        searching,
        "_pace",
        lambda job, one, raw, batch: tried.append((one.name, batch)) or (10.0, 0.5),
    )
    before = sorted(folder.rglob("*"))
    shown = call(folder, f"{GRID} {PROXIES} --out other --dry-run", capfd, monkeypatch).out
    assert sorted(folder.rglob("*")) == before
    assert "10 trainings" in shown
    assert "Disk: about 1.0 MiB" in shown
    # Two networks, half a second for each step: 3 epochs of 1, or 2 epochs of 3. They share a
    # program that takes 10 s to compile, for each number of images.
    assert "train on full data: 16 s" in shown
    assert "train on random: 13 s" in shown
    assert "train on early-stop: 3 s" in shown
    assert "train on herding: 3 s" in shown
    assert "Time: about 38 s" in shown
    assert len(tried) == len(set(tried)) == 4


def _some_in_full(folder, rows, capfd, monkeypatch):
    """With `--full 1` the best of each proxy, and one at random, see the full data."""
    flags = f"{GRID} --proxies random --ipc 2 --full 1 --out some"
    shown = call(folder, flags, capfd, monkeypatch)
    assert "up to 2 of them on the full data" in shown.out
    kept = {(r["network"], r["set"]): r["test"] for r in rows}
    for row in read_rows(folder / "some" / "networks.jsonl"):
        assert kept[row["network"], row["set"]] == row["test"]  # On no other network it depends.
    found = json.loads((folder / "some" / "result.json").read_text())["search"]
    assert found["full"]["networks"] in (1, 2)
    assert found["proxies"][0]["chosen"] in {
        one["network"] for one in found["networks"] if "full data" in one["test"]
    }


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("", "--proxies names nothing"),
        ("--proxies random", "how many images per class random has; give --ipc"),
        ("--proxies random random --ipc 1", "named twice"),
        ("--proxies random --ipc 500", "class 0 has 129 training images, fewer than --ipc 500"),
        ("--proxies nothing.safetensors", "there is no file nothing.safetensors"),
        ("--proxies random --ipc 1 --held-out none", "--held-out is none"),
        ("--proxies random --ipc 1 --widths 6", "makes no 4 equal groups"),
        ("--proxies random --ipc 1 --norms weight", "--norms has 'weight'"),
        ("--proxies random --ipc 1 --full some", "--full is 'some'"),
        ("--proxies random --ipc 1 --widths 4 --depths 9 --poolings max", "0 of the 15 networks"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(invoke, tmp_path, flags, words):  # noqa: F811
    code, shown, error = invoke("search", flags)
    assert (code, shown) == (2, "")
    assert words in error
    assert error.startswith("python -m ddpp_jax.search: ")
    assert error.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_help_explains_every_flag(invoke):  # noqa: F811
    code, shown, _ = invoke("search", "--help")
    assert code == 0
    for flag in ("--proxies", "--widths", "--norms", "--full", "--ipc", "--held-out"):
        assert flag in shown
