"""The commands as a user runs them: real processes, real digits."""

import json
import shlex
import subprocess

import numpy as np
import pytest
from PIL import Image
from processes import call, call_once, command

from ddpp_jax.results import read_distilled, read_rows

QUICK = shlex.split(
    "--augment crop --width 8 --depth 1 --teachers 2 --epochs 4 --student-steps 4 "
    "--max-start-epoch 2 --steps 120 --networks 2 --eval-epochs 20 --random-draws 2 --eval-every 60"
)
TABLE = ("random real images", "MTT (no pruning)", "ours (threshold 0.1)", "full data")


@pytest.fixture(scope="session")
def finished(tmp_path_factory):
    """One whole run of the main job, small."""
    return call_once(tmp_path_factory, "finished", "distill", *QUICK, "--out", "run")


def test_main_job_shows_its_table_and_leaves_its_files(finished):
    folder, done = finished
    for row in TABLE:
        assert row in done.stdout
    assert "distil, ours (threshold 0.1): 120/120 steps" in done.stdout
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


def test_another_runs_folder_is_refused_and_left_alone(finished):
    folder, _ = finished
    before = {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("*")}
    other = call(folder, "distill", *QUICK, "--out", "run", "--pixel-rate", "1")
    assert other.returncode == 2
    assert "config.distillation.pixel_rate was 10.0, is 1.0" in other.stderr
    assert before == {p: p.stat().st_mtime_ns for p in (folder / "run").rglob("*")}


def test_a_folder_of_other_files_is_refused(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    done = call(tmp_path, "distill", *QUICK, "--out", "mine")
    assert done.returncode == 2
    assert "mine holds other files" in done.stderr
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_evaluation_of_the_file_alone_gives_the_same_figure(finished):
    folder, _ = finished
    result = json.loads((folder / "run" / "result.json").read_text())
    flags = shlex.split(
        "--augment crop --width 8 --depth 1 --networks 2 --eval-epochs 20 --out judged.json"
    )
    done = call(folder, "evaluate", "run/distilled.safetensors", *flags)
    assert done.returncode == 0, done.stderr
    judged = json.loads((folder / "judged.json").read_text())
    assert judged["rows"][0]["accuracies"] == result["rows"][2]["accuracies"]


def test_a_file_that_exists_is_not_overwritten(finished):
    folder, _ = finished
    (folder / "thesis.txt").write_text("years of work")
    done = call(folder, "evaluate", "run/distilled.safetensors", "--out", "thesis.txt")
    assert (done.returncode, done.stdout) == (2, "")
    assert "thesis.txt exists already" in done.stderr
    assert (folder / "thesis.txt").read_text() == "years of work"


def test_a_terminal_without_the_plus_minus_sign_is_no_obstacle(finished):
    folder, _ = finished
    arguments, options = command(folder, "distill", *QUICK, "--out", "run")
    options["env"] |= {"PYTHONIOENCODING": "ascii"}
    done = subprocess.run(arguments, capture_output=True, check=False, **options)
    assert done.returncode == 0, done.stderr
    assert "random real images" in done.stdout


def test_a_network_too_large_for_memory_can_be_described(tmp_path):
    done = call(tmp_path, "distill", "--width", "1000000", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "9,000," in done.stdout


def test_teachers_alone_are_found_by_the_main_job(finished):
    folder, _ = finished
    flags = shlex.split("--augment crop --width 8 --depth 1 --teachers 3 --epochs 4")
    done = call(folder, "teachers", *flags)
    assert done.returncode == 0, done.stderr
    assert "2 found, 1 to train" in done.stdout
    assert "full data (the teachers)" in done.stdout


def test_dry_run_says_how_large_and_starts_nothing(tmp_path):
    done = call(tmp_path, "distill", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "10,986 parameters" in done.stdout
    assert "10 teachers of 20 epochs (8.8 MiB)" in done.stdout
    assert not list(tmp_path.iterdir())


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
        ("distill", "--alpha 0", "--alpha is 0; wanted a finite number above 0"),
        ("distill", "--epochs 3 --max-start-epoch 3", "--epochs 3 is too few"),
        ("distill", "--depth 4", "use --depth 3 or less"),
        ("distill", "--student-batch 3", "does not divide the 10 distilled images"),
        ("distill", "--dataset cats", "--dataset is 'cats'; wanted digits"),
        ("distill", "--data-dir /data", "leave --data-dir out"),
        ("distill", "--augment shear", "--augment names 'shear'"),
        ("distill", "--seed -1", "--seed is -1"),
        ("teachers", "--teachers 0", "--teachers is 0; wanted 1 or more"),
        ("evaluate", "nothing.safetensors", "nothing.safetensors cannot be read"),
        ("evaluate", "", "files"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_two(tmp_path, capfd, monkeypatch, stage, flags, words):
    from ddpp_jax import cli

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as leaving:
        getattr(cli, stage)(flags.split())
    shown = capfd.readouterr()
    assert leaving.value.code == 2
    assert words.lower() in shown.err.lower()
    assert shown.err.startswith(f"python -m ddpp_jax.{stage}: ")
    assert shown.err.count("\n") == 1
    assert "Traceback" not in shown.err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("stage", ["teachers", "distill", "evaluate"])
def test_help_explains_every_flag(stage, capfd):
    from ddpp_jax import cli

    with pytest.raises(SystemExit) as leaving:
        getattr(cli, stage)(["--help"])
    assert leaving.value.code == 0
    shown = capfd.readouterr().out
    assert "--seed" in shown
    assert shown.count("(default:") >= 6


def test_a_file_of_another_dataset_is_refused(finished, tmp_path):
    from ddpp_jax.results import write_distilled

    folder, _ = finished
    distilled = read_distilled(folder / "run" / "distilled.safetensors")
    write_distilled(
        tmp_path / "cut.safetensors", distilled._replace(images=distilled.images[:, 1:])
    )
    done = call(tmp_path, "evaluate", "cut.safetensors")
    assert done.returncode == 2
    assert "holds images of (7, 8, 1), but digits has (8, 8, 1)" in done.stderr


def test_an_unwritable_folder_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    done = call(tmp_path, "distill", *QUICK, "--out", "file/run")
    assert done.returncode in (1, 2)
    assert done.stderr.count("\n") == 1
    assert "Traceback" not in done.stderr
