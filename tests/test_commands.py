"""The commands as a user runs them: real processes, real digits."""

import dataclasses
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import jax
import numpy as np
import pytest
from PIL import Image
from processes import call, call_once, command, without_flags

from ddpp_jax.cli.program import run as run_command
from ddpp_jax.configs import SETTINGS, DataConfig, named_settings
from ddpp_jax.data import load_raw
from ddpp_jax.planning import sizes, trial
from ddpp_jax.sets import read_distilled
from ddpp_jax.storage import read_rows

SHARED = Path(__file__).parents[2] / "shared" / "data"
QUICK = shlex.split(
    "--augment crop --width 8 --depth 1 --teachers 2 --epochs 4 --student-steps 4 "
    "--max-start-epoch 2 --steps 120 --networks 2 --eval-epochs 20 --random-draws 2 --eval-every 60"
)
TABLE = ("random real images", "MTT (no pruning)", "DDPP (threshold 0.1)", "full data")


@pytest.fixture
def invoke(tmp_path, capfd, monkeypatch):
    """Run a command in this process, in an empty folder: its exit status, stdout and stderr."""

    def run(stage, flags):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as leaving:
            run_command(stage, shlex.split(flags))
        shown = capfd.readouterr()
        return leaving.value.code, shown.out, without_flags(shown.err)

    return run


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """One whole run of the main job, small."""
    return call_once(tmp_path_factory, "finished", "distill", *QUICK, "--out", "run")


def test_main_job_shows_its_table_and_leaves_its_files(finished):
    folder, done = finished
    for row in TABLE:
        assert row in done.stdout
    assert "distil: 120/120 steps" in done.stdout
    run = folder / "run"
    result = json.loads((run / "result.json").read_text())
    assert [row["images"] for row in result["rows"]] == [10, 10, 10, 1442]
    assert [row["networks"] for row in result["rows"]] == [4, 2, 2, 2]
    for row in result["rows"]:
        assert row["mean"] == pytest.approx(np.mean(row["accuracies"]))
        assert row["std"] == pytest.approx(np.std(row["accuracies"]))
    assert result["versions"]["jax"]
    config = json.loads((run / "config.json").read_text())["config"]
    assert config["distillation"]["student_steps"] == 4
    rows = read_rows(run / "metrics.jsonl")
    assert [row["step"] for row in rows] == list(range(121))
    # What the curve says of the last step is what the table says of the result.
    assert rows[-1]["accuracy"] == pytest.approx(result["rows"][2]["mean"])
    for name in ("distilled.png", "curves.png", "mtt/distilled.png"):
        with Image.open(run / name) as image:
            assert min(image.size) > 200
    assert read_distilled(run / "distilled.safetensors").images.shape == (10, 8, 8, 1)


def test_the_same_command_again_shows_the_results_and_computes_nothing(finished):
    folder, done = finished
    before = {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("*")}
    again = call(folder, "distill", *QUICK, "--out", "run")
    assert again.returncode == 0
    assert "run is complete" in again.stdout
    assert done.stdout.split("trained on")[1].split("Images,")[0] in again.stdout
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("*")}


def test_lost_pictures_of_a_complete_run_are_drawn_again(finished):
    folder, _ = finished
    picture = folder / "run" / "mtt" / "distilled.png"
    before = picture.read_bytes()
    picture.unlink()
    done = call(folder, "distill", *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes() == before


def test_a_lost_result_of_a_complete_run_is_made_again(finished, tmp_path):
    folder, done = finished
    # Other tests go on working in the same folder, so no more is copied than is needed.
    store = Path("runs", "teachers", re.search(r"runs/teachers/(\S+): ", done.stdout)[1])
    others = shutil.ignore_patterns("teacher-002*", ".*", "*tmp*")
    shutil.copytree(folder / "run", tmp_path / "copy" / "run")
    shutil.copytree(folder / store, tmp_path / "copy" / store, ignore=others)
    path = tmp_path / "copy" / "run" / "mtt" / "distilled.safetensors"
    before = path.read_bytes()
    path.unlink()
    done = call(tmp_path / "copy", "distill", *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert path.read_bytes() == before
    path.write_bytes(before[:-9])
    for picture in (tmp_path / "copy" / "run").rglob("*.png"):
        picture.unlink()
    done = call(tmp_path / "copy", "distill", *QUICK, "--out", "run")
    assert done.returncode == 2
    assert "delete it, and the same command makes it again" in done.stderr


def test_another_runs_folder_is_refused_and_left_alone(finished):
    folder, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("*")}
    other = call(folder, "distill", *QUICK, "--out", "run", "--pixel-rate", "1")
    assert other.returncode == 2
    assert "config.distillation.pixel_rate was 10.0, is 1.0" in other.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("*")}


