"""Accuracies as rows of a result file, and as a table on the screen."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.table import Table


def row(
    method: str, images: int, accuracies: Sequence[Float[np.ndarray, " networks"]]
) -> dict[str, Any]:
    """A row of `result.json`: mean and population standard deviation over all networks.

    Args:
        method: what the networks were trained on.
        images: how many images that is.
        accuracies: from 0 to 1, one array for each set of images that was judged.
    """
    together = np.concatenate(list(accuracies)).astype(np.float64)
    return {
        "method": method,
        "images": images,
        "sets": len(accuracies),
        "networks": together.size,
        "mean": float(together.mean()),
        "std": float(together.std()),
        "set_means": [float(found.mean(dtype=np.float64)) for found in accuracies],
        "accuracies": together.tolist(),
    }


def table(result: dict[str, Any]) -> Table:
    """The rows of a result file for a person; what the deviation is over stands in each row."""
    per_class = f", {result['ipc']} per class" if "ipc" in result else ""
    title = f"{result['dataset']}{per_class}, seed {result['seed']}"
    shown = Table(title=title, title_justify="left")
    shown.add_column("trained on")
    shown.add_column("images", justify="right")
    shown.add_column("test accuracy, %", justify="right")
    shown.add_column("± over")
    for values in result["rows"]:
        over = f"{values['networks']} networks"
        if values["sets"] > 1:
            over += f" on {values['sets']} sets"
        accuracy = f"{100 * values['mean']:.1f} ± {100 * values['std']:.1f}"
        shown.add_row(values["method"], f"{values['images']:,}", accuracy, over)
    return shown
