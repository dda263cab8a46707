"""The pictures in a run's folder, drawn from its files."""

import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure

from ddpp_jax.report.drawings import (
    Rows,
    as_words,
    class_words,
    curves_of,
    draw_accuracies,
    draw_confusion,
    draw_curve,
    draw_image,
    draw_steps,
    draw_sweep,
    draw_trials,
    drawing,
)
from ddpp_jax.report.searches import draw_proxy
from ddpp_jax.sets import DistilledSet, shown_range
from ddpp_jax.storage import Replacement

MOST_PER_CLASS = 10
_CELLS_IN_A_ROW = 10
_DOTS_PER_INCH = 150
_LETTERS_AN_INCH = 12


def shown_pixels(distilled: DistilledSet) -> Float[np.ndarray, "images height width channels"]:
    """The images as they can be looked at, normalisation or whitening undone, from 0 to 1.

    What is drawn black and white is chosen for the whole set (`results.shown_range`); the rest is
    cut.
    """
    low, high = shown_range(distilled.looks)
    return np.clip((distilled.looks - low) / (high - low), 0, 1)


def needs_less_contrast(distilled: DistilledSet) -> bool:
    """Whether `shown_pixels` lowers the contrast."""
    return shown_range(distilled.looks) != (0.0, 1.0)


def save_grid(path: Path, distilled: DistilledSet, *, title: str) -> None:
    """Draw the distilled images, each labelled with its class.

    One image per class flows from left to right; with more, each class has a row of its own and at
    most `MOST_PER_CLASS` images of it are shown.

    Args:
        path: the picture's file.
        distilled: the set.
        title: stands over the grid.
    """
    images, labels = shown_pixels(distilled), distilled.hard_labels
    names = distilled.class_names
    by_class = [np.flatnonzero(labels == label) for label in range(len(names))]
    ipc = max(len(members) for members in by_class)
    columns = min(ipc, MOST_PER_CLASS) if ipc > 1 else min(len(names), _CELLS_IN_A_ROW)
    rows = len(names) if ipc > 1 else -(-len(names) // columns)
    shown = "" if ipc <= MOST_PER_CLASS else f", {MOST_PER_CLASS} of {ipc} per class"
    shown += ", contrast lowered" if needs_less_contrast(distilled) else ""
    figure = Figure(figsize=(max(1.0 * columns + 0.8, 4), 1.12 * rows + 0.6), layout="constrained")
    letters = int(_LETTERS_AN_INCH * figure.get_figwidth())
    figure.suptitle(textwrap.fill(as_words(title + shown), letters), fontsize=10)
    axes = figure.subplots(rows, columns, squeeze=False)
    for ax in axes.flat:
        ax.set_axis_off()
    for label, members in enumerate(by_class):
        for place, index in enumerate(members[:MOST_PER_CLASS]):
            ax = axes[label, place] if ipc > 1 else axes.flat[label]
            ax.set_axis_on()
            draw_image(ax, images[index])
            if ipc == 1:
                ax.set_title(class_words(names[label]), fontsize=9)
            elif place == 0:
                ax.set_ylabel(
                    class_words(names[label]), fontsize=9, rotation=0, ha="right", va="center"
                )
    _save(figure, path)


def save_curves(path: Path, runs: Mapping[str, Rows], *, title: str) -> None:
    """Draw every metric and the accuracies over the distillation steps.

    Args:
        path: the picture's file.
        runs: rows of `metrics.jsonl` by the name of the distillation.
        title: stands over the curves.
    """
    names, curves = list(runs), curves_of(list(runs.values()))
    figure, axes = _panels(len(curves), title)
    for ax, (quantity, label, places) in zip(axes, curves, strict=False):
        for place in places:
            draw_curve(ax, runs[names[place]], quantity, label=names[place], place=place)
        ax.set(title=as_words(label), xlabel="distillation step")
        ax.title.set_fontsize(9)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=8)
    _save(figure, path)


def save_accuracies(path: Path, result: Mapping[str, Any], names: Sequence[str]) -> None:
    """Draw the mean accuracy of each row of a result file, and a dot for each network.

    Args:
        path: the picture's file.
        result: of an evaluation.
        names: of its rows.
    """
    rows = result["rows"]
    figure = Figure(figsize=(7, 0.45 * len(rows) + 1.6), layout="constrained")
    ax = figure.subplots()
    draw_accuracies(ax, rows, names)
    chance = 100 / len(result["class_names"])
    ax.axvline(chance, color="firebrick", linewidth=1, linestyle=":", label="chance")
    ax.set_xlabel("test accuracy, %; bars: population deviation over networks (dots)", fontsize=8)
    ax.set_title(as_words(result["dataset"]), fontsize=10)
    ax.tick_params(labelsize=8)
    ax.legend(fontsize=8)
    _save(figure, path)