def test_a_folder_of_other_files_is_refused(invoke, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    code, _, error = invoke("distill", "--out mine")
    assert code == 2
    assert "mine holds other files" in error
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_evaluation_of_the_folder_alone_gives_the_same_figure(finished):
    """With no flag: the settings come with the set. Twice: nothing is taken from the first time."""
    folder, _ = finished
    result = json.loads((folder / "run" / "result.json").read_text())
    for out in ("evaluated", "evaluated again"):
        done = call(folder, "evaluate", "run/mtt", "run", "--out", out)
        assert done.returncode == 0, done.stderr
        assert (
            "2 networks of each of convnet at width 8, 21 epochs, augmentation crop" in done.stdout
        )
        assert "last (step 120)" in done.stdout
        evaluated = json.loads((folder / out / "result.json").read_text())
        for ours, theirs in zip(evaluated["rows"], result["rows"][1:3], strict=True):
            assert ours["accuracies"] == theirs["accuracies"]
            assert ours["confusion"] == theirs["confusion"]
            assert ours["method"] == theirs["method"]
            assert (ours["which"], ours["step"], ours["seed"]) == ("last", 120, 0)
            assert np.sum(ours["confusion"]) == 2 * 355
            recalls = np.diag(ours["confusion"]) / np.sum(ours["confusion"], axis=1)
            np.testing.assert_allclose(ours["per_class"], recalls)
        for picture in ("accuracy.png", "confusion.png"):
            with Image.open(folder / out / picture) as image:
                assert min(image.size) > 200
        assert not list((folder / out).glob("evaluation*"))


def test_results_of_an_evaluation_are_shown_again_and_never_overwritten(finished):
    folder, _ = finished
    flags = ("run", "--networks", "1", "--eval-epochs", "3")
    first = call(folder, "evaluate", *flags)
    assert first.returncode == 0, first.stderr
    (place,) = folder.glob("runs/evaluation-*")
    before = {p: p.stat().st_mtime_ns for p in place.iterdir()}
    again = call(folder, "evaluate", *flags)
    assert "is complete; its results" in again.stdout
    assert first.stdout.split("trained on")[1] == again.stdout.split("trained on")[1]
    other = call(folder, "evaluate", *flags, "--seed", "1", "--out", str(place))
    assert other.returncode == 2
    assert "config.seed was None, is 1" in other.stderr
    assert before == {p: p.stat().st_mtime_ns for p in place.iterdir()}


def test_several_architectures_evaluate_sets_of_any_kind(tmp_path):
    generator = np.random.default_rng(0)
    labels = np.arange(40) % 2
    images = generator.uniform(0, 0.5, (40, 32, 32, 3)).astype(np.float32)
    images[labels == 1] += 0.4
    data = {"x_train": images, "y_train": labels, "x_test": images[:12], "y_test": labels[:12]}
    np.savez(tmp_path / "data.npz", **data, class_names=["dark", "bright"])
    soft = np.eye(2, dtype=np.float32)[labels[:4]]
    given = {"images": np.moveaxis(images[:4], 3, 1), "labels": soft, "lr": np.float32(0.01)}
    np.savez(tmp_path / "soft.npz", **given)
    for index in range(4):
        place = tmp_path / "pictures" / ["dark", "bright"][labels[index]]
        place.mkdir(parents=True, exist_ok=True)
        pixels = Image.fromarray((255 * images[index]).astype(np.uint8))
        pixels.save(place / f"{index}.png")
    names = "convnet,convnet5,alexnet"
    common = "--dataset data.npz --augment none --width 4 --networks 2 --eval-epochs 12 --rate 0.05"
    flags = (*shlex.split(common), "--architectures", names, "--out", "evaluated")
    done = call(tmp_path, "evaluate", "soft.npz", "pictures", *flags)
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "evaluated" / "result.json").read_text())["rows"]
    assert [row["architecture"] for row in rows] == names.split(",") * 2
    assert [row["file"] for row in rows] == ["soft.npz"] * 3 + ["pictures"] * 3
    # Dark and bright are easily told apart, by whichever of the two is asked.
    assert rows[0]["mean"] > 0.8
    assert rows[3]["mean"] > 0.8


