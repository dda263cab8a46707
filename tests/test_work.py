"""How much work the stages of a job are, and what a trial of them says."""

import dataclasses
import io
import math

import pytest
import small
from rich.console import Console

from ddpp_jax.cli.methods import Sources, make_method
from ddpp_jax.configs import SETTINGS, Places, setting
from ddpp_jax.planning import trial, work
from ddpp_jax.planning.problem import prepare
from ddpp_jax.progress import Report


@pytest.fixture
def places(tmp_path):
    return Places(teachers_dir=tmp_path / "teachers", cache_dir=tmp_path / "cache")


def test_the_stages_of_the_main_job(places):
    job = setting("digits")
    found = work.stages(job, 10, ["MTT", "DDPP"], prepare(job, places).raw)
    assert found == [
        work.Stage("teachers", epochs=200),
        # Steps 0, 200, ..., 1,000 of both are evaluated, the last set among them.
        work.Stage("distil", steps=2000, evaluations=12),
        work.Stage("evaluate random real images", evaluations=5),
        work.Stage("evaluate MTT", evaluations=0),
        work.Stage("evaluate DDPP", evaluations=0),
    ]


def test_the_kernel_evaluates_its_own_set_too(places):
    """355 test images, as a share of the 10 x 20 of a step, which has a gradient."""
    job = setting("digits", "kip")
    *_, last = work.stages(job, 0, ["KIP"], prepare(job, places).raw)
    assert last == work.Stage("evaluate KIP by its kernel", steps=355 / 200 / 4)


def test_operations_of_the_main_job_by_hand(places):
    job = setting("digits")
    problem = prepare(job, places)
    image = work.forward_operations(problem.network, (8, 8, 1))
    method = make_method(job, Sources({0: problem}), image_operations=image).method
    found = work.operations(job, problem, method.operations)
    # Two layers of 3x3 convolutions at 8x8 and 4x4, and the linear layer; XLA also counts norms,
    # and leaves out what lies beyond the border.
    image = 2 * (9 * 32 * 8 * 8 + 9 * 32 * 32 * 4 * 4 + 4 * 32 * 10)
    assert 0.75 * image < found.epoch / (3 * 1442) < 1.35 * image
    assert found.step / found.epoch == pytest.approx(11 * 20 * 10 / (3 * 1442))
    assert found.evaluation / found.epoch == pytest.approx(5 * (3 * 1001 * 10 + 355) / (3 * 1442))


@pytest.mark.parametrize(
    ("method", "operations"),
    [
        # Passes of the real images of each of ten classes, and of the one distilled image.
        ("dm", lambda s: 10 * (s.real_batch + 3)),
        ("dc", lambda s: 10 * (3 * s.real_batch + 9)),
        ("bptt", lambda s: 10 * (3 * s.real_batch + 12 * s.window + 1.5 * (s.horizon - s.window))),
    ],
)
def test_operations_of_methods_that_read_real_images(method, operations, places):
    job = setting("digits", method)
    problem = prepare(job, places)
    settings = dataclasses.replace(job.distillation, real_batch=100)
    job = dataclasses.replace(job, distillation=settings)
    made = make_method(job, Sources({0: problem}), image_operations=1.0).method
    assert made.operations == pytest.approx(operations(settings))


def test_every_setting_asks_for_teachers_that_reach_its_targets():
    for job in SETTINGS.values():
        assert job.teaching.last_kept >= job.distillation.last_epoch
    cpu = SETTINGS["cifar10-ipc1-cpu"]
    assert cpu.teaching.epochs == cpu.distillation.last_epoch


def test_a_trial_says_the_time_of_each_stage_and_of_all(monkeypatch, places):
    shown = io.StringIO()
    report = Report(Console(file=shown))
    stages = [work.Stage("teachers", epochs=60), work.Stage("distil", steps=100, evaluations=2)]
    monkeypatch.setattr(trial, "epoch_seconds", lambda *_: 62.0)
    monkeypatch.setattr(trial, "evaluation_seconds", lambda *_, **__: 20.0)
    job = setting("digits")
    problem = prepare(job, places)
    costs_fn = lambda: trial.unit_seconds(job, problem, stages, lambda: 2.5)  # noqa: E731
    assert trial.describe_stages(costs_fn, stages, 1000, report) == work.Costs(62.0, 2.5, 20.0)
    lines = shown.getvalue().splitlines()
    assert lines[0].startswith("Time: about 67 min from the start, by a short trial of each stage")
    assert lines[1:] == ["  teachers: 62 min", "  distil: 5 min"]


def test_a_network_beyond_the_memory_is_not_tried():
    shown = io.StringIO()

    def seconds():
        raise AssertionError

    trial.describe(seconds, 10**15, Report(Console(file=shown)))
    assert "too large to be tried" in shown.getvalue()


def test_steps_beyond_the_memory_make_the_time_unknown(monkeypatch, tmp_path):
    monkeypatch.setattr(trial, "device_room", lambda: 1000)
    found = trial.step_seconds(small.method(), [small.member(tmp_path)], needed=1001)
    assert math.isnan(found)
    shown = io.StringIO()
    monkeypatch.undo()
    trial.describe(lambda: {"distil": found, "evaluate": 1.0}, 10, Report(Console(file=shown)))
    assert shown.getvalue().startswith("Time: unknown")


def test_a_trial_of_a_step_takes_some_time(tmp_path):
    members = [small.member(tmp_path / name, name=name) for name in "ab"]
    assert 0 < trial.step_seconds(small.method(), members, needed=None) < math.inf


@pytest.mark.parametrize(("compiles", "expected"), [(True, [1, 1, 7]), (False, [1, 7])])
def test_a_pace_leaves_compilation_out_and_passes_values_on(monkeypatch, compiles, expected):
    times = iter([0.0, 100.0, 100.0, 100.14, 200.0, 200.7] if compiles else [0, 0.14, 1.0, 1.7])
    monkeypatch.setattr(trial.time, "perf_counter", lambda: next(times))
    counts = []

    def call(value, count):
        assert value == len(counts)
        counts.append(count)
        return value + 1

    assert trial._pace(call, 0, most=50, compiles=compiles) == pytest.approx(0.1)
    assert counts == expected
