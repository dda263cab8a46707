"""Which of a distillation's sets are kept: the last, and those that were best when evaluated."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report
from ddpp_jax.sets import iterate_path, read_distilled

CHOSEN_BY = {"held-out": "held_out_accuracy", "max-test": "accuracy"}
"""Of each iterate but the last, the quantity of `metrics.jsonl` that is largest there."""


class Best:
    """Keeps the sets that were best so far, each in its file."""

    def __init__(self, folder: Path, rows: Iterable[Mapping[str, Any]], report: Report) -> None:
        """Begin after an earlier process, whose best sets lie in the folder.

        Args:
            folder: of the distillation.
            rows: of the earlier process, which tell whether a set was lost.
            report: told of those.
        """
        self._folder = folder
        self._best = dict.fromkeys(CHOSEN_BY, -math.inf)
        rows = list(rows)
        for iterate, quantity in CHOSEN_BY.items():
            path = iterate_path(folder, iterate)
            try:
                self._best[iterate] = float(read_distilled(path).origin["value"])
            except (InputError, KeyError):
                if any(quantity in row for row in rows):
                    report.warn(f"{path} is lost; the best set from here on takes its place")

    def saw(self, values: Mapping[str, float], write: Callable[[Path, str, float], None]) -> None:
        """Keep the set that these values belong to, where it is better than all before.

        Args:
            values: what the evaluation found, by quantity.
            write: `write(path, iterate, value)` keeps the set in a file, and the value in its
                origin.
        """
        for iterate, quantity in CHOSEN_BY.items():
            value = values.get(quantity, -math.inf)
            if value > self._best[iterate]:
                write(iterate_path(self._folder, iterate), iterate, value)
                self._best[iterate] = value
