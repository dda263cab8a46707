"""`metrics.jsonl` and `progress.jsonl`: rows that are checked one by one, and counted."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ddpp_jax.errors import InputError
from ddpp_jax.storage import read_rows, require_kind
from ddpp_jax.text import warn

_MOST = 2**53
"""Above this a float does not hold every whole number."""

_MOST_SECONDS = 10**10


class _Before(TypedDict):
    """Of the row before the first step: what the rows are of, and how they are shown."""

    of: NotRequired[str | None]
    method: NotRequired[str]
    shows: NotRequired[dict[str, str]]


class _Start(TypedDict):
    time: str
    command: str | None
    device: str
    pid: NotRequired[int]


class _Stage(TypedDict):
    stage: str
    total: int
    unit: str
    done: int


class _Tick(TypedDict):
    stage: str
    done: int
    seconds: float
    values: dict[str, float | None]


class _End(TypedDict):
    stage: str
    done: int
    seconds: float
    memory_mib: int | None
    device_mib: int | None


class _Finish(TypedDict):
    seconds: float


class _Stop(TypedDict):
    seconds: float
    error: str


_EVENTS: Mapping[str, Any] = {
    "start": _Start,
    "stage": _Stage,
    "tick": _Tick,
    "end": _End,
    "finish": _Finish,
    "stop": _Stop,
}


def read_metrics(
    path: Path,
    *,
    of: str | None = None,
    steps: int | None = None,
    warn_fn: Callable[[str], None] = warn,
) -> list[dict[str, Any]]:
    """The rows of a distillation's `metrics.jsonl` that are whole, in the order of their steps.

    Damage costs the rows that it hit, and a warning.

    Args:
        path: of the file; where there is none, there are no rows.
        of: which distillation they must be of, as a digest; None does not ask.
        steps: how many steps there must be; later ones are left out. None takes what is there.
        warn_fn: told, in one line, of rows that are damaged or missing.

    Raises:
        InputError: it is of another distillation.
        OSError: it cannot be read.
    """
    if not path.exists():
        return []
    damaged: dict[int, str] = {}
    rows: list[dict[str, Any]] = []
    first: Mapping[str, Any] | None = None
    for number, row in _numbered(path, damaged):
        try:
            _check_metrics(row, rows[-1]["step"] if rows else -1, first)
        except ValueError as error:
            damaged[number] = str(error)
            continue
        first = row if first is None and row["step"] else first
        if steps is None or row["step"] <= steps:
            rows.append(row)
    theirs = rows[0].get("of") if rows else None
    if None not in (of, theirs) and theirs != of:
        raise InputError(f"{path} is of another distillation; delete it, and do without its rows")
    last = steps if steps is not None else (rows[-1]["step"] if rows else -1)
    _tell(path, damaged, last + 1 - len(rows), warn_fn)
    return rows


def read_progress(path: Path, *, warn_fn: Callable[[str], None] = warn) -> list[dict[str, Any]]:
    """The rows of a run's `progress.jsonl` that are whole.

    Damage costs the rows that it hit, and a warning.

    Args:
        path: of the file; where there is none, there are no rows.
        warn_fn: told, in one line, of rows that are damaged or missing.

    Raises:
        OSError: it cannot be read.
    """
    if not path.exists():
        return []
    damaged: dict[int, str] = {}
    rows: list[dict[str, Any]] = []
    for number, row in _numbered(path, damaged):
        try:
            _check_progress(row, rows[-1]["row"] if rows else 0)
        except ValueError as error:
            damaged[number] = str(error)
            continue
        rows.append(row)
    _tell(path, damaged, (rows[-1]["row"] if rows else 0) - len(rows), warn_fn)
    return rows


def _numbered(path: Path, damaged: dict[int, str]) -> Iterable[tuple[int, dict[str, Any]]]:
    """Each whole row with its line; those that are not whole are noted."""
    rows = read_rows(path, damaged.__setitem__)
    bad = set(damaged)
    numbers = (number for number in range(1, len(rows) + len(bad) + 1) if number not in bad)
    return zip(numbers, rows, strict=True)


def _check_metrics(row: Mapping[str, Any], before: int, first: Mapping[str, Any] | None) -> None:
    """Refuse a row that does not follow the one before it, or has other metrics than the first."""
    if not isinstance(row.get("step"), int) or not before < row["step"] < _MOST:
        raise ValueError("its step does not follow that of the row before it")
    if row["step"] == 0:
        require_kind(row, _Before)
        return
    numbers = {name: value for name, value in row.items() if name != "step"}
    for name, value in numbers.items():
        inner = value.values() if isinstance(value, Mapping) else (value,)
        if not all(entry is None or isinstance(entry, int | float) for entry in inner):
            raise ValueError(f"its {name} is no number")
        if any(isinstance(entry, int) and not 0 <= entry < _MOST for entry in inner):
            raise ValueError(f"its {name} is out of range")
        if value is None and not row.get("skipped"):
            raise ValueError(f"its {name} is null, but it was not skipped")
    if first is None:
        return
    for name, value in first.items():
        # Truth values are there where they hold, evaluations now and then.
        if isinstance(value, bool) or "accuracy" in name:
            continue
        if name not in row or isinstance(value, Mapping) != isinstance(row[name], Mapping):
            raise ValueError(f"it has no {name} as the rows before it")
        if isinstance(value, Mapping) and set(value) != set(row[name]):
            raise ValueError(f"its {name} has other names than the rows before it")


def _check_progress(row: Mapping[str, Any], before: int) -> None:
    if not isinstance(row.get("row"), int) or not before < row["row"] < _MOST:
        raise ValueError("its number does not follow that of the row before it")
    kind = _EVENTS.get(row["event"]) if isinstance(row.get("event"), str) else None
    if kind is None:
        raise ValueError(f"its event is none of {', '.join(_EVENTS)}")
    require_kind(row, kind)
    counts = (row.get(name) or 0 for name in ("total", "done", "memory_mib", "device_mib"))
    if not all(0 <= count < _MOST for count in counts):
        raise ValueError("a count in it is out of range")
    if not 0 <= row.get("seconds", 0) < _MOST_SECONDS:
        raise ValueError("its seconds are out of range")


def _tell(
    path: Path, damaged: Mapping[int, str], missing: int, warn_fn: Callable[[str], None]
) -> None:
    said: Sequence[str] = []
    if damaged:
        number, reason = min(damaged.items())
        more = len(damaged) - 1
        others = f", and so {'are' if more > 1 else 'is'} {more} more" if more else ""
        said = [f"line {number} is damaged ({reason}){others}"]
    if missing > 0:
        said = [*said, f"{missing} row{'s are' if missing > 1 else ' is'} missing"]
    if said:
        warn_fn(f"{path}: {'; '.join(said)}; what is shown lacks what they held")
