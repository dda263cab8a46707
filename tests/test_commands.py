"""The commands as a user runs them: real processes, real digits."""

import dataclasses
import json
import shlex
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from processes import call, call_once, command

from ddpp_jax import cli
from ddpp_jax.commands import sizes
from ddpp_jax.configs import SETTINGS
from ddpp_jax.files import read_rows
from ddpp_jax.results import read_distilled

SHARED = Path(__file__).parents[2] / "shared" / "data"
QUICK = shlex.split(
    "--augment crop --width 8 --depth 1 --teachers 2 --epochs 4 --student-steps 4 "
    "--max-start-epoch 2 --steps 120 --networks 2 --eval-epochs 20 --random-draws 2 --eval-every 60"
)
TABLE = ("random real images", "MTT (no pruning)", "ours (threshold 0.1)", "full data")


@pytest.fixture
def invoke(tmp_path, capfd, monkeypatch):
    """Run a command in this process, in an empty folder: its exit status, stdout and stderr."""

    def run(stage, flags):
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as leaving:
            getattr(cli, stage)(shlex.split(flags))
        shown = capfd.readouterr()
        return leaving.value.code, shown.out, shown.err

    return run


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


def test_lost_pictures_of_a_complete_run_are_drawn_again(finished):
    folder, _ = finished
    picture = folder / "run" / "mtt" / "distilled.png"
    before = picture.read_bytes()
    picture.unlink()
    done = call(folder, "distill", *QUICK, "--out", "run")
    assert done.returncode == 0, done.stderr
    assert picture.read_bytes() == before


def test_a_lost_result_of_a_complete_run_is_made_again(finished, tmp_path):
    folder, _ = finished
    shutil.copytree(folder, tmp_path / "copy")
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


def test_teachers_alone_are_found_by_the_main_job(finished):
    folder, _ = finished
    flags = shlex.split("--augment crop --width 8 --depth 1 --teachers 3 --epochs 4")
    done = call(folder, "teachers", *flags)
    assert done.returncode == 0, done.stderr
    assert "2 found, 1 to train" in done.stdout
    assert "full data (the teachers)" in done.stdout


def test_dry_run_says_how_large_and_starts_nothing(invoke, tmp_path):
    code, shown, error = invoke("distill", "--dry-run --zca")
    assert (code, error) == (0, "")
    for words in (
        "10,986 parameters",
        "10 teachers of 20 epochs (8.8 MiB)",
        "Teachers' epochs 0 to 11 (5.0 MiB) are held on the device",
        "one every 50 steps, 20 for each method, of 5.0 KiB",
        "MiB for the distillation steps as compiled for this device",
        "449.2 KiB for all images",
        "8.8 MiB for 10 teachers of 21 snapshots",
        "free: enough",
        "1,200 SGD steps of 256 images",
        '"student_steps": 20',
        '"zca": true',
    ):
        assert words in shown
    assert not list(tmp_path.iterdir())


def test_a_network_too_large_for_memory_can_be_described(invoke, tmp_path):
    code, shown, _ = invoke("teachers", "--width 1000000 --dry-run")
    assert code == 0
    assert "9,000," in shown
    assert "too little" in shown
    code, shown, _ = invoke("distill", "--width 1000000 --dry-run")
    assert code == 0
    assert "XLA cannot index it" in shown
    code, _, error = invoke("teachers", "--width 100000 --teachers 200 --epochs 50")
    assert code == 2
    assert "200 teachers of 51 snapshots need" in error


def test_settings_are_listed_and_varied(invoke):
    code, shown, _ = invoke("distill", "--list-settings")
    assert code == 0
    for name in SETTINGS:
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
    assert "are streamed from disk (64.0 KiB may be used on the device)" in shown
    _, shown, _ = invoke("distill", f"{tiny} --read device")
    assert "are held on the device" in shown


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
        "--dataset mine.npz --zca --augment none --width 4 --depth 1 --teachers 2 --epochs 3 "
        "--student-steps 2 --max-start-epoch 2 --steps 10 --networks 2 --eval-epochs 10 "
        "--random-draws 1 --eval-every 0 --ipc 2"
    )
    done = call(tmp_path, "distill", *flags, "--read", "stream", "--out", "streamed")
    assert done.returncode == 0, done.stderr
    assert "are streamed from disk" in done.stdout
    assert "waiting for teachers' parameters" in done.stdout
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
    judged = call(
        tmp_path,
        "evaluate",
        "streamed",
        *shlex.split(
            "--dataset mine.npz --augment none --width 4 --depth 1 --networks 2 "
            "--eval-epochs 10 --out judged.json"
        ),
    )
    assert judged.returncode == 0, judged.stderr
    alone = json.loads((tmp_path / "judged.json").read_text())["rows"][0]["accuracies"]
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
        ("distill", "--alpha 0", "--alpha is 0; wanted a finite number above 0"),
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
        ("evaluate", "nothing.safetensors", "nothing.safetensors cannot be read"),
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


@pytest.mark.parametrize("stage", ["teachers", "distill", "evaluate"])
def test_help_explains_every_flag(invoke, stage):
    code, shown, _ = invoke(stage, "--help")
    assert code == 0
    assert "--seed" in shown
    assert "cifar10-ipc1" in shown
    assert shown.count("(default:") >= 6


def test_a_file_of_another_dataset_is_refused(finished, tmp_path):
    from ddpp_jax.results import write_distilled

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
def test_chest_radiographs_by_their_setting(invoke):
    flags = f"cxr-ipc1 --data-dir {SHARED} --width 2 --teachers 1 --dry-run"
    code, shown, error = invoke("teachers", flags)
    assert (code, error) == (0, "")
    assert "chest_xray: 4684 training and 1172 test images, 112x112x1, 3 classes" in shown
    assert "depth 5" in shown
