"""Progress as lines, as a bar, and in silence."""

import io

from rich.console import Console

from ddpp_jax import report as report_module
from ddpp_jax.report import Report


def run(console):
    report = Report(console)
    report.say("hello [there]")
    with report.progress("distil", 4, unit="step", done=1) as tick:
        for done in (2, 3, 4):
            tick(done, {"loss": 0.5})


def test_lines_where_there_is_no_terminal(monkeypatch):
    monkeypatch.setattr(report_module, "_SECONDS_BETWEEN_LINES", 0.0)
    file = io.StringIO()
    run(Console(file=file, force_terminal=False))
    lines = file.getvalue().splitlines()
    assert lines[0] == "hello [there]"
    assert lines[1] == "distil: 2/4 steps  loss 0.5"
    assert lines[2].startswith("distil: 3/4 steps, ")
    assert "steps/s" in lines[2]
    assert "left  loss 0.5" in lines[2]
    assert len(lines) == 4


def test_few_lines_where_work_is_fast():
    file = io.StringIO()
    run(Console(file=file, force_terminal=False))
    assert [line[:10] for line in file.getvalue().splitlines()[1:]] == ["distil: 4/"]


def test_bar_on_a_terminal():
    file = io.StringIO()
    run(Console(file=file, force_terminal=True, width=140))
    assert "4/4" in file.getvalue()
    assert "loss 0.5" in file.getvalue()


def test_silence():
    run(None)
