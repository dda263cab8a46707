"""How long a job will still take, by a clock that the test turns."""

import io

import pytest
from rich.console import Console

from ddpp_jax.progress import Report
from ddpp_jax.progress import console as report_module
from ddpp_jax.progress.forecast import Forecast


class Clock:
    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_the_stage_goes_by_its_own_pace_and_later_ones_by_the_work_done(clock):
    forecast = Forecast({"teachers": 100.0, "distil": 300.0, "evaluate": 50.0}, clock)
    forecast.begin("teachers", 10)
    clock.now = 50.0  # Compilation.
    assert forecast.left("teachers", 2) is None
    clock.now = 58.0  # Four units, which are 40 of the work, in 8 seconds.
    assert forecast.left("teachers", 6) == pytest.approx(4 * 2.0 + 350 / 5)
    clock.now = 66.0
    forecast.end("teachers", 10)
    forecast.begin("distil", 100)
    clock.now = 100.0
    # 80 of the work took 16 seconds; of this stage nothing is known yet.
    assert forecast.left("distil", 0) == pytest.approx(350 / 5)
    clock.now = 110.0
    # A tenth of the stage, 30 of the work, took 10 seconds: 110 in 26 so far.
    assert forecast.left("distil", 10) == pytest.approx(90.0 + 50 * 26 / 110)


def test_what_an_earlier_process_did_is_neither_work_nor_left(clock):
    forecast = Forecast({"distil": 100.0, "evaluate": 100.0}, clock)
    forecast.begin("distil", 100)
    assert forecast.left("distil", 60) is None
    clock.now = 10.0
    assert forecast.left("distil", 70) == pytest.approx(30.0 + 100.0)


def test_a_stage_that_is_passed_over_is_over(clock):
    forecast = Forecast({"a": 1.0, "b": 100.0, "c": 100.0, "d": 50.0}, clock)
    forecast.begin("c", 10)
    forecast.left("c", 0)
    clock.now = 5.0
    assert forecast.left("c", 5) == pytest.approx(5.0 + 5.0)


@pytest.mark.parametrize("stage", ["check teachers", "evaluate"])
def test_no_figure_for_a_stage_beside_the_plan_or_the_last_one(clock, stage):
    forecast = Forecast({"teachers": 1.0, "evaluate": 1.0}, clock)
    forecast.begin(stage, 10)
    assert forecast.left(stage, 1) is None
    clock.now = 3.0
    assert forecast.left(stage, 2) is None


def test_a_stage_within_another_leaves_its_figure_alone(clock):
    forecast = Forecast({"distil": 100.0, "evaluate": 100.0}, clock)
    forecast.begin("distil", 10)
    forecast.left("distil", 0)
    forecast.begin("inner", 3)
    assert forecast.left("inner", 1) is None
    forecast.end("inner", 3)
    clock.now = 1.0
    assert forecast.left("distil", 1) == pytest.approx(9.0 + 10.0)


@pytest.mark.parametrize("terminal", [False, True])
def test_progress_shows_what_is_left_of_the_whole_job(monkeypatch, terminal):
    monkeypatch.setattr(report_module, "_SECONDS_BETWEEN_LINES", 0.0)
    file = io.StringIO()
    report = Report(Console(file=file, force_terminal=terminal, width=160))
    report.expect({"teachers": 1.0, "distil": 1e9})
    with report.progress("teachers", 3, unit="epoch") as tick:
        for done in (1, 2, 3):
            tick(done, {"loss": 0.5})
    with report.progress("distil", 2, unit="step") as tick:
        tick(1, {})
    lines = file.getvalue()
    assert "for the job  loss 0.5" in lines
    if not terminal:  # There, what is shown first is overwritten at once.
        assert "for the job" not in lines.splitlines()[0]
    assert "for the job" not in lines[lines.rindex("distil") :]
