"""Accuracies as rows of a result file, and tables on the screen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float
from rich.table import Table

from ddpp_jax.configs import DistillJob


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
    shown.add_column("trained on", overflow="fold")
    shown.add_column("images", justify="right")
    shown.add_column("test accuracy, %", justify="right")
    shown.add_column("± over")
    for values in result["rows"]:
        over = f"{values['networks']} network" + ("s" if values["networks"] > 1 else "")
        if values["sets"] > 1:
            over += f" on {values['sets']} sets"
        accuracy = f"{100 * values['mean']:.1f} ± {100 * values['std']:.1f}"
        shown.add_row(values["method"], f"{values['images']:,}", accuracy, over)
    return shown


def settings_table(settings: Mapping[str, DistillJob]) -> Table:
    """Named settings, a row each."""
    shown = Table(title="Named settings; flags vary them, --print-settings shows one in full")
    left = ("setting", "data", "ConvNet", "teachers")
    right = ("IPC", "J", "K", "I+", "steps", "pixel rate", "alpha", "its rate")
    for column in left + right:
        shown.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    for name, job in settings.items():
        data, distillation = job.data, job.distillation
        numbers = (
            distillation.ipc,
            distillation.student_steps,
            distillation.target_epochs,
            distillation.max_start_epoch,
            distillation.steps,
            distillation.pixel_rate,
            distillation.alpha,
            distillation.alpha_rate,
        )
        shown.add_row(
            name,
            data.dataset + (", ZCA" if data.zca else ""),
            f"{job.model.width}x{job.model.depth}",
            f"{job.teaching.teachers} x {job.teaching.epochs}",
            *(f"{number:g}" for number in numbers),
        )
    shown.caption = "ConvNet: width x depth; teachers: networks x epochs"
    return shown
