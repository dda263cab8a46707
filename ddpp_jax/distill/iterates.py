"""Which of a distillation's sets are kept: the last, and those that were best when evaluated."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ddpp_jax.report import Report

CHOSEN_BY = {"held-out": "held_out_accuracy", "max-test": "accuracy"}
"""Of each iterate but the last, the quantity of `metrics.jsonl` that is largest there."""


def iterate_path(folder: Path, iterate: str) -> Path:
    """The file of one of a distillation's sets.

    Args:
        folder: of the distillation.
        iterate: `last`, `held-out` or `max-test`.
    """
    name = "distilled" if iterate == "last" else f"distilled-{iterate}"
    return folder / f"{name}.safetensors"


class Best:
    """Keeps the sets that were best so far, each in its file."""

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]], report: Report) -> None:
        """Begin after the rows of an earlier process."""
        self._folder = folder
        self._best = dict.fromkeys(CHOSEN_BY, -math.inf)
        for row in rows:
            self._note(row)
        for iterate, value in self._best.items():
            path = iterate_path(folder, iterate)
            if value > -math.inf and not path.exists():
                report.warn(f"{path} is missing; the best set from here on takes its place")
                self._best[iterate] = -math.inf

    def saw(self, values: Mapping[str, float], write: Callable[[Path, str], None]) -> None:
        """Keep the set that these values belong to, where it is better than all before.

        Args:
            values: what the evaluation found, by quantity.
            write: `write(path, iterate)` keeps the set in a file.
        """
        for iterate in self._note(values):
            write(iterate_path(self._folder, iterate), iterate)

    def _note(self, values: Mapping[str, Any]) -> list[str]:
        better = [
            iterate
            for iterate, quantity in CHOSEN_BY.items()
            if values.get(quantity, -math.inf) > self._best[iterate]
        ]
        self._best |= {iterate: values[CHOSEN_BY[iterate]] for iterate in better}
        return better
