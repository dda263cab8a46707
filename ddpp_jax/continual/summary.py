"""Accuracies after each step as curves, averages and paired differences."""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.table import Table

from ddpp_jax.results import paired_difference, spread, tables

AVERAGE, FINAL = "average accuracy over the steps", "accuracy after the last step"

Accuracies = Float[np.ndarray, "orders steps networks"]


def summarise(found: Mapping[str, Accuracies]) -> dict[str, Any]:
    """Curves, averages and paired differences of some methods, as plain values.

    Args:
        found: by method, the accuracy of each network from 0 to 1, tested on the classes seen.

    Returns:
        `methods`, each with `steps`, a figure after each step, and `average`, that of the means
        over the steps; and `comparisons`, each method less each before it, paired by order, where
        there are several orders. A figure has the `mean`; `over_orders`, the sample deviation of
        the orders' means, and its standard `error`, None for a single order; `over_networks`, the
        population deviation over the networks of an order, mean over the orders; and `std`, that
        over all networks of all orders, as published tables have it.
    """
    methods = {
        name: {
            "accuracies": every.tolist(),
            "steps": [_figure(every[:, step]) for step in range(every.shape[1])],
            "average": _figure(every.mean(axis=1, dtype=np.float64)),
        }
        for name, every in found.items()
    }
    return {"methods": methods, "comparisons": _comparisons(found)}


def _figure(accuracies: Float[np.ndarray, "orders networks"]) -> dict[str, Any]:
    own = spread(list(accuracies))
    return {
        "mean": own.mean,
        "over_orders": None if math.isnan(own.over_seeds) else own.over_seeds,
        "error": None if math.isnan(own.error) else own.error,
        "over_networks": own.over_networks,
        "std": float(np.std(accuracies, dtype=np.float64)),
    }


def _comparisons(found: Mapping[str, Accuracies]) -> list[dict[str, Any]]:
    """In the form of `results.tables.comparison_words`."""
    lines: list[dict[str, Any]] = []
    for quantity in (AVERAGE, FINAL):
        for less, name in itertools.combinations(found, 2):
            figures, others = (
                (every.mean(axis=1) if quantity == AVERAGE else every[:, -1]).mean(
                    axis=1, dtype=np.float64
                )
                for every in (found[name], found[less])
            )
            if len(figures) < 2:
                continue
            difference = paired_difference(figures, others)
            about = {"method": name, "less": less, "quantity": quantity, "paired_over": "orders"}
            about |= dict.fromkeys(("which", "architecture", "ipc"))
            lines.append(about | difference._asdict() | {"stands": difference.stands})
    return lines


def summary_table(summary: Mapping[str, Any], seen: Sequence[int]) -> Table:
    """What `summarise` found, for a person.

    Args:
        summary: of the methods.
        seen: how many classes are seen after each step.
    """
    shown = Table(title="Accuracy over the classes seen, %", title_justify="left")
    shown.add_column("classes seen", justify="right")
    curves = summary["methods"]
    for name in curves:
        shown.add_column(name, justify="right", overflow="fold", min_width=12)
    for place, count in enumerate(seen):
        figures = (curve["steps"][place] for curve in curves.values())
        shown.add_row(str(count), *map(tables.figure_words, figures))
    shown.add_section()
    averages = (curve["average"] for curve in curves.values())
    shown.add_row("average", *map(tables.figure_words, averages))
    one = all(curve["average"]["over_orders"] is None for curve in summary["methods"].values())
    over = "networks of the one order" if one else "orders (sample deviation)"
    shown.caption = f"± over {over}; average: of the means over the steps"
    return shown
