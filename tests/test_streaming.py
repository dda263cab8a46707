"""Every stage on images that are streamed, beside the same stage on images in memory."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
import small
from conftest import OLDER_LOOPS
from PIL import Image
from test_commands import invoke  # noqa: F401
from test_methods import MAKE, by_distribution, by_kernel, made
from test_stored import npy_folder, tiny_imagenet

from ddpp_jax import teachers
from ddpp_jax.configs import (
    SETTINGS,
    DataConfig,
    ModelConfig,
    Places,
    TeachConfig,
    TeachersJob,
    setting,
)
from ddpp_jax.data import fit_transform, load_raw, normalised, raw_dataset
from ddpp_jax.data.stored import Stored
from ddpp_jax.errors import InputError
from ddpp_jax.methods import RealImages
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.planning import sources, trial
from ddpp_jax.progress import Report
from ddpp_jax.sets import read_distilled
from ddpp_jax.storage import Room, TeacherStore, read_rows
from ddpp_jax.teachers import epochs

to_the_bit = pytest.mark.skipif(
    OLDER_LOOPS, reason="test_streams_have_the_same_bits_with_loops_as_users_have_them runs it"
)

REAL = sorted(set(MAKE) - {"ddpp", "mtt"})
"""Methods that read real images."""


def both(folder, **settings):
    """A dataset in memory, and the same one streamed; normalised."""
    config = DataConfig(dataset=str(npy_folder(folder)), **settings)
    raws = [load_raw(config, images=how) for how in ("device", "stream")]
    return [normalised(raw, fit_transform(raw, zca=False, cache_dir=None)) for raw in raws]


def test_streams_have_the_same_bits_with_loops_as_users_have_them():
    """Runs the tests that are marked `to_the_bit`, where this process compiles otherwise."""
    if not OLDER_LOOPS:
        pytest.skip("they run in this process")
    flags = ["-o", "addopts=", "-q", "--jaxtyping-packages=ddpp_jax,beartype.beartype", "-k"]
    done = subprocess.run(
        [sys.executable, "-m", "pytest", __file__, *flags, "have_the_same_bits or the_same_sets"],
        env=os.environ | {"DDPP_TEST_BITS": "1"},
        cwd=Path(__file__).parent.parent,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "9 passed, 1 skipped" in done.stdout


@to_the_bit
@pytest.mark.parametrize(
    "changes", [{}, {"balance": True}, {"teacher_optimizer": "gsam"}, {"teacher_batch": 100}]
)
def test_teachers_on_streamed_images_have_the_same_bits(tmp_path, monkeypatch, changes):
    """With minibatches that a call does not hold all of, and a last one that is not full."""
    monkeypatch.setattr(epochs, "_BYTES_A_CALL", 2 * 2 * 16 * 6 * 6 * 3)
    teaching = TeachConfig(**{"teachers": 2, "epochs": 2, "teacher_batch": 16} | changes)
    config = TeachersJob(model=ModelConfig(width=4, depth=1), teaching=teaching)
    network = make_network(ConvNet(classes=3, width=4, depth=1, image_size=6), (6, 6, 3))
    found, losses = [], []
    for dataset in both(tmp_path / "set"):
        store = TeacherStore(tmp_path / type(dataset.x_train).__name__)
        teachers.run(config, dataset, network, store, Report(None))
        found.append([store.read(n, range(3), num_params=network.num_params) for n in range(2)])
        losses.append([store.known(n)["losses"] for n in range(2)])
        losses[-1] += [store.known(n)["accuracy"] for n in range(2)]
    np.testing.assert_array_equal(found[1], found[0])
    assert np.abs(np.diff(found[0], axis=1)).max() > 0
    for ours, theirs in zip(losses[1], losses[0], strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5)


def pools():
    """The small problem's images as eight bits: in memory and on the host."""
    data = small.dataset()
    pixels = np.random.default_rng(2).integers(0, 256, data.x_train.shape).astype(np.uint8)
    raw = raw_dataset(
        name="eight bits",
        class_names=data.class_names,
        x_train=pixels,
        y_train=data.y_train,
        x_test=pixels,
        y_test=data.y_train,
    )
    held = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
    stored = Stored(
        lambda chosen: pixels[chosen], np.arange(40), (4, 4, 1), pixels.dtype, held.transform
    )
    return [RealImages(images, data.y_train) for images in (held.x_train, stored)]