def test_chosen_images_are_evaluated_like_distilled_ones(finished):
    folder, _ = finished
    quick = shlex.split(
        "--augment crop --width 8 --depth 1 --epochs 4 --networks 2 --eval-epochs 20"
    )
    methods = ("random", "herding", "forgetting", "forgetting-least", "k-centre")
    for method in methods:
        flags = ("--method", method, "--ipc", "3", "--out", f"chosen/{method}")
        done = call(folder, "select", *quick, *flags)
        assert done.returncode == 0, done.stderr
    places = [f"chosen/{method}" for method in methods]
    done = call(folder, "evaluate", *places, "run", "--out", "beside")
    assert done.returncode == 0, done.stderr
    rows = json.loads((folder / "beside" / "result.json").read_text())["rows"]
    assert [row["images"] for row in rows] == [30] * 5 + [10]
    assert len({tuple(row["accuracies"]) for row in rows}) == 6
    chosen = read_distilled(folder / "chosen" / "herding" / "distilled.safetensors")
    assert chosen.labels.tolist() == sorted(list(range(10)) * 3)
    assert chosen.alpha == pytest.approx(0.04)
    assert 0 <= chosen.pixels.min() < chosen.pixels.max() <= 1
    before = (folder / "chosen" / "herding" / "distilled.safetensors").stat().st_mtime_ns
    again = call(
        folder, "select", *quick, "--method", "herding", "--ipc", "3", "--out", "chosen/herding"
    )
    assert "is complete" in again.stdout
    assert before == (folder / "chosen" / "herding" / "distilled.safetensors").stat().st_mtime_ns


def test_sets_that_may_hold_test_images_are_refused(invoke, tmp_path):
    generator = np.random.default_rng(0)
    data = {"x_train": generator.uniform(size=(60, 8, 8, 1)), "y_train": np.arange(60) % 2}
    np.savez(tmp_path / "data.npz", **data)
    flags = "--dataset data.npz --method random --ipc 4 --width 4 --depth 1 --eval-epochs 2"
    code, shown, _ = invoke("select", f"{flags} --split-seed 1 --out chosen")
    assert code == 0
    assert "python -m ddpp_jax.evaluate chosen --dataset data.npz evaluates them" in shown
    code, _, error = invoke("evaluate", "chosen --dataset data.npz --split-seed 2")
    assert code == 2
    assert "chosen was made with other test images, and may hold some of these" in error
    code, _, error = invoke("evaluate", "chosen")
    assert code == 2
    assert "say where the data of the sets are by --dataset" in error
    code, _, _ = invoke("evaluate", "chosen --dataset data.npz")
    assert code == 0


def test_sets_made_with_different_settings_are_named(finished):
    folder, _ = finished
    quick = shlex.split("--method random --width 4 --depth 1 --eval-epochs 20 --out narrow")
    assert call(folder, "select", *quick).returncode == 0
    done = call(folder, "evaluate", "run", "narrow", "--eval-epochs", "2")
    assert done.returncode == 0, done.stderr
    assert "narrow and run were made with different settings" in done.stderr
    assert "model.width was 8, is 4" in done.stderr


