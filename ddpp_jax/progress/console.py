"""What a person sees while work goes on: a progress bar, plain lines, or nothing."""

import copy
import datetime
import io
import re
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeAlias

import jax
from rich.console import Console
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table
from rich.text import Text

from ddpp_jax import cluster
from ddpp_jax.errors import InputError
from ddpp_jax.progress.forecast import Forecast
from ddpp_jax.progress.tracking import Tracker, Watcher, require_tracker, watchers
from ddpp_jax.text import file_name, printable, warn

Tick: TypeAlias = Callable[[int, Mapping[str, float]], None]
"""`tick(done, values)`: how much is done by now, and the numbers to show beside it."""

_SECONDS_BETWEEN_LINES = 5.0
_TRACED_TICKS = 2
_WIDEST = 1000
"""Columns of a table at most."""

_CUT = "\N{HORIZONTAL ELLIPSIS}"
"""What Rich writes in place of what does not fit."""

_TOO_LONG = {"draw"}  # Units, each of which is a whole evaluation.


class Report:
    """Progress and results on a console: a live bar on a terminal, lines elsewhere, or silence."""

    def __init__(
        self,
        console: Console | None,
        *,
        traces: Path | None = None,
        command: str | None = None,
        track: Tracker = "none",
    ) -> None:
        """Report to a console, or to nobody.

        Args:
            console: where to; None for nobody.
            command: that is being run, for the folder of a run to say.
            track: a tracker that is told of runs, too.
            traces: folder for a trace of each stage that shows its progress, for XProf and
                TensorBoard; None makes none.

        Raises:
            InputError: that is a file, or the tracker's package is not installed.
            OSError: it may not be written to.
        """
        self._console, self._traces, self._tracing = console, traces, False
        self._command: str | None = command
        self._track: Tracker = track
        self._watchers: list[Watcher] = []
        self._forecast = Forecast({})
        require_tracker(track)
        if traces is not None:
            if traces.exists() and not traces.is_dir():
                raise InputError(f"--profile {traces} is a file; name a folder")
            traces.mkdir(parents=True, exist_ok=True)

    def say(self, text: str) -> None:
        """Show one line."""
        if self._console is not None:
            self._console.print(
                Text(printable(text)), markup=False, highlight=False, soft_wrap=True
            )

    def warn(self, text: str) -> None:
        """Show one line on stderr, even where nothing else is shown."""
        warn(text)

    def show(self, table: Table) -> None:
        """Show a table."""
        if self._console is None:
            return
        plain, own = _plain(table), self._console.width
        options = self._console.options.update(max_width=_WIDEST)
        size, tried = Measurement.get(self._console, options, plain), io.StringIO()
        Console(file=tried, width=own).print(plain)
        if size.minimum <= own and _CUT not in tried.getvalue():
            self._console.print(plain)
        else:  # Wider than the console, since Rich would leave figures out.
            Console(file=self._console.file, width=size.maximum).print(plain, crop=False)

    def expect(self, work: Mapping[str, float]) -> None:
        """From here on, show how long the whole of a job will still take.

        Args:
            work: how much each stage is that shows its progress, by name and in order, in any unit.
        """
        self._forecast = Forecast(work)

    @contextmanager
    def progress(self, name: str, total: int, *, unit: str, done: int = 0) -> Iterator[Tick]:
        """A stage of `total` units, of which `done` are behind it; call the tick as it goes on."""
        self._forecast.begin(name, total)
        with (
            self._shown(name, total, unit, done) as show,
            self._traced(name, unit, short=total - done < _TRACED_TICKS) as seen,
            self._watched(name, total, unit, done) as watch,
        ):

            def tick(now: int, values: Mapping[str, float]) -> None:
                nonlocal done
                done = now
                show(now, values)
                watch(now, values)
                seen()

            try:
                yield tick
            finally:
                self._forecast.end(name, done)

    @contextmanager
    def run(self, folder: Path, config: Mapping[str, Any]) -> Iterator[None]:
        """A run in its folder: its stages are noted there, and told to the tracker.

        Within another run it is part of that one; of a job's processes the leading one notes it.

        Args:
            folder: held by this process.
            config: the settings.
        """
        if self._watchers or not cluster.leads():
            yield
            return
        with watchers(folder, config, command=self._command, track=self._track) as told:
            self._watchers = told
            try:
                yield
            finally:
                self._watchers = []

    @contextmanager
    def _watched(self, name: str, total: int, unit: str, done: int) -> Iterator[Tick]:
        told = list(self._watchers)
        for watcher in told:
            watcher.begin(name, total, unit, done)

        def tick(now: int, values: Mapping[str, float]) -> None:
            for watcher in told:
                watcher.tick(name, now, values)

        try:
            yield tick
        finally:
            for watcher in told:
                watcher.end(name)

    @contextmanager
    def _shown(self, name: str, total: int, unit: str, done: int) -> Iterator[Tick]:
        name, unit = printable(name), printable(unit)
        if self._console is None:
            yield lambda _done, _values: None
        elif self._console.is_terminal:
            with Progress(
                TextColumn("{task.description}", markup=False),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                _Rate(unit),
                TimeElapsedColumn(),
                TextColumn("left"),
                TimeRemainingColumn(),
                TextColumn("{task.fields[whole]}{task.fields[numbers]}", markup=False),
                console=self._console,
            ) as bar:
                task = bar.add_task(name, total=total, completed=done, whole="", numbers="")

                def show(now: int, values: Mapping[str, float]) -> None:
                    whole = self._whole(name, now).removeprefix(", ")
                    numbers = ("  " if whole else "") + _numbers(values)
                    bar.update(task, completed=now, whole=whole, numbers=numbers)

                yield show
        else:
            yield self._lines(name, total, unit)

    @contextmanager
    def _traced(self, name: str, unit: str, *, short: bool) -> Iterator[Callable[[], None]]:
        """Trace what lies between some ticks; the first is passed over, since it compiles."""
        if self._traces is None or self._tracing or unit in _TOO_LONG:
            yield lambda: None
            return
        folder = self._traces / file_name(re.sub(r"[^\w.]+", "-", name.lower()).strip("-"))
        ticks = 0

        def turn(on: bool) -> None:
            if on and not self._tracing:
                jax.profiler.start_trace(folder)
            elif self._tracing and not on:
                jax.profiler.stop_trace()
                self.say(f"A trace of {name} is in {folder}; tensorboard --logdir shows it")
            self._tracing = on

        def seen() -> None:
            nonlocal ticks
            ticks += 1
            if ticks == 1:
                turn(True)
            elif ticks == 1 + _TRACED_TICKS:
                turn(False)

        try:
            if short:
                turn(True)
            yield seen
        finally:
            turn(False)

    def _lines(self, name: str, total: int, unit: str) -> Tick:
        last = time.monotonic()
        first: tuple[int, float] | None = None

        def tick(now: int, values: Mapping[str, float]) -> None:
            nonlocal last, first
            whole = self._whole(name, now)
            clock = time.monotonic()
            began, first = first, first or (now, clock)
            if now < total and clock - last < _SECONDS_BETWEEN_LINES:
                return
            last = clock
            pace = ""
            if began is not None and now > began[0]:  # Before the first tick lies compilation.
                rate = (now - began[0]) / max(clock - began[1], 1e-9)
                left = datetime.timedelta(seconds=round((total - now) / rate))
                pace = f", {rate:.3g} {unit}s/s, {left} left"
            self.say(f"{name}: {now}/{total} {unit}s{pace}{whole}  {_numbers(values)}")

        return tick

    def _whole(self, name: str, done: int) -> str:
        """What is left of the whole job, where the stage at work is not its last one."""
        left = self._forecast.left(name, done)
        return "" if left is None else f", {datetime.timedelta(seconds=round(left))} for the job"


class _Rate(ProgressColumn):
    """Units a second."""

    def __init__(self, unit: str) -> None:
        super().__init__()
        self._unit = unit

    def render(self, task: Task) -> Text:
        return Text("" if task.speed is None else f"{task.speed:.3g} {self._unit}s/s")


def _numbers(values: Mapping[str, float]) -> str:
    return "  ".join(f"{printable(name)} {value:.4g}" for name, value in values.items())


def _plain(table: Table) -> Table:
    """The table with its text as it stands: no markup, and nothing that a terminal obeys."""

    def shown(cell: Any) -> Any:
        if not isinstance(cell, str):
            return cell
        return Text("\n".join(printable(line) for line in cell.split("\n")))

    plain = copy.copy(table)
    plain.columns, plain.rows = [column.copy() for column in table.columns], []
    plain.title, plain.caption = shown(table.title), shown(table.caption)
    for column in plain.columns:
        column.header = shown(column.header)
    for cells in zip(*(column.cells for column in table.columns), strict=True):
        plain.add_row(*map(shown, cells))
    return plain