@pytest.mark.parametrize("name", REAL)
def test_every_method_draws_the_same_from_streamed_images(name):
    method, hparams = made(name), MAKE[name][1]
    state = method.init(jax.random.key(0), small.start())
    step, found = jax.jit(method.step), []
    for feed in pools():
        after, info = state, None
        for number in range(2):
            key = jax.random.fold_in(jax.random.key(5), number)
            after, info = step(key, after, feed.take(1, rows=1), hparams)
        found.append((np.asarray(method.distilled(after).images), info.metrics["loss"]))
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5, atol=1e-6)
    assert np.isfinite(found[0][1])
    assert np.abs(found[0][0] - np.asarray(small.start().images)).max() > 0


def distilled_by(feed, folder, name="dm"):
    """What three members come to that read from a feed."""
    method = {"dm": by_distribution, "kip": by_kernel}[name]()._replace(feed=lambda *_: feed)
    members = [
        small.member(folder / one, seed=seed, name=one)._replace(hparams=MAKE[name][1])
        for seed, one in enumerate("abc")
    ]
    return small.run(folder, members, method=method)


def test_several_distillations_fetch_images_side_by_side(tmp_path):
    """From threads of their own."""
    held, stored = (
        distilled_by(feed, tmp_path / str(number)) for number, feed in enumerate(pools())
    )
    for name in "abc":
        ours, theirs = (np.asarray(found[name].distilled.images) for found in (stored, held))
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)


def test_an_image_that_cannot_be_read_ends_the_steps(tmp_path):
    """Where a step fetches it; of that call nothing is kept."""
    _, feed = pools()
    stored, calls = feed._pool.images.stored, []

    def read(chosen, good=stored.read_fn):
        calls.append(len(chosen))
        if len(calls) > 8:
            raise InputError("image 7 is damaged")
        return good(chosen)

    object.__setattr__(stored, "read_fn", read)
    with pytest.raises(InputError, match=r"^image 7 is damaged$"):
        distilled_by(feed, tmp_path)
    assert len(read_rows(tmp_path / "a" / "metrics.jsonl")) < small.CONFIG.distillation.steps


_SPREAD = """
import sys
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, sys.argv[1])
import test_streaming as this

assert jax.device_count() == 4
for name in ("dm", "kip"):
    found = []
    for feed in this.pools():
        folder = Path(sys.argv[2]) / name / str(len(found))
        found.append(np.asarray(this.distilled_by(feed, folder, name)["a"].distilled.images))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-5, atol=1e-6)
this.test_an_image_that_cannot_be_read_ends_the_steps(Path(sys.argv[2]))
print("all done")
"""