def test_sets_of_a_run_by_name(finished):
    """The best on held-out images, the best on the test set, and the last, from one run."""
    folder, _ = finished
    flags = (*QUICK, "--held-out", "0.2", "--which", "best-held-out", "--no-baselines")
    done = call(folder, "distill", *flags, "--out", "chosen-run")
    assert done.returncode == 0, done.stderr
    assert "training images are kept apart" in done.stdout
    assert "best on held-out images (step" in done.stdout
    run = folder / "chosen-run"
    evaluated = [row for row in read_rows(run / "metrics.jsonl") if "accuracy" in row]
    (row,) = json.loads((run / "result.json").read_text())["rows"]
    best = max(evaluated, key=lambda row: row["held_out_accuracy"])
    assert row["held_out_mean"] == pytest.approx(best["held_out_accuracy"])
    assert "held_out_mean" not in (folder / "run" / "result.json").read_text()
    for which, quantity in (("best-held-out", "held_out_accuracy"), ("best-test", "accuracy")):
        best = max(evaluated, key=lambda row: row[quantity])
        name = f"evaluated-{which}"
        done = call(folder, "evaluate", "chosen-run", "--which", which, "--out", name)
        assert done.returncode == 0, done.stderr
        (row,) = json.loads((folder / name / "result.json").read_text())["rows"]
        assert (row["which"], row["step"]) == (which, best["step"])
        assert row["mean"] == pytest.approx(best["accuracy"])
        assert ("optimistic" in done.stdout) == (which == "best-test")
    refused = call(folder, "evaluate", "run", "--which", "best-held-out")
    assert refused.returncode == 2
    assert (
        "run has no distilled-best-held-out.safetensors; a distillation keeps it" in refused.stderr
    )


def test_the_learned_set_beats_random_images_by_a_wide_margin(tmp_path_factory):
    flags = shlex.split(
        "--width 16 --teachers 3 --epochs 12 --max-start-epoch 6 --steps 300 --pixel-rate 30 "
        "--networks 3 --eval-epochs 150 --random-draws 2 --eval-every 0 --out run"
    )
    folder, _ = call_once(tmp_path_factory, "learned", "distill", *flags)
    rows = json.loads((folder / "run" / "result.json").read_text())["rows"]
    random, mtt, ddpp = (row["mean"] for row in rows[:3])
    assert min(mtt, ddpp) > random + 0.1


