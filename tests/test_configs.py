"""Settings: their checks and their digest."""

import dataclasses
import json
from dataclasses import replace
from pathlib import Path

import pytest

from ddpp_jax.configs import (
    DIGITS,
    METHODS,
    SETTINGS,
    DataConfig,
    DistillJob,
    EvaluateConfig,
    EvaluateJob,
    TeachConfig,
    TeachersJob,
    TrajectoryConfig,
    digest,
    job_of,
    named_settings,
    provenance,
    setting,
    untuned,
)
from ddpp_jax.configs.best import BEST, Best
from ddpp_jax.data import load_raw
from ddpp_jax.errors import InputError
from ddpp_jax.planning.identities import plain

PAPER = Path(__file__).parents[2] / "shared" / "paper-settings.md"
COLUMNS = [f"{data}-ipc{ipc}" for data in ("cifar10", "cifar100") for ipc in (1, 10, 50)]


def test_operations_by_name():
    assert DataConfig(augment="none").operations == ()
    assert DataConfig(augment="crop,flip").operations == ("crop", "flip")
    assert len(DataConfig(augment="all").operations) == 6


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: TeachConfig(teacher_rate=0.0), "--teacher-rate"),
        (lambda: TeachConfig(teacher_batch=0), "--teacher-batch"),
        (lambda: TrajectoryConfig(momentum=1.0), "--momentum"),
        (lambda: TrajectoryConfig(alpha_rate=-1.0), "--alpha-rate"),
        (lambda: TrajectoryConfig(student_batch=0), "--student-batch"),
        (lambda: EvaluateConfig(networks=0), "--networks"),
        (lambda: TeachersJob(seed=2**32), "--seed"),
        (lambda: EvaluateJob(seed=-1), "--seed"),
        (lambda: DataConfig(augment="crop,crop"), "twice"),
    ],
)
def test_values_out_of_range_are_refused(make, words):
    with pytest.raises(InputError, match=words):
        make()


def test_last_epoch_must_be_trained():
    DistillJob(
        teaching=TeachConfig(epochs=4),
        distillation=TrajectoryConfig(max_start_epoch=3, target_epochs=2),
    )
    with pytest.raises(InputError, match="reach epoch 5"):
        DistillJob(
            teaching=TeachConfig(epochs=4),
            distillation=TrajectoryConfig(max_start_epoch=3, target_epochs=3),
        )


def test_digest_follows_every_value():
    config = DIGITS
    other = dataclasses.replace(config, seed=1)
    first, second = (digest(dataclasses.asdict(c)) for c in (config, other))
    assert first != second
    assert first == digest(dataclasses.asdict(dataclasses.replace(DIGITS, seed=0)))


@pytest.mark.skipif(not PAPER.is_file(), reason="the shared table of settings is not there")
@pytest.mark.parametrize(
    ("row", "name"),
    [
        ("J", "student_steps"),
        ("K", "target_epochs"),
        ("I+", "max_start_epoch"),
        ("student batch", "student_batch"),
        ("pixel rate", "pixel_rate"),
        ("alpha's rate", "alpha_rate"),
        ("alpha at start", "alpha"),
    ],
)
def test_named_settings_are_the_published_ones(row, name):
    lines = [line.split("|")[1:-1] for line in PAPER.read_text().splitlines()]
    (cells,) = [cells[1:] for cells in lines if len(cells) == 7 and cells[0].strip() == row]
    for column, cell in zip(COLUMNS, cells, strict=True):
        published = cell.split()[0]  # What stands in brackets is another work's.
        found = getattr(SETTINGS[column].distillation, name)
        assert found == (None if published == "all" else float(published)), column


def test_named_settings_share_what_the_paper_says_of_all():
    published = [
        name
        for name in SETTINGS
        if name.startswith(("cifar10-ipc", "cifar100-ipc", "cxr-ipc")) and name[-4:] != "-cpu"
    ]
    assert len(published) == 10
    for name in published:
        job, cxr = SETTINGS[name], name.startswith("cxr")
        assert name.endswith(f"-ipc{job.distillation.ipc}")
        assert (job.model.width, job.model.depth) == (128, 5 if cxr else 3)
        assert (job.teaching.teachers, job.teaching.epochs) == (100 if cxr else 200, 50)
        assert (job.distillation.threshold, job.distillation.steps) == (0.1, 5000)
        assert (job.data.zca, job.data.augment) == (not cxr, "all")
        assert (job.evaluation.networks, job.evaluation.eval_epochs) == (5, 1000)


def test_an_unknown_setting_is_told_what_comes_close():
    with pytest.raises(InputError, match=r"no setting 'cifar10_ipc1'.*cifar10-ipc1"):
        setting("cifar10_ipc1")


