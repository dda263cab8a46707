"""Which of a distillation's sets are kept: the last, and those that were best when evaluated."""

import math
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

from ddpp_jax.errors import InputError
from ddpp_jax.sets import read_distilled, set_path

CHOSEN_BY = {"best-held-out": "held_out_accuracy", "best-test": "accuracy"}
"""For each set but the last, the quantity of `metrics.jsonl` that is largest there."""


class Best:
    """Keeps the sets that were best so far, each in its file."""

    def __init__(
        self, folder: Path, rows: Iterable[Mapping[str, Any]], warn_fn: Callable[[str], None]
    ) -> None:
        """Begin after an earlier process, whose best sets lie in the folder.

        Args:
            folder: of the distillation.
            rows: of the earlier process, which tell whether a set was lost.
            warn_fn: told of those.
        """
        self._folder = folder
        self._best = dict.fromkeys(CHOSEN_BY, -math.inf)
        rows = list(rows)
        for which, quantity in CHOSEN_BY.items():
            path = set_path(folder, which)
            try:
                self._best[which] = float(read_distilled(path).origin["value"])
            except (InputError, KeyError):
                if any(quantity in row for row in rows):
                    warn_fn(f"{path} is lost; the best set from here on takes its place")

    def record(self, values: Mapping[str, float], write: Callable[[str, float], None]) -> None:
        """Keep the set that these values belong to, where it is better than all before.

        Args:
            values: what the evaluation found, by quantity.
            write: `write(which, value)` keeps the set in its file, and the value in its origin.
        """
        for which, quantity in CHOSEN_BY.items():
            value = values.get(quantity, -math.inf)
            if value > self._best[which]:
                write(which, value)
                self._best[which] = value