def save_confusions(path: Path, result: Mapping[str, Any], names: Sequence[str]) -> None:
    """Draw the confusion matrix of each row of a result file, over all of its networks.

    Args:
        path: the picture's file.
        result: of an evaluation.
        names: of its rows.
    """
    rows, classes = result["rows"], result["class_names"]
    columns = min(len(rows), 3)
    lines = -(-len(rows) // columns)
    figure = Figure(figsize=(3.6 * columns + 0.6, 3.9 * lines), layout="constrained")
    axes = figure.subplots(lines, columns, squeeze=False).flat
    for ax, row, name in zip(axes, rows, names, strict=False):
        draw_confusion(ax, row, classes)
        ax.set_title(textwrap.fill(as_words(name), 44), fontsize=7)
        ax.tick_params(labelsize=6)
        for axis in (ax.xaxis, ax.yaxis):
            axis.label.set_fontsize(7)
    for ax in figure.axes[len(rows) :]:
        ax.set_axis_off()
    scale = ScalarMappable(Normalize(0, 1), "viridis")
    figure.colorbar(scale, ax=figure.axes, shrink=0.6, label="share of the class")
    _save(figure, path)


def save_sweep(
    path: Path, rows: Rows, *, name: str, quantities: Mapping[str, str], title: str
) -> None:
    """Draw what a setting does to accuracy and to the means of the metrics.

    Args:
        path: the picture's file.
        rows: of the results, as `draw_sweep` takes them.
        name: of the setting.
        quantities: the metrics to draw, and what they are called.
        title: stands over the picture.
    """
    shown = {"mean": "test accuracy, %", **quantities}
    figure, axes = _panels(len(shown), title)
    for ax, (quantity, label) in zip(axes, shown.items(), strict=False):
        draw_sweep(ax, rows, name=name, quantity=quantity, label=label)
    _save(figure, path)


def save_trials(path: Path, trials: Rows, *, title: str) -> None:
    """Draw the pilots of a search for settings.

    Args:
        path: the picture's file.
        trials: each pilot at each comparison.
        title: stands over the picture.
    """
    figure = Figure(figsize=(6, 4), layout="constrained")
    figure.suptitle(as_words(title), fontsize=10)
    draw_trials(figure.subplots(), trials)
    _save(figure, path)


def save_proxies(path: Path, search: Mapping[str, Any], *, title: str) -> None:
    """Draw, for each proxy of a search, its accuracies against those of the full data.

    Args:
        path: the picture's file.
        search: of the result file.
        title: stands over the picture.
    """
    proxies = [one["name"] for one in search["proxies"]]
    figure, axes = _panels(len(proxies), title)
    for ax, name in zip(axes, proxies, strict=False):
        draw_proxy(ax, search["networks"], name)
        ax.set_title(class_words(name), fontsize=9)
        ax.tick_params(labelsize=8)
        for axis in (ax.xaxis, ax.yaxis):
            axis.label.set_fontsize(8)
    _save(figure, path)


def save_steps(path: Path, found: Mapping[str, Any], *, title: str) -> None:
    """Draw the accuracy over the classes seen, as classes arrive in steps.

    Args:
        path: the picture's file.
        found: what `result.json` says of the steps: `methods` and `seen`.
        title: stands over the picture.
    """
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    figure.suptitle(as_words(title), fontsize=10)
    ax = figure.subplots()
    draw_steps(ax, found["methods"], found["seen"])
    ax.legend(fontsize=8)
    _save(figure, path)


def _panels(count: int, title: str) -> tuple[Figure, Sequence[Axes]]:
    """A figure with so many panels in two columns."""
    lines = -(-count // 2) or 1
    figure = Figure(figsize=(9, 3 * lines), layout="constrained")
    figure.suptitle(as_words(title), fontsize=11)
    axes = list(figure.subplots(lines, 2, squeeze=False).flat)
    for ax in axes[count:]:
        ax.set_axis_off()
    return figure, axes


def _save(figure: Figure, path: Path) -> None:
    with Replacement(path) as temporary, drawing(figure):
        figure.savefig(temporary, dpi=_DOTS_PER_INCH)