def test_settings_that_nobody_published_say_whose_they_are():
    assert provenance("dsa", "cifar10-ipc10", "cifar10", 10) is None
    assert provenance("ddpp", "cifar100-ipc10", "cifar100", 10) is None
    assert "the paper prints none" in provenance("ddpp", "cxr-ipc1", "chest_xray", 1)
    assert "CIFAR-10's, since none are known" in provenance("dm", "cxr-ipc1", "chest_xray", 1)
    assert "published for cifar100 at 50 per class" in provenance(
        "kip", "cifar100-ipc50", "cifar100", 50
    )
    assert "CIFAR-10's at 10 per class" in provenance("bptt", "cifar10-ipc1", "cifar10", 1)
    assert provenance("bptt", "tiny-imagenet-200-ipc10", "tiny-imagenet-200", 10) is None
    assert "this project's own" in provenance("cafe", "digits", "digits", 1)


@pytest.mark.parametrize(
    ("name", "classes"),
    [("cifar10-ipc10", 10), ("cifar100-ipc1", 100), ("tiny-imagenet-200-ipc1", 200)],
)
@pytest.mark.parametrize("method", ["kip", "bptt"])
def test_five_thousand_real_images_are_shared_among_the_classes(method, name, classes):
    assert setting(name, method).distillation.real_batch * classes == 5000


def test_truncated_unrolling_of_tiny_imagenet_is_as_published():
    settings = setting("tiny-imagenet-200-ipc10", "bptt").distillation
    assert (settings.window, settings.horizon, settings.placement) == (100, 300, "random")
    assert (settings.pixel_rate, settings.label_rate) == (0.0003, 0.0003)
    assert settings.learn_labels
    assert (settings.student_batch, settings.real_batch * 200) == (50, 1000)


@pytest.mark.parametrize("name", sorted(BEST))
def test_what_does_best_is_another_method_with_the_data_of_its_base(name):
    best, job = BEST[name], setting(name)
    assert name == f"{best.base}-best"
    assert job.method == best.method != "ddpp"
    assert (job.data, job.model) == (SETTINGS[best.base].data, SETTINGS[best.base].model)
    assert job == setting(name, best.method)
    said = provenance(job.method, name, job.data.dataset, job.distillation.ipc)
    assert said.startswith(best.source)
    assert ("CIFAR-10's at 10 per class" in said) == (name == "cifar10-ipc1-best")
    with pytest.raises(
        InputError, match=f"{name} is by {best.method} alone; for dm give {best.base}"
    ):
        setting(name, "dm")
    with pytest.raises(InputError, match=f"wanted one such as.*{best.base}"):
        setting(f"{name}t")


def test_changes_of_what_does_best_are_taken(monkeypatch):
    monkeypatch.setitem(BEST, "digits-best", Best("digits", "dm", "tried", {"pixel_rate": 3.0}))
    assert setting("digits-best") == replace(
        setting("digits", "dm"),
        distillation=replace(setting("digits", "dm").distillation, pixel_rate=3.0),
    )
    assert named_settings()[-1] == "digits-best"


@pytest.mark.parametrize("method", sorted(METHODS))
@pytest.mark.parametrize("name", sorted(SETTINGS))
def test_every_method_has_numbers_for_every_named_setting(method, name):
    job = setting(name, method)
    assert job.method == method
    assert job.distillation.ipc == SETTINGS[name].distillation.ipc
    assert job_of(json.loads(json.dumps(dataclasses.asdict(job)))) == job


def test_published_loops_and_starts():
    """Updates and epochs by images per class, and what images start from."""
    found = [setting(f"cifar10-ipc{ipc}", "dsa").distillation for ipc in (1, 10, 50)]
    assert [one.loops for one in found] == [(1, 1), (10, 50), (50, 10)]
    # They follow the number of images, wherever the settings come from.
    assert dataclasses.replace(found[0], ipc=12).loops == (10, 50)
    assert dataclasses.replace(untuned("dc").distillation, ipc=50).loops == (50, 10)
    assert dataclasses.replace(found[0], ipc=10, updates=3).loops == (3, 50)
    starts = {n: setting("cifar10-ipc1", n).distillation.start for n in ("dc", "dsa", "cafe")}
    assert starts == {"dc": "noise", "dsa": "real", "cafe": "noise"}
    assert setting("cifar100-ipc1", "kip").distillation.real_batch == 50


def test_names_of_runs_stay_as_they_were():
    """A setting that came later takes no part in a name where it changes nothing."""
    raw = load_raw(DataConfig())
    for method, added in (("ddpp", "mask"), ("mtt", "skip_above"), ("kip", None)):
        settings = plain(setting("digits", method), raw)["distillation"]
        assert added not in settings
    # These had the setting from the first.
    for method in ("kip", "bptt"):
        assert plain(setting("digits", method), raw)["distillation"]["learn_labels"] is False
    changed = replace(setting("digits"), distillation=TrajectoryConfig(mask="signs"))
    assert plain(changed, raw)["distillation"]["mask"] == "signs"
