"""The rows of `metrics.jsonl`, and what they say of a run's health."""

import math
from collections.abc import Iterable, Mapping
from typing import Any

import jax
import numpy as np

from ddpp_jax.distill.steps import Info
from ddpp_jax.errors import InputError
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report
from ddpp_jax.storage import Plan

LEAST_KEPT = 0.5
"""A share of kept parameters below this is warned of."""

MOST_SKIPPED = 10
"""So many skipped steps in a row end the run."""

_GOOD_STEPS_SHOWN = 3


def rows_of(
    info: Info, first: int, count: int, plan: Plan, done: int, network: Network
) -> list[dict[str, Any]]:
    """A row for each step; JSON has no NaN and no infinity, so these become null.

    Args:
        info: of one call, a row for each of its steps.
        first: the number of its first step, from 0.
        count: how many steps it made.
        plan: of all steps after the first `done`.
        done: how many those are.
        network: names the tensors.
    """
    host: Info = jax.device_get(info)
    rows = []
    for index in range(count):
        match = {n: _plain(values[index]) for n, values in host.match._asdict().items()}
        layers = dict(zip(network.names, match.pop("kept_by_layer"), strict=True))
        place = first + index - done
        row = {
            "step": first + index + 1,
            **match,
            "alpha": float(host.alpha[index]),
            "teacher": int(plan.teachers[place]),
            "start_epoch": int(plan.epochs[place]),
        }
        row |= {n: True for n in ("skipped", "alpha_held") if getattr(host, n)[index]}
        rows.append(row | {"kept_by_layer": layers})
    return rows


def _plain(value: np.ndarray | np.generic) -> Any:
    if isinstance(value, np.ndarray) and value.ndim:
        return [_plain(entry) for entry in value]
    return float(value) if np.isfinite(value) else None


class Watch:
    """What the rows say of the run's health, and how long its steps take."""

    def __init__(self, rows: Iterable[Mapping[str, Any]], report: Report) -> None:
        """Begin after the rows of an earlier process."""
        self.seconds, self.pace = 0.0, math.inf
        self.shown: dict[str, float] = {}
        self._report, self._warned = report, set[str]()
        self._in_a_row, self._good = 0, list[Mapping[str, Any]]()
        for row in rows:
            if "loss" in row:
                self._count(row)

    def took(self, seconds: float, count: int) -> None:
        """Note the time of a call."""
        self.seconds += seconds
        self.pace = seconds / count

    def saw(self, row: Mapping[str, Any]) -> None:
        """Look at a step; warn once of each kind of trouble, and stop where it does not end."""
        self._count(row)
        step = row["step"]
        if row.get("skipped"):
            self._warn("skipped", f"step {step} is skipped: its loss or gradient is not finite")
        else:
            self.shown = {n: row[n] for n in ("loss", "kept_fraction", "alpha")}
            if row["kept_fraction"] < LEAST_KEPT:
                self._warn(
                    "kept",
                    f"step {step} keeps {row['kept_fraction']:.3g} of the parameters, less than "
                    f"{LEAST_KEPT:g}: pruning too many makes training crash; lower --threshold",
                )
        if row.get("alpha_held"):
            self._warn(
                "alpha", f"alpha is held above 0 at step {step}; --alpha-rate may be too high"
            )
        if self._in_a_row >= MOST_SKIPPED:
            last = "; ".join(
                f"step {good['step']}: loss {good['loss']:.4g}, alpha {good['alpha']:.4g}, "
                f"kept {good['kept_fraction']:.4g}"
                for good in self._good
            )
            raise InputError(
                f"the {MOST_SKIPPED} steps up to {step} were all skipped: loss or gradient not "
                f"finite; last good ones: {last or 'none'}; lower --pixel-rate, --alpha-rate or "
                "--alpha, or the --threshold where little is kept"
            )

    def require_progress(self) -> None:
        """Refuse a run of which no step changed anything: its images are real ones.

        Raises:
            InputError: all of its steps were skipped.
        """
        if self._in_a_row and not self._good:
            raise InputError(
                f"all {self._in_a_row} steps were skipped, since loss or gradient were not finite, "
                "and nothing was learnt; lower --pixel-rate, --alpha-rate or --alpha"
            )

    def _count(self, row: Mapping[str, Any]) -> None:
        if row.get("skipped"):
            self._in_a_row += 1
        else:
            self._in_a_row = 0
            self._good = [*self._good, row][-_GOOD_STEPS_SHOWN:]

    def _warn(self, kind: str, line: str) -> None:
        if kind not in self._warned:
            self._warned.add(kind)
            self._report.warn(line)