@pytest.mark.parametrize(
    ("arrays", "words"),
    [
        ({"labels": np.zeros(4, int)}, "holds images of one class only, number 0"),
        ({"labels": np.array([0, 1, 2, 10])}, "has label 10; wanted 0 to 9"),
        (
            {"class_names": ["0", "1"], "labels": np.array([0, 1, 2, 1])},
            "has label 2; wanted 0 to 1",
        ),
        ({"labels": np.eye(10)[[3, 3, 3, 3]]}, "holds images of one class only"),
        ({"images": np.zeros((4, 9, 9, 1))}, "holds images of (9, 9, 1), but digits has (8, 8, 1)"),
        ({"labels": np.full((4, 3), 1 / 3)}, "has 3 probabilities for each image, but there are"),
        ({"class_names": ["cat", "1", "2"]}, "differ in their classes: cat is not among them"),
        ({"images": np.full((4, 8, 8, 1), np.nan)}, "hold NaN or infinite pixels"),
        ({"images": np.zeros((0, 8, 8, 1)), "labels": np.zeros(0, int)}, "at least one image"),
        ({}, "comes with no learning rate; give --rate"),
    ],
)
def test_sets_that_nothing_can_be_learnt_from_are_refused(invoke, tmp_path, arrays, words):
    given = {"images": np.zeros((4, 8, 8, 1)), "labels": np.array([0, 1, 2, 2])} | arrays
    np.savez(tmp_path / "set.npz", **given)
    code, shown, error = invoke("evaluate", "set.npz")
    assert (code, shown) == (2, "")
    assert words in error
    assert error.startswith("python -m ddpp_jax.evaluate: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["set.npz"]


def test_classes_are_matched_by_name_and_missing_ones_are_named(tmp_path):
    data = load_raw(DataConfig())
    by_hand = {"images": [], "labels": [], "class_names": ["9", "0", "5"]}
    for label, name in enumerate(by_hand["class_names"]):
        by_hand["images"] += list(data.x_train[data.y_train == int(name)][:20])
        by_hand["labels"] += [label] * 20
    np.savez(tmp_path / "set.npz", **by_hand, alpha=0.05)
    flags = "--width 8 --depth 1 --augment none --networks 1 --eval-epochs 40 --out evaluated"
    done = call(tmp_path, "evaluate", "set.npz", *shlex.split(flags))
    assert done.returncode == 0, done.stderr
    assert "has no image of 1, 2, 3, 4, 6, 7, 8" in done.stderr
    (row,) = json.loads((tmp_path / "evaluated" / "result.json").read_text())["rows"]
    assert min(row["per_class"][label] for label in (0, 5, 9)) > 0.5
    assert max(row["per_class"][label] for label in (1, 2, 3, 4, 6, 7, 8)) == 0


def test_several_seeds_are_compared_in_pairs(finished):
    folder, _ = finished
    flags = (*QUICK, "--seed", "1", "--random-draws", "0", "--eval-every", "0")
    done = call(folder, "distill", *flags, "--out", "run-1")
    assert done.returncode == 0, done.stderr
    places = ("run/mtt", "run", "run-1/mtt", "run-1")
    done = call(folder, "evaluate", *places, "--out", "seeds")
    assert done.returncode == 0, done.stderr
    result = json.loads((folder / "seeds" / "result.json").read_text())
    means = np.reshape([row["mean"] for row in result["rows"]], (2, 2))
    (comparison,) = result["comparisons"]
    assert comparison["mean"] == pytest.approx((means[:, 1] - means[:, 0]).mean())
    assert [spread["seeds"] for spread in result["over_seeds"]] == [2, 2]
    assert "Over seeds" in done.stdout
    assert "DDPP (threshold 0.1) less MTT (no pruning) (convnet, IPC 1, last):" in done.stdout
    # Each seed's sets are evaluated by networks of that seed, as in its own run.
    theirs = json.loads((folder / "run-1" / "result.json").read_text())["rows"]
    assert result["rows"][3]["accuracies"] == theirs[1]["accuracies"]


def test_a_file_that_exists_is_not_overwritten(finished):
    folder, _ = finished
    (folder / "thesis.txt").write_text("years of work")
    done = call(folder, "evaluate", "run/distilled.safetensors", "--out", "thesis.txt")
    assert done.returncode == 2
    assert "thesis.txt is a file" in done.stderr
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_a_terminal_without_the_plus_minus_sign_is_no_obstacle(finished, tmp_path):
    folder = shutil.copytree(finished[0], tmp_path / "copy")
    arguments, options = command(folder, "distill", *QUICK, "--out", "run")
    options["env"] |= {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(arguments, capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    assert "random real images" in done.stdout


def test_a_profile_of_every_stage_opens_and_names_its_parts(tmp_path):
    done = call(tmp_path, "distill", *QUICK, "--profile", "traces", "--out", "run")
    assert done.returncode == 0, done.stderr
    (folder,) = (tmp_path / "traces").glob("distil")
    assert f"is in traces/{folder.name}; tensorboard --logdir" in done.stdout
    assert "teachers" in {path.name for path in folder.parent.iterdir()}
    (file,) = folder.rglob("*.xplane.pb")
    found = jax.profiler.ProfileData.from_file(str(file))
    assert any(
        event.duration_ns > 0 for p in found.planes for line in p.lines for event in line.events
    )
    content = file.read_bytes()
    for scope in (b"student_step", b"student_step_back", b"augmentation", b"mask", b"loss"):
        assert re.search(rb"[/(]" + scope + rb"[/)]", content), scope


def test_what_one_process_compiled_the_next_finds(tmp_path):
    arguments, options = command(tmp_path, "teachers", *QUICK[:10])
    del options["env"]["JAX_COMPILATION_CACHE_DIR"]
    kept = []
    for seed in ("0", "1"):
        flags = ["--seed", seed, "--cache-dir", "kept"]
        subprocess.run([*arguments, *flags], check=True, capture_output=True, **options)
        # What takes hardly any time to compile is kept or not, as the clock has it.
        kept.append({path.name for path in (tmp_path / "kept").rglob("jit_advance_all*-cache")})
    assert kept[0]
    assert kept[1] == kept[0]


def test_teachers_alone_are_found_by_the_main_job(finished):
    folder, _ = finished
    flags = shlex.split("--augment crop --width 8 --depth 1 --teachers 3 --epochs 4")
    done = call(folder, "teachers", *flags)
    assert done.returncode == 0, done.stderr
    assert "2 found, 1 to train" in done.stdout
    assert "full data (the teachers)" in done.stdout


@pytest.fixture
def untried(monkeypatch):
    """No trial of the stages, which takes longer than all else that a dry run does."""
    for name, seconds in (("epoch", 1.0), ("step", 0.4), ("evaluation", 3.0)):
        monkeypatch.setattr(trial, f"{name}_seconds", lambda *_, s=seconds, **__: s)


def test_dry_run_says_how_large_and_starts_nothing(invoke, tmp_path, untried):
    code, shown, error = invoke("distill", "--dry-run --zca")
    assert (code, error) == (0, "")
    for words in (
        "10,986 parameters",
        "10 teachers of 20 epochs (8.8 MiB)",
        "Teachers' epochs 0 to 11 (5.0 MiB) will be held on the device",
        "one every 50 steps, 20 of 5.0 KiB for each distillation",
        "MiB for the distillation steps as compiled for this device",
        "449.2 KiB for all images",
        "8.8 MiB for 10 teachers of 21 snapshots",
        "free: enough",
        "1,200 SGD steps of 256 images",
        '"student_steps": 20',
        '"zca": true',
        "Time: about 71 min from the start, by a short trial of each stage",
        "  teachers: 3 min\n",
        "  distil: 67 min\n",
        "  evaluate random real images: 15 s\n",
    ):
        assert words in shown
    assert not list(tmp_path.iterdir())


def test_a_network_too_large_for_memory_or_disk_is_refused(invoke, tmp_path):
    for stage in ("teachers", "distill"):
        code, _, error = invoke(stage, "--width 1000000 --dry-run")
        assert code == 2
        assert "9,000,055,000,010 parameters, more than the 2,147,483,647" in error
    for dry in ("", " --dry-run"):
        code, shown, error = invoke("teachers", f"--width 15000 --teachers 200 --epochs 50{dry}")
        assert code == 2
        assert "parameters, on cpu" in shown
        assert "200 teachers of 51 snapshots need" in error


def test_settings_are_listed_and_varied(invoke, untried):
    code, shown, _ = invoke("distill", "--list-settings")
    assert code == 0
    for name in named_settings():
        assert name in shown
    code, shown, _ = invoke("distill", "cifar100-ipc50 --seed 7 --print-settings")
    assert code == 0
    job = SETTINGS["cifar100-ipc50"]
    assert json.loads(shown) == dataclasses.asdict(dataclasses.replace(job, seed=7))
    code, shown, _ = invoke("teachers", "cxr-ipc5 --dataset digits --depth 3 --width 8 --dry-run")
    assert code == 0
    assert '"teachers": 100' in shown
    assert '"depth": 3' in shown
    assert "digits: 1442 training and 355 test images, 112x112x1" in shown


def test_teachers_that_do_not_fit_are_streamed(invoke, monkeypatch):
    monkeypatch.setattr(sizes, "device_room", lambda: 2**16)
    tiny = "--dry-run --width 4 --depth 1 --student-steps 1 --augment none"
    _, shown, _ = invoke("distill", tiny)
    assert "will be streamed from disk (64.0 KiB may be used on the device)" in shown
    assert "  distil: " in shown
    _, shown, _ = invoke("distill", f"{tiny} --read device")
    assert "will be held on the device" in shown


def make_npz(path):
    """Two classes of 12x12 colour images that a mean tells apart, as a user's own file."""
    generator = np.random.default_rng(0)
    arrays = {}
    for side, count in (("train", 40), ("test", 20)):
        labels = np.arange(count) % 2
        images = generator.integers(0, 120, (count, 12, 12, 3), dtype=np.uint8)
        images[labels == 1] += 120
        arrays |= {f"x_{side}": images, f"y_{side}": labels}
    np.savez(path, **arrays, class_names=np.array(["dark", "bright"]))


def test_a_file_of_ones_own_whitened_and_streamed(tmp_path):
    make_npz(tmp_path / "mine.npz")
    flags = shlex.split(
        "digits --dataset mine.npz --zca --augment none --width 4 --depth 1 --teachers 2 "
        "--epochs 3 --student-steps 2 --max-start-epoch 2 --steps 10 --networks 2 --eval-epochs 10 "
        "--random-draws 1 --eval-every 0 --ipc 2"
    )
    done = call(tmp_path, "distill", *flags, "--read", "stream", "--out", "streamed")
    assert done.returncode == 0, done.stderr
    assert "will be streamed from disk" in done.stdout
    assert "waiting for what they read" in done.stdout
    assert list((tmp_path / "runs" / "cache").glob("zca-*.safetensors"))
    again = call(tmp_path, "distill", *flags, "--read", "device", "--out", "held")
    assert again.returncode == 0, again.stderr
    files = [tmp_path / name / "distilled.safetensors" for name in ("streamed", "held")]
    assert files[0].read_bytes() == files[1].read_bytes()
    stored = read_distilled(files[0])
    assert stored.class_names == ("dark", "bright")
    assert stored.transform["zca_matrix"].shape == (432, 432)
    # The picture's pixels, whitened, are the images that the networks see.
    flat = stored.pixels.reshape(4, -1) - stored.transform["zca_mean"]
    whitened = (flat @ stored.transform["zca_matrix"]).reshape(stored.images.shape)
    np.testing.assert_allclose(whitened, stored.images, atol=1e-3)
    result = json.loads((tmp_path / "streamed" / "result.json").read_text())
    assert result["class_names"] == ["dark", "bright"]
    evaluated = call(
        tmp_path,
        "evaluate",
        "streamed",
        *shlex.split("--dataset mine.npz --out evaluated"),
    )
    assert evaluated.returncode == 0, evaluated.stderr
    alone = json.loads((tmp_path / "evaluated" / "result.json").read_text())["rows"][0][
        "accuracies"
    ]
    assert alone == result["rows"][2]["accuracies"]


@pytest.mark.parametrize(
    ("stage", "flags", "words"),
    [
        ("distill", "--ipc two", "--ipc: got 'two', wanted a whole number"),
        ("distill", "--ipcs 2", "--ipcs"),
        ("distill", "--ipc", "--ipc"),
        ("distill", "--ipc 0", "--ipc is 0; wanted 1 or more"),
        ("distill", "--ipc 500", "class 0 has 143 training images, fewer than --ipc 500"),
        ("distill", "--threshold 2", "--threshold is 2; wanted a ratio above 0 and at most 1"),
        ("distill", "--threshold high", "--threshold: got 'high', wanted a number or none"),
        ("distill", "--pixel-rate nan", "--pixel-rate is nan; wanted a finite rate"),
        ("distill", "--alpha 0", "--alpha is 0; wanted a number above 0"),
        ("distill", "--epochs 3 --max-start-epoch 3", "--epochs 3 is too few"),
        ("distill", "--depth 4", "use --depth 3 or less"),
        ("distill", "--student-batch 3", "does not divide the 10 distilled images"),
        ("distill", "--dataset cats", "--dataset is 'cats'; wanted digits, a name that TFDS"),
        ("distill", "--dataset cats.npz", "cats.npz"),
        ("distill", "--dataset=", "--dataset is empty"),
        ("distill", "--dataset ./cats", "cats"),
        ("distill", "--dataset cifar10 --data-dir .", "needs TensorFlow"),
        ("distill", "cifar10", "there is no setting 'cifar10'; wanted one such as cifar10-ipc1"),
        ("teachers", "--ipc1 --epochs 3", "--ipc1"),
        ("evaluate", "x.safetensors --setting cats", "there is no setting 'cats'"),
        ("distill", "--keep-epochs 5", "--keep-epochs 5 is too few"),
        ("distill", "--keep-epochs 21", "--keep-epochs is 21; wanted 1 to --epochs 20"),
        ("distill", "--per-class 500", "class 0 has 143 training images, fewer than --per-class"),
        ("distill", "--channels 2", "--channels is 2; wanted 1, 3 or none"),
        ("distill", "--image-size 0", "--image-size is 0"),
        ("distill", "--test-share 1.5", "--test-share is 1.5"),
        ("distill", "--read quickly", "--read"),
        ("distill", "--data-dir .", "leave --data-dir out"),
        ("distill", "cifar10-ipc1 --data-dir nowhere", "--data-dir nowhere is not a folder"),
        ("distill", "--augment shear", "--augment names 'shear'"),
        ("distill", "--seed -1", "--seed is -1"),
        ("teachers", "--teachers 0", "--teachers is 0; wanted 1 or more"),
        ("evaluate", "nothing.safetensors", "there is no file nothing.safetensors"),
        ("evaluate", "x.npz --architectures convnet,lenet", "there is no architecture 'lenet'"),
        ("evaluate", "x.npz --architectures vgg11,vgg11", "names one twice"),
        ("evaluate", "x.npz x.npz", "named twice"),
        ("evaluate", "x.npz --rate 0", "--rate is 0; wanted a number above 0"),
        ("evaluate", "x.npz --which best", "--which"),
        ("distill", "--which best-held-out", "--which best-held-out needs training images"),
        ("distill", "--which best-test --eval-every 0", "needs --eval-every above 0"),
        ("distill", "--held-out 1", "--held-out is 1; wanted a share between 0 and 1"),
        ("select", "--ipc 500", "class 0 has 143 training images, fewer than --ipc 500"),
        ("select", "--method best", "--method"),
        ("evaluate", "", "files"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(invoke, tmp_path, stage, flags, words):
    code, shown, error = invoke(stage, flags)
    assert (code, shown) == (2, "")
    assert words.lower() in error.lower()
    assert error.startswith(f"python -m ddpp_jax.{stage}: ")
    assert error.count("\n") == 1
    assert "Traceback" not in error
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["teachers", "distill", "evaluate", "select"])
def test_help_explains_every_flag(invoke, stage):
    code, shown, _ = invoke(stage, "--help")
    assert code == 0
    assert "--seed" in shown
    assert "cifar10-ipc1" in shown
    assert shown.count("(default:") >= 6


def test_a_file_of_another_dataset_is_refused(finished, tmp_path):
    from ddpp_jax.sets import write_distilled

    folder, _ = finished
    distilled = read_distilled(folder / "run" / "distilled.safetensors")
    write_distilled(
        tmp_path / "cut.safetensors",
        distilled._replace(images=distilled.images[:, 1:], pixels=distilled.pixels[:, 1:]),
    )
    done = call(tmp_path, "evaluate", "cut.safetensors")
    assert done.returncode == 2
    assert "holds images of (7, 8, 1), but digits has (8, 8, 1)" in done.stderr


def test_an_unwritable_folder_is_one_line(invoke, tmp_path):
    (tmp_path / "file").write_text("")
    code, _, error = invoke("distill", "--out file/run")
    assert code in (1, 2)
    assert error.count("\n") == 1
    assert "file/run" in error


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared real data are not there")
def test_chest_radiographs_by_their_setting(invoke, untried):
    flags = f"cxr-ipc1 --data-dir {SHARED} --width 2 --teachers 1 --dry-run"
    code, shown, error = invoke("teachers", flags)
    assert (code, error) == (0, "")
    assert "chest_xray: 4684 training and 1172 test images, 112x112x1, 3 classes" in shown
    assert "depth 5" in shown
