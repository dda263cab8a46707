"""Progress as lines, as a bar, and in silence."""

import io

import jax
import jax.numpy as jnp
import pytest
from rich.console import Console
from rich.table import Table

from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report
from ddpp_jax.progress import console as report_module


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


@pytest.mark.parametrize("total", [1, 5])
def test_a_trace_of_each_stage_holds_its_scopes(tmp_path, total):
    @jax.jit
    def work(x):
        with jax.named_scope("inner_part"):
            return jnp.sin(x) @ x

    report = Report(None, traces=tmp_path)
    for name in ("First, with a (name)", "second"):
        with report.progress(name, total, unit="step") as tick:
            for index in range(total):
                work(jnp.ones((50, 50))).block_until_ready()
                tick(index + 1, {})
    for folder in ("first-with-a-name", "second"):
        (file,) = (tmp_path / folder).rglob("*.xplane.pb")
        assert b"inner_part" in file.read_bytes()


def test_traces_within_one_another_are_the_outer_one(tmp_path):
    report = Report(None, traces=tmp_path)
    with report.progress("outer", 5, unit="step") as tick:
        for index in range(5):
            with report.progress("inner", 1, unit="step") as inner:
                inner(1, {})
            tick(index + 1, {})
    assert len(list((tmp_path / "outer").rglob("*.xplane.pb"))) == 1


def test_traces_cannot_go_into_a_file(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file is a file; name a folder"):
        Report(None, traces=tmp_path / "file")


def test_a_tick_that_is_told_twice_is_no_trouble(monkeypatch):
    monkeypatch.setattr(report_module, "_SECONDS_BETWEEN_LINES", 0.0)
    shown = io.StringIO()
    with Report(Console(file=shown)).progress("evaluate", 41, unit="epoch") as tick:
        tick(41, {})
        tick(41, {})
    assert "evaluate: 41/41 epochs" in shown.getvalue()


@pytest.mark.parametrize("width", [40, 70, 200])
def test_no_figure_of_a_table_is_cut(width):
    table, shown = Table(), io.StringIO()
    cells = ["0.84 (0.72 to 0.90)", "w32-d2-leaky-relu-average-instance", "98.6", "1,299"]
    for name in ("correlation", "network chosen", "test accuracy, %", "images"):
        table.add_column(name)
    table.add_row(*cells)
    Report(Console(file=shown, width=width)).show(table)
    for cell in cells[1:]:
        assert cell in shown.getvalue()
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown.getvalue()
