"""The rows of `metrics.jsonl`, and what they say of a distillation's health."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax
import numpy as np

from ddpp_jax.errors import InputError
from ddpp_jax.methods import Info, Method

MOST_SKIPPED = 10
"""So many skipped steps in a row end a distillation."""

_GOOD_STEPS_SHOWN = 3


def rows_of(info: Info, first: int, count: int) -> list[dict[str, Any]]:
    """A row for each step; JSON has no NaN and no infinity, so these become null.

    Truth values are left out where they are False.

    Args:
        info: of one call, a row for each of its steps.
        first: the number of its first step, from 0.
        count: how many steps it made.
    """
    host: Info = jax.device_get(info)
    rows = []
    for index in range(count):
        row = {name: _plain(values, index) for name, values in host.metrics.items()}
        row = {"step": first + index + 1} | {n: v for n, v in row.items() if v is not False}
        rows.append(row | ({"skipped": True} if host.skipped[index] else {}))
    return rows


def _plain(values: Any, index: int) -> Any:
    if isinstance(values, Mapping):
        return {name: _plain(inner, index) for name, inner in values.items()}
    value = values[index].item()
    return value if isinstance(value, bool) or np.isfinite(value) else None


class Health:
    """Warns of trouble that the rows tell of, once of each kind, and ends what is past help."""

    def __init__(
        self, method: Method, rows: Iterable[Mapping[str, Any]], warn_fn: Callable[[str], None]
    ) -> None:
        """Begin after the rows of an earlier process.

        Args:
            method: says which metrics mean trouble.
            rows: of the earlier process.
            warn_fn: told of trouble.
        """
        self._method, self._warn_fn = method, warn_fn
        self._warned = set[str]()
        self._in_a_row, self._good = 0, list[Mapping[str, Any]]()
        self._moved = 0  # Steps that changed something.
        for row in rows:
            if row["step"]:
                self._count(row)

    def record(self, row: Mapping[str, Any]) -> None:
        """Take in a step.

        Raises:
            InputError: it is the last of `MOST_SKIPPED` skipped steps in a row.
        """
        self._count(row)
        step = row["step"]
        if row.get("skipped"):
            self._warn("skipped", f"step {step} is skipped: its loss or gradient is not finite")
        for metric in self._method.metrics:
            value = row.get(metric.name)
            if metric.troubles(value) and not row.get("skipped"):
                self._warn(metric.name, metric.warning.format(step=step, value=value))
        if self._in_a_row >= MOST_SKIPPED:
            raise InputError(
                f"the {MOST_SKIPPED} steps up to {step} were all skipped: loss or gradient not "
                f"finite; last good ones: {self._last_good() or 'none'}; {self._method.advice}"
            )

    def require_progress(self) -> None:
        """Refuse a distillation of which no step changed anything: its images are real ones.

        Raises:
            InputError: all of its steps were skipped, or passed over.
        """
        if self._good and self._moved == 0:
            raise InputError(
                "every step had a loss above --skip-above and changed nothing; raise it"
            )
        if self._in_a_row and not self._good:
            raise InputError(
                f"all {self._in_a_row} steps were skipped, since loss or gradient were not finite, "
                f"and nothing was learnt; {self._method.advice}"
            )

    def _last_good(self) -> str:
        names = [metric.name for metric in self._method.metrics]
        return "; ".join(
            f"step {row['step']}: "
            + ", ".join(f"{name} {row[name]:.4g}" for name in names if name in row)
            for row in self._good
        )

    def _count(self, row: Mapping[str, Any]) -> None:
        if row.get("skipped"):
            self._in_a_row += 1
        else:
            self._in_a_row = 0
            self._moved += not row.get("passed_over", False)
            self._good = [*self._good, row][-_GOOD_STEPS_SHOWN:]

    def _warn(self, kind: str, line: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._warn_fn(line)


def troubles(method: Method, rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    """How many steps were skipped, and how many were in each kind of trouble."""
    steps = [row for row in rows if row["step"]]
    good = [row for row in steps if "skipped" not in row]
    counts = {
        metric.name: sum(metric.troubles(row.get(metric.name)) for row in good)
        for metric in method.metrics
        if metric.counted
    }
    return {"skipped": len(steps) - len(good), **counts}
