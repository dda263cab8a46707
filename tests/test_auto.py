"""A dataset of one's own and nothing else: the whole job, with settings that it finds itself."""

import json
import re
import shlex

import numpy as np
import pytest
from PIL import Image
from processes import call, call_once, start
from rich.console import Console
from test_resume import kill, wait_for

from ddpp_jax.cli import several
from ddpp_jax.cli.search import search_from
from ddpp_jax.configs import DataConfig, job_of, setting
from ddpp_jax.data import side_for
from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report
from ddpp_jax.storage import read_sealed
from ddpp_jax.tuning import Spent, found_names

QUICK = "--budget 1s --width 8 --networks 2 --eval-epochs 30 --random-draws 2 --alpha-rate 0.02"
HELD_OUT = 30
"""Images of `own_data` that pilots are compared by: a quarter."""


@pytest.fixture(scope="session")
def own_data(tmp_path_factory):
    """Bars of three directions in noise, 8x8."""
    path = tmp_path_factory.mktemp("own") / "bars.npz"
    rng = np.random.default_rng(0)
    arrays = {}
    for part, count in (("train", 40), ("test", 20)):
        labels = np.repeat(np.arange(3), count)
        images = rng.uniform(0, 90, (len(labels), 8, 8))
        for image, label in zip(images, labels, strict=True):
            place = rng.integers(1, 7)
            bar = [np.s_[place, :], np.s_[:, place], np.eye(8, dtype=bool)][label]
            image[bar] += 150
        arrays |= {f"x_{part}": images.astype(np.uint8), f"y_{part}": labels}
    np.savez(path, **arrays)
    return path


@pytest.fixture(scope="session")
def found(tmp_path_factory, own_data):
    flags = ["--dataset", str(own_data), *shlex.split(QUICK), "--out", "run"]
    return *call_once(tmp_path_factory, "auto", "distill", *flags), flags


def test_the_first_line_says_that_settings_are_found(found):
    _, done, _ = found
    first = done.stdout.splitlines()[0]
    assert "found by trying" in first
    assert "--settings NAME" in first


def test_the_run_keeps_how_its_settings_were_found(found):
    folder, _, _ = found
    tuning = read_sealed(folder / "run" / "tuning.json")
    assert (folder / "run" / "tuning.png").stat().st_size > 1000
    page = (folder / "run" / "report.html").read_text()
    assert "How the settings were found" in page
    assert re.search(r"were found by the program, in \d+\.\d min\.", page)
    config = json.loads((folder / "run" / "config.json").read_text())["config"]
    settings = job_of(tuning["settings"])
    assert config["teaching"]["teacher_rate"] == settings.teaching.teacher_rate
    assert config["distillation"]["optimizer"] == "adam"
    assert config["data"]["held_out"] == 0.25
    assert tuning["seconds"] > 0
    names = found_names(folder / "run" / "tuning.json")
    assert {"teacher_rate", "pixel_rate", "steps", "depth"} <= names
    assert not {"width", "alpha_rate", "eval_epochs"} & names  # They were given.
    accuracies = [trial["accuracy"] for trial in tuning["trials"]]
    last = max(trial["steps"] for trial in tuning["trials"])
    finalists = [trial for trial in tuning["trials"] if trial["steps"] == last]
    chosen = settings.distillation
    (own,) = [
        trial
        for trial in finalists
        if all(getattr(chosen, name) == value for name, value in trial["values"].items())
    ]
    # The best of the last comparison, or one as good within a standard error over held-out images.
    most = max(trial["accuracy"] for trial in finalists)
    assert page.count(", taken</strong>") == 1
    assert own["accuracy"] >= most - (most * (1 - most) / HELD_OUT) ** 0.5
    assert max(accuracies) > 0.4


def test_what_is_given_by_hand_stays(found):
    folder, _, _ = found
    config = json.loads((folder / "run" / "config.json").read_text())["config"]
    assert config["model"]["width"] == 8
    assert config["evaluation"] == config["evaluation"] | {"networks": 2, "eval_epochs": 30}
    assert config["distillation"]["alpha_rate"] == 0.02


