"""`python -m ddpp_jax.report`: pages of runs, and runs followed from another terminal."""

import itertools
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import tyro
from rich.console import Console

from ddpp_jax.cli.flags import run_alone
from ddpp_jax.errors import InputError
from ddpp_jax.progress import PROGRESS, Report, read_progress
from ddpp_jax.report import REPORT, is_comparison, write_comparison, write_report
from ddpp_jax.storage import is_held

_SECONDS_BETWEEN_LOOKS = 0.5


def run_report(folders: Sequence[Path], out: Path | None, report: Report) -> None:
    """Write the page of each run anew, and of several a page that compares them.

    Args:
        folders: of the runs, finished or not.
        out: file of the comparison; None takes comparison.html beside the first run.
        report: told where the pages are.

    Raises:
        InputError: one is no run folder, the file is there and no such page, or it was asked for
            with one run alone.
    """
    if len({folder.resolve() for folder in folders}) < len(folders):
        raise InputError("a run is named twice; name each once")
    if out is not None and len(folders) == 1:
        raise InputError("--out is for the comparison of several runs; got one run")
    path = out or _beside(folders[0])
    if len(folders) > 1 and (path.is_dir() or (path.exists() and not is_comparison(path))):
        raise InputError(f"{path} is there and is no comparison of runs; choose another --out")
    for folder in folders:
        report.say(f"{write_report(folder, warn_fn=report.warn)}")
    if len(folders) > 1:
        # What is damaged was said above.
        report.say(f"{write_comparison(path, folders, lambda _: None)}")


def _beside(folder: Path) -> Path:
    above = folder.parent if folder.name not in ("", "..") else folder.resolve().parent
    return above / "comparison.html"


def follow(folder: Path, report: Report) -> None:
    """Show the progress of a run that another process works on, until it is over.

    Raises:
        InputError: there is no such folder, or no process has worked in it.
    """
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder}; name the folder of a run that was begun")
    if not (folder / PROGRESS).exists() and not is_held(folder):
        raise InputError(f"no process works in {folder}, and it has no {PROGRESS}")
    events = _events(folder, report)
    event = {"event": ""}
    for event in events:
        if event["event"] == "start":
            report.say(f"{event['time']}: {event['command'] or 'a run'}, on {event['device']}")
        elif event["event"] == "stage":
            event = _show_stage(event, events, report)
        elif event["event"] == "stop":
            report.say(f"stopped: {event['error']}")
        elif event["event"] == "finish":
            shown = folder / REPORT
            where = f"; {shown} shows it" if shown.exists() else ""
            report.say(f"finished after {event['seconds']:.1f} s{where}")
    if event["event"] != "finish":
        report.say(f"no process works in {folder} now; its command goes on with it")


def _show_stage(
    stage: dict[str, Any], events: Iterator[dict[str, Any]], report: Report
) -> dict[str, Any]:
    """Show a stage to its end; the last of its rows."""
    name, total, unit, done = (stage[n] for n in ("stage", "total", "unit", "done"))
    event = stage
    with report.progress(name, total, unit=unit, done=done) as tick:
        for event in events:
            if event["event"] != "tick":
                break
            values = {n: float("nan") if v is None else v for n, v in event["values"].items()}
            tick(event["done"], values)
    return event


def _events(folder: Path, report: Report) -> Iterator[dict[str, Any]]:
    """The rows of the last process, as they come; ends with it."""
    path, told = folder / PROGRESS, set[str]()

    def warn(line: str) -> None:
        if line not in told:
            told.add(line)
            report.warn(line)

    rows = read_progress(path, warn_fn=warn)
    starts = [row["row"] for row in rows if row["event"] == "start"]
    seen = starts[-1] - 1 if starts else 0
    while True:
        # Asked first: what is written before the lock is let go of is then surely read.
        held = is_held(folder)
        rows = read_progress(path, warn_fn=warn)
        yield from _collapsed([row for row in rows if row["row"] > seen])
        seen = max(seen, rows[-1]["row"] if rows else 0)
        if not held or (rows and rows[-1]["event"] in ("finish", "stop")):
            return
        time.sleep(_SECONDS_BETWEEN_LOOKS)


def _collapsed(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Rows that were read at once: of ticks in a row the last, and a stage begins where that is."""
    found: list[dict[str, Any]] = []
    for row in rows:
        if row["event"] == "tick" and found and found[-1]["event"] == "tick":
            found.pop()
        found.append(row)
    for row, after in itertools.pairwise(found):
        if (row["event"], after["event"]) == ("stage", "tick"):
            row["done"] = after["done"]
    return found


@dataclass(frozen=True, kw_only=True)
class _Pages:
    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Run folders, finished or not."""

    out: Path | None = None
    """File for the comparison of several; by default comparison.html beside the first run."""

    follow: Path | None = None
    """A run folder in which another process works: show its progress until it ends."""

    quiet: bool = False
    """Show nothing but warnings and errors."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Pages of runs: `python -m ddpp_jax.report RUN ...`."""

    def work(command: _Pages) -> None:
        if bool(command.runs) == (command.follow is not None):
            raise InputError("name one or more run folders, or one after --follow")
        shown = Report(None if command.quiet else Console())
        if command.follow is not None:
            follow(command.follow, shown)
        else:
            run_report(command.runs, command.out, shown)

    about = "Write report.html of runs from their files, compare several, or follow one."
    run_alone("report", about, arguments, _Pages(), work)