def test_several_devices_fetch_images_and_tell_of_damage(tmp_path):
    """Rather than wait for the one that could not read."""
    done = subprocess.run(
        [sys.executable, "-c", _SPREAD, str(Path(__file__).parent), str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"JAX_NUM_CPU_DEVICES": "4"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("all done\n")


def test_processes_decide_together_what_fits(tmp_path, monkeypatch):
    npy_folder(tmp_path / "set")
    asked = []

    def agreed(fn):
        asked.append(fn)
        return Room(10, 10)

    monkeypatch.setattr(sources.cluster, "agreed", agreed)
    config = DataConfig(dataset=str(tmp_path / "set"))
    assert isinstance(sources.data_of(config, Places()).x_train, Stored)
    assert asked == [sources.free_room]


FLAGS = (
    "--settings digits --dataset set --width 4 --depth 1 --teachers 2 --epochs 16 --augment flip "
    "--teacher-batch 16 --teacher-rate 0.1"
)
DISTIL = (
    f"{FLAGS} --student-steps 3 --target-epochs 1 --max-start-epoch 2 --steps 4 --networks 2 "
    "--eval-epochs 4 --random-draws 1"
)


@to_the_bit
@pytest.mark.parametrize(
    ("command", "flags"),
    [
        ("distill", f"{DISTIL} --start-images correct"),
        ("distill", f"{DISTIL} --method dm --real-batch 5 --held-out 0.2"),
        ("select", FLAGS),
        ("select", f"{FLAGS} --method herding"),
        ("select", f"{FLAGS} --method forgetting"),
    ],
)
def test_commands_leave_the_same_sets(invoke, tmp_path, command, flags):  # noqa: F811
    """And their results, whether images are streamed or not."""
    npy_folder(tmp_path / "set")
    if "--method dm" in flags:
        for flag in (
            "--teachers 2",
            "--epochs 16",
            "--teacher-batch 16",
            "--student-steps 3",
            "--target-epochs 1",
            "--max-start-epoch 2",
        ):
            flags = flags.replace(flag, "")
    sets, rows = [], []
    for how in ("device", "stream"):
        code, shown, error = invoke(
            command, f"{flags} --images {how} --out {how} --teachers-dir of-{how}"
        )
        assert code == 0, error
        assert ("will be streamed from where they are" in shown) == (how == "stream")
        sets.append(read_distilled(next((tmp_path / how).glob("*.safetensors"))))
        if command == "distill":
            rows.append(json.loads((tmp_path / how / "result.json").read_text())["rows"])
    np.testing.assert_array_equal(sets[1].images, sets[0].images)
    np.testing.assert_array_equal(sets[1].labels, sets[0].labels)
    assert rows[1:] == rows[:1]


def test_evaluations_on_streamed_test_images_are_the_same(invoke, tmp_path):  # noqa: F811
    npy_folder(tmp_path / "set")
    code, _, error = invoke("select", f"{FLAGS} --out chosen")
    assert code == 0, error
    rows = []
    for how in ("device", "stream"):
        code, _, error = invoke(
            "evaluate", f"chosen --networks 2 --eval-epochs 4 --images {how} --out {how}"
        )
        assert code == 0, error
        rows.append(json.loads((tmp_path / how / "result.json").read_text())["rows"])
    assert rows[0] == rows[1]


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("distill --dataset set", "a search for settings needs all images in memory"),
        ("continual digits --methods random", "continual learning needs all images in memory"),
        ("audit digits --attack --ipc 1", "an attack needs all images in memory"),
        ("search digits --proxies random", "unrecognized"),
    ],
)
def test_what_needs_all_images_says_so(invoke, tmp_path, command, said):  # noqa: F811
    npy_folder(tmp_path / "set")
    stage, *flags = shlex.split(command)
    code, _, error = invoke(stage, f"{shlex.join(flags)} --images stream")
    assert code == 2
    assert said in error.lower() or said in error
    assert not (tmp_path / "runs").exists()


def test_a_dry_run_tells_of_streamed_images(invoke, tmp_path, monkeypatch):  # noqa: F811
    npy_folder(tmp_path / "set")
    monkeypatch.setattr(trial, "reading_seconds", lambda raw: 5000.0)
    code, shown, _ = invoke("teachers", f"{FLAGS} --images stream --dry-run")
    assert code == 0
    assert "read when they are asked for" in shown
    assert {path.name for path in tmp_path.iterdir()} == {"set"}
    assert "teachers: 44.4 h" in shown  # 2 teachers of 16 epochs, which reading decides.


def test_tiny_imagenet_goes_through_its_setting(invoke, tmp_path):  # noqa: F811
    tiny_imagenet(tmp_path / "tiny-imagenet-200")
    code, shown, error = invoke(
        "teachers",
        "tiny-imagenet-200-ipc1 --data-dir . --image-size 16 --width 4 --teachers 1 --epochs 12 "
        "--keep-epochs 11 --images stream",
    )
    assert code == 0, error
    assert "tiny-imagenet-200: 72 training and 15 test images, 16x16x3, 3 classes" in shown


