"""Classes that arrive in steps: what the page of such a run shows beside what all pages have."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ddpp_jax.report import svg
from ddpp_jax.report.read import Frame, Run
from ddpp_jax.report.sheets import sheets
from ddpp_jax.results import tables
from ddpp_jax.sets import read_distilled, set_path

_MOST_IMAGES = 400
_MOST_PER_CLASS = 10


def steps_values(run: Run) -> dict[str, Any]:
    """The figures, the differences, the orders and the images of the first order's memories."""
    found = run.result.get("continual")
    names = run.result.get("class_names", [])
    if found is None:
        empty = dict.fromkeys(("rows", "comparisons", "orders", "memories", "columns", "keys"), ())
        return empty | {"steps_svg": "", "over": "", "diverged": ()}
    single = len(found["orders"]) == 1
    return {
        "keys": [
            (f"{name}, average accuracy, %", tables.figure_words(own["average"]))
            for name, own in list(found["methods"].items())[:4]
        ],
        "columns": [*(f"{count} classes" for count in found["seen"]), "average"],
        "rows": [
            (name, [tables.figure_words(one) for one in (*own["steps"], own["average"])])
            for name, own in found["methods"].items()
        ],
        "over": "the networks of the one order" if single else "the orders (sample deviation)",
        "diverged": [
            f"{row['method']}: {row['diverged']} networks diverged; lower the rate"
            for row in run.result["rows"]
            if row.get("diverged")
        ],
        "steps_svg": svg.steps(found),
        "comparisons": [tables.comparison_words(one) for one in found["comparisons"]],
        "orders": [
            [[names[label] for label in step] for step in order] for order in found["orders"]
        ],
        "memories": _memories(run.folder, found, names),
    }


def _memories(folder: Path, found: Mapping[str, Any], names: Sequence[str]) -> list[dict[str, Any]]:
    """The images of each method in memory after the last step of the first order."""
    order = found["orders"][0]
    arrived = [names[label] for step in order for label in step]
    most = max(1, min(_MOST_PER_CLASS, _MOST_IMAGES // len(arrived)))
    shown = []
    for name, part in found["folders"].items():
        places = [folder / f"{part}-order0-step{number + 1}" for number in range(len(order))]
        frame = _memory([set_path(place, "last") for place in places], most)
        if frame is not None:
            shown.append({"name": name, "sheet": sheets([frame]), "classes": arrived})
    return shown


def _memory(paths: Sequence[Path], most: int) -> Frame | None:
    """Some images of each class in turn; None where a set lies elsewhere, or lacks a class."""
    if not all(path.exists() for path in paths):
        return None
    pixels: list[np.ndarray] = []
    for small in map(read_distilled, paths):
        for label in range(len(small.class_names)):
            pixels.append(small.looks[small.hard_labels == label][:most])
    counts = [len(own) for own in pixels]
    if not all(counts):
        return None
    labels = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    return Frame(0, np.concatenate(pixels), labels)