def test_the_same_command_finds_nothing_anew(found):
    folder, _, flags = found
    again = call(folder, "distill", *flags)
    assert again.returncode == 0, again.stderr
    assert "as found before" in again.stdout
    assert "try settings" not in again.stdout
    assert "run is complete" in again.stdout


def test_found_settings_can_be_printed_saved_and_named(found, own_data):
    folder, _, flags = found
    printed = call(folder, "distill", *flags, "--print-settings")
    assert printed.returncode == 0, printed.stderr
    (folder / "mine.json").write_text(printed.stdout)
    named = call(
        folder, "distill", "--settings", "mine.json", "--dataset", str(own_data), "--out", "run"
    )
    assert named.returncode == 0, named.stderr
    assert "run is complete" in named.stdout
    other = call(folder, "distill", *flags, "--budget", "7s", "--print-settings")
    assert other.returncode == 2
    assert "not found yet" in other.stderr
    assert other.stderr.count("\n") == 1


def test_a_named_setting_is_searched_on_demand_and_keeps_its_data(tmp_path):
    flags = shlex.split("digits --auto --dry-run --budget 2m")
    done = call(tmp_path, "distill", *flags)
    assert done.returncode == 0, done.stderr
    assert "in about 2 min" in done.stdout
    assert not list(tmp_path.glob("runs/*"))


def test_a_search_that_is_killed_ends_the_same(own_data, tmp_path):
    """Where the sizes are fixed; otherwise they depend on the time that things take."""
    sizes = shlex.split("--teachers 3 --epochs 12 --steps 60 --out run")
    quick = shlex.split(QUICK.replace("1s", "0.01s"))  # Pilots then make the fewest steps.
    flags = ["--dataset", str(own_data), *quick, *sizes]
    wholes = tmp_path / "whole"
    wholes.mkdir()
    whole = call(wholes, "distill", *flags)
    assert whole.returncode == 0, whole.stderr
    (search,) = (path.relative_to(wholes) for path in wholes.glob("runs/tuning/*"))
    for sign in ("teaching.json", "pilots.json"):
        process = start(tmp_path, "distill", *flags)
        wait_for(tmp_path / search / sign, process)
        kill(process)
        assert not (tmp_path / search / "tuning.json").exists()
    again = call(tmp_path, "distill", *flags)
    assert again.returncode == 0, again.stderr
    name = "distilled.safetensors"
    assert (tmp_path / "run" / name).read_bytes() == (wholes / "run" / name).read_bytes()
    tunings = [read_sealed(place / "run" / "tuning.json") for place in (tmp_path, wholes)]
    assert tunings[0]["trials"] == tunings[1]["trials"]


@pytest.mark.parametrize(
    "flags",
    [
        "--epochs 3 --teachers 2",
        "--epochs 9 --keep-epochs 4 --max-start-epoch 3",
        "--target-epochs 5 --threshold none --no-baselines",
        "--which best-held-out --random-draws 0 --read stream",
        "--max-start-epoch 2 --pixel-rate 0.1 --sweep seed=0,1",
    ],
)
def test_flags_that_leave_little_to_find(tmp_path, own_data, flags):
    given = [*shlex.split(QUICK), *shlex.split(flags), "--steps", "20", "--out", "run"]
    done = call(tmp_path, "distill", "--dataset", str(own_data), *given)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "run" / "report.html").exists()


def test_dm_finds_its_settings_too(tmp_path, own_data):
    flags = [*shlex.split(QUICK.replace(" --alpha-rate 0.02", "")), "--method", "dm"]
    done = call(tmp_path, "distill", "--dataset", str(own_data), *flags, "--out", "run")
    assert done.returncode == 0, done.stderr
    tuning = read_sealed(tmp_path / "run" / "tuning.json")
    assert tuning["rates"] == []
    assert len({trial["values"]["pixel_rate"] for trial in tuning["trials"]}) == 5
    assert not (tmp_path / "runs" / "teachers").exists()