def test_an_imagenet_subset_goes_through_its_setting(invoke, tmp_path):  # noqa: F811
    """Pictures of many sizes are cut to their middle and resized."""
    generator = np.random.default_rng(4)
    for part, count in (("train", 6), ("test", 2)):
        for label in ("tench", "church", "parachute"):
            place = tmp_path / "imagenette" / part / label
            place.mkdir(parents=True)
            for number in range(count):
                size = (*generator.integers(20, 60, 2), 3)
                pixels = generator.integers(0, 256, size).astype(np.uint8)
                Image.fromarray(pixels).save(place / f"{number}.JPEG")
    code, shown, error = invoke(
        "distill",
        "imagenette-ipc1 --data-dir . --image-size 16 --depth 2 --width 4 --teachers 1 --epochs 12 "
        "--student-steps 2 --steps 2 --networks 1 --eval-epochs 2 --random-draws 1 --images stream",
    )
    assert code == 0, error
    assert "imagenette: 18 training and 6 test images, 16x16x3, 3 classes" in shown
    assert "DDPP" in shown


@pytest.mark.parametrize(
    ("name", "numbers"),
    [  # MTT's published commands: J, K, I+, student batch, pixel rate, alpha's rate.
        ("tiny-imagenet-200-ipc1", (10, 2, 10, None, 1e4, 1e-4)),
        ("tiny-imagenet-200-ipc10", (20, 2, 40, 200, 1e4, 1e-4)),
        ("tiny-imagenet-200-ipc50", (20, 2, 40, 300, 1e4, 1e-4)),
        ("imagefruit-ipc1", (20, 2, 10, None, 1e3, 1e-6)),
        ("imagenette-ipc10", (20, 2, 10, 20, 1e3, 1e-6)),
    ],
)
def test_settings_of_larger_images_are_the_published_ones(name, numbers):
    job = setting(name)
    one = job.distillation
    assert numbers == (
        one.student_steps,
        one.target_epochs,
        one.max_start_epoch,
        one.student_batch,
        one.pixel_rate,
        one.alpha_rate,
    )
    tiny = name.startswith("tiny")
    assert (job.model.width, job.model.depth) == (128, 4 if tiny else 5)
    assert (job.teaching.teachers, job.teaching.epochs, job.teaching.teacher_rate) == (
        100,
        50,
        0.01,
    )
    assert (job.data.zca, job.data.image_size) == (False, None if tiny else 128)
    assert sum(other.startswith("image") for other in SETTINGS) == 12


_EPOCH = """
import sys
from pathlib import Path
from ddpp_jax import teachers
from ddpp_jax.configs import DataConfig, ModelConfig, TeachConfig, TeachersJob
from ddpp_jax.data import fit_transform, load_raw, normalised
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.progress import Report
from ddpp_jax.storage import Room, TeacherStore, read_rows

teaching = TeachConfig(teachers=1, epochs=1, teacher_batch=64)
config = TeachersJob(
    data=DataConfig(dataset=sys.argv[1], augment="none"), model=ModelConfig(width=1, depth=1),
    teaching=teaching,
)
raw = load_raw(config.data, images="stream")
dataset = normalised(raw, fit_transform(raw, zca=False, cache_dir=None))
network = make_network(ConvNet(classes=3, width=1, depth=1, image_size=64), (64, 64, 3))
teachers.run(config, dataset, network, TeacherStore(Path(sys.argv[2])), Report(None))
(line,) = (line for line in Path("/proc/self/status").open() if line.startswith("VmHWM"))
print(line.split()[1])
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is told by Linux alone")
def test_memory_does_not_grow_with_the_data(tmp_path):
    """74 MB of images in place of 18 MB; as float32 they would take 276 MB more."""
    peaks = []
    for name, count in (("few", 1_500), ("many", 6_000)):
        folder = npy_folder(tmp_path / name)
        for part, images in (("train", count), ("test", 30)):
            shape = (images, 64, 64, 3)
            made = np.lib.format.open_memmap(folder / f"x_{part}.npy", "w+", np.uint8, shape)
            made[:, 3] = 200  # What is not written takes no room on the disk.
            np.save(folder / f"y_{part}.npy", np.arange(images) % 3)
        done = subprocess.run(
            [sys.executable, "-c", _EPOCH, str(folder), str(tmp_path / f"of-{name}")],
            capture_output=True,
            text=True,
            check=True,
        )
        peaks.append(int(done.stdout) * 1024)
    assert peaks[1] - peaks[0] < 100e6