@pytest.mark.parametrize(
    ("flags", "line"),
    [
        ("--budget soon", "--budget is 'soon'"),
        ("--optimizer sgd", "--optimizer sgd has rates that depend on the data"),
        ("--ipc 400", "fewer than --ipc 400"),
        ("--held-out none", "leaves no images to choose settings by"),
        ("--imported 5d1f03ab", "--imported names teachers"),
        ("--sweep nonsense", "--sweep"),
        ("--settings", "--settings names nothing"),
        ("--optimizer sgd --dry-run", "--optimizer sgd has rates"),
    ],
)
def test_what_cannot_be_searched_is_refused_at_once(tmp_path, own_data, flags, line):
    done = call(tmp_path, "distill", "--dataset", str(own_data), *shlex.split(flags))
    assert done.returncode == 2
    assert line in done.stderr
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.glob("runs/t*/*"))


def photos(folder, sizes, classes=("cat", "dog")):
    """A folder of grey pictures of some sizes, in turn."""
    for name in classes:
        (folder / name).mkdir(parents=True)
        for n in range(6):
            width, height = sizes[n % len(sizes)]
            pixels = np.full((height, width), 20 * n, np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{n}.png")
    return folder


@pytest.mark.parametrize(
    ("sizes", "side"),
    [
        ([(100, 80), (90, 70)], 64),
        ([(40, 30), (500, 400), (20, 30)], 16),
        ([(48, 32)], 32),
        ([(5, 6)], 8),
        ([(24, 24)], None),
    ],
)
def test_folders_of_photos_need_no_size(tmp_path, sizes, side):
    folder = photos(tmp_path / "photos", sizes)
    assert side_for(DataConfig(dataset=str(folder))) == side
    done = call(tmp_path, "distill", "--dataset", "photos", "--dry-run")
    assert done.returncode == 0, done.stderr
    fixed = call(tmp_path, "distill", "--dataset", "photos", "--image-size", "none", "--dry-run")
    assert ("give --image-size" in fixed.stderr) == (side is not None)
    cropped = side_for(DataConfig(dataset=str(folder), crop=True))
    assert cropped == (side if len(sizes) > 1 else None)  # Else they are square once cropped.


def test_a_class_of_one_image_is_named(tmp_path):
    labels = np.array([0] * 9 + [1])
    images = np.random.default_rng(0).integers(0, 256, (10, 8, 8)).astype(np.uint8)
    names = np.array(["many", "single"])
    arrays = {"x_train": images, "y_train": labels, "x_test": images, "y_test": labels}
    np.savez(tmp_path / "one.npz", **arrays, class_names=names)
    done = call(tmp_path, "distill", "--dataset", "one.npz")
    assert done.returncode == 2
    assert "class single has one training image" in done.stderr
    few = call(tmp_path, "distill", "--dataset", "one.npz", "--per-class", "1")
    assert "give a larger --per-class" in few.stderr


@pytest.mark.parametrize("more", [[], ["--dry-run"], ["--methods", "ddpp"]])
def test_a_folder_with_another_run_is_refused_before_the_search(tmp_path, own_data, more):
    place = tmp_path / "run" / ("ddpp" if "--methods" in more else "")
    place.mkdir(parents=True)
    (place / "config.json").write_text("{}")
    done = call(tmp_path, "distill", "--dataset", str(own_data), "--out", "run", *more)
    assert done.returncode == 2
    assert "holds a run, and the settings for this one are yet to be found" in done.stderr
    assert not (tmp_path / "runs" / "tuning").exists()


def test_folders_of_all_methods_are_looked_at_before_the_first_search(tmp_path, own_data):
    (tmp_path / "run" / "ddpp").mkdir(parents=True)
    (tmp_path / "run" / "ddpp" / "config.json").write_text("{}")
    flags = ["--dataset", str(own_data), "--out", "run", "--methods", "dm,ddpp"]
    done = call(tmp_path, "distill", *flags)
    assert done.returncode == 2
    assert "holds a run, and the settings for this one are yet to be found" in done.stderr
    assert not (tmp_path / "run" / "dm").exists()
    assert not (tmp_path / "runs" / "tuning").exists()


def test_a_budget_without_a_search_is_said(tmp_path):
    done = call(tmp_path, "distill", "digits", "--budget", "9m", "--dry-run")
    assert "Nothing follows from --budget" in done.stdout + done.stderr
    odd = call(tmp_path, "distill", "digits", "--budget", "soon", "--dry-run")
    assert odd.returncode == 2
    assert "--budget is 'soon'" in odd.stderr


def test_settings_of_the_digits_for_other_data_are_said(tmp_path, own_data):
    flags = ["--dataset", str(own_data), "--no-auto", "--dry-run"]
    done = call(tmp_path, "distill", *flags)
    assert "those of the digits, where no flag says otherwise" in done.stdout
    named = call(tmp_path, "distill", "--settings", "digits", *flags)
    assert "those of the digits" not in named.stdout
    other = call(tmp_path, "distill", "--method", "dm", *flags)
    assert "those of the digits, where no flag says otherwise" in other.stdout


def test_a_search_augments_as_the_named_setting_does():
    for method in ("dsa", "dm", "cafe"):
        job, _ = search_from(setting("cifar10-small-ipc1", method), method)
        assert job.distillation.siamese == "all"
        # Settings of another method, which augment nothing.
        job, _ = search_from(setting("cifar10-small-ipc1"), method)
        assert job.distillation.siamese == "all"
    job, _ = search_from(setting("digits", "dm"), "dm")
    assert job.distillation.siamese == "augment"
    # What DC and DSA augment by suits neither the other.
    job, _ = search_from(setting("cifar10-small-ipc1", "dsa"), "dc")
    assert job.distillation.siamese == "none"
    job, _ = search_from(setting("cifar10-small-ipc1", "dc"), "dsa")
    assert job.distillation.siamese == "all"
    job, _ = search_from(setting("cifar10-small-ipc1", "dc"), "dc")
    assert job.distillation.siamese == "none"


def test_methods_that_are_evaluated_otherwise_are_named(tmp_path, capsys):
    """As where one search finds that an evaluation of 1,000 epochs is quick, and another not."""
    folders = []
    for name, epochs in (("dm", 300), ("dsa", 1000)):
        folder = tmp_path / name
        flags = f"--method {name} --steps 1 --width 4 --eval-epochs {epochs} --networks 1"
        done = call(
            tmp_path, "distill", "digits", *shlex.split(flags), "--no-baselines", "--out", name
        )
        assert done.returncode == 0, done.stderr
        folders.append(folder)
    several._show(folders, tmp_path / "page.html", Report(Console(width=400)))
    said = " ".join("".join(capsys.readouterr()).split())
    assert "trained for 300 and 1,000 epochs" in said
    assert "--eval-epochs 300, in a new folder" in said
    several._show(folders[:1], tmp_path / "page.html", Report(Console(width=400)))
    assert "not evaluated alike" not in "".join(capsys.readouterr())


def test_time_that_was_spent_before_counts(tmp_path, monkeypatch):
    now = iter([10.0, 13.0, 100.0, 102.0])
    monkeypatch.setattr("ddpp_jax.tuning.found.time.monotonic", lambda: next(now))
    Spent(tmp_path).keep()
    assert Spent(tmp_path).seconds == 5.0
    (tmp_path / "spent.json").write_text('{"seconds": 1.0}')
    with pytest.raises(InputError, match="damaged"):
        Spent(tmp_path)


def test_a_file_of_settings_that_is_none(tmp_path):
    (tmp_path / "odd.json").write_text('{"data": {"colour": 3}}')
    done = call(tmp_path, "distill", "--settings", "odd.json")
    assert done.returncode == 2
    assert "not of this version" in done.stderr
