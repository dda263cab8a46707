"""Curves and maps as SVG within the page, in the colours of the page."""

import io
import re
import textwrap
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddpp_jax.report.plots import as_words, class_words, draw_sweep, drawing
from ddpp_jax.report.read import Method
from ddpp_jax.text import printable

_INK = "#123456"  # Of which the page makes its own colour of text.
_COLOURS = ("#2f7fd1", "#d9772b", "#3a9d5d", "#b0519f", "#8a8a2b", "#c0504d", "#5b8c9e", "#7a6fd0")
_DASHES = ("-", "--")  # So that of two lines in one place both are seen.
_SIZE = (4.3, 3.1)
_BINS = 250
_MAP_BINS = 60
_MOST_NAMED = 20
_MOST_TENSORS = 15

PANELS = {
    "loss": "Matching loss (equation 8)",
    "kept_fraction": "Share of parameters kept",
    "alpha": "Alpha, the student's learning rate",
    "accuracy": "Test accuracy of fresh networks",
    "held_out_accuracy": "Accuracy on held-out images",
    "student_loss": "Student's cross-entropy at its last step",
}
"""Quantities of `metrics.jsonl` that are drawn over the steps, and what they are called."""


def curves(methods: Sequence[Method]) -> dict[str, str]:
    """A figure for each quantity that some method has, as SVG by its title."""
    found = {}
    for quantity, title in PANELS.items():
        figure = Figure(figsize=_SIZE, layout="constrained")
        ax = figure.subplots()
        drawn = [
            _curve(ax, method, quantity, _COLOURS[place % len(_COLOURS)], _DASHES[place % 2])
            for place, method in enumerate(methods)
        ]
        if any(drawn):
            ax.set_xlabel("distillation step")
            ax.grid(alpha=0.25)
            figure.legend(loc="outside lower left", ncols=1)
            found[title] = _svg(figure, f"{title} over the distillation steps")
    return found


def pruning(method: Method) -> dict[str, Any] | None:
    """Maps of what a method pruned, and its most pruned tensors; None where it pruned nothing."""
    rows = [row for row in method.rows if row.get("kept_by_layer")]
    if all(row.get("kept_fraction") in (None, 1.0) for row in rows):
        return None
    names, pruned = _pruned(rows)
    known = np.isfinite(pruned)
    means, most = 100 * _mean(pruned), 100 * np.where(known, pruned, 0).max(axis=0)
    lines = [
        (name, float(means[place]), float(most[place]))
        for place, name in enumerate(names)
        if known[:, place].any()
    ]
    over_steps, over_epochs = (
        fn(names, pruned, rows, method.name) for fn in (_pruning_over_steps, _pruning_over_epochs)
    )
    return {
        "name": method.name,
        "maps": [
            ("Over the distillation steps", over_steps),
            ("By the epoch that the student starts from", over_epochs),
        ],
        "table": sorted(lines, key=lambda line: -line[1])[:_MOST_TENSORS],
    }


def _pruning_over_steps(
    names: Sequence[str],
    pruned: Float[np.ndarray, "steps tensors"],
    rows: Sequence[Mapping[str, Any]],
    method: str,
) -> str:
    bins = np.array_split(np.arange(len(rows)), min(_MAP_BINS, len(rows)))
    return _map(
        names,
        np.stack([_mean(pruned[index]) for index in bins], axis=1),
        (rows[0]["step"] - 0.5, rows[-1]["step"] + 0.5),
        "distillation step",
        f"Share of each tensor that {method} pruned, over the steps",
    )


def _pruning_over_epochs(
    names: Sequence[str],
    pruned: Float[np.ndarray, "steps tensors"],
    rows: Sequence[Mapping[str, Any]],
    method: str,
) -> str:
    epochs = np.asarray([row["start_epoch"] for row in rows])
    shares = np.full((len(names), epochs.max() + 1), np.nan)
    for epoch in np.unique(epochs):
        shares[:, epoch] = _mean(pruned[epochs == epoch])
    return _map(
        names,
        shares,
        (-0.5, shares.shape[1] - 0.5),
        "start epoch of the student",
        f"Share of each tensor that {method} pruned, by start epoch",
    )


def accuracies(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> str:
    """The mean accuracy of each row of a result, its deviation, and a dot for each network."""
    words = [textwrap.fill(as_words(name), 26) for name in names]
    height = max(0.42, 0.16 * max(name.count("\n") + 1 for name in words))
    figure = Figure(figsize=(_SIZE[0], height * len(rows) + 0.8), layout="constrained")
    ax = figure.subplots()
    places = np.arange(len(rows))[::-1]
    means, deviations = (100 * np.asarray([row[n] for row in rows]) for n in ("mean", "std"))
    ax.barh(places, means, 0.65, xerr=deviations, color=_COLOURS[0], alpha=0.55, ecolor=_INK)
    for place, row in zip(places, rows, strict=True):
        dots = 100 * np.asarray(row["accuracies"])
        ax.plot(dots, np.full(len(dots), place), "o", markersize=2.5, color=_INK, alpha=0.6)
    ax.set_yticks(places, words)
    ax.set(xlabel="test accuracy, %", xlim=(0, 100))
    ax.grid(axis="x", alpha=0.25)
    return _svg(figure, "Test accuracy of each row of the table")


def sweep(rows: Sequence[Mapping[str, Any]], name: str) -> str:
    """Accuracy with its deviation, and the share of parameters kept, for each value."""
    figure = Figure(figsize=_SIZE, layout="constrained")
    draw_sweep(figure.subplots(), rows, name=name)
    return _svg(figure, f"Test accuracy and share of parameters kept against {name}")


def confusion(row: Mapping[str, Any], names: Sequence[str], title: str) -> str:
    """The confusion matrix of a row of a result, as shares of each class."""
    counts = np.asarray(row["confusion"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure = Figure(figsize=(_SIZE[0], 3.9), layout="constrained")
    ax = figure.subplots()
    shown = ax.imshow(shares, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    ax.set(xlabel="taken for", ylabel="class")
    if len(names) <= _MOST_NAMED:
        shown_names = [class_words(name) for name in names]
        ax.set_xticks(range(len(names)), shown_names, rotation=90)
        ax.set_yticks(range(len(names)), shown_names)
    figure.colorbar(shown, ax=ax, shrink=0.8, label="share of the class")
    return _svg(figure, f"Confusion matrix: {title}")


def _curve(ax: Axes, method: Method, quantity: str, colour: str, dashes: str) -> bool:
    points = [
        (row["step"], row[quantity], row.get(f"{quantity}_std") or 0.0)
        for row in method.rows
        if row.get(quantity) is not None
    ]
    if not points:
        return False
    steps, values, deviations = np.asarray(points, float).T
    if len(values) <= _BINS:
        low, middle, high = values - deviations, values, values + deviations
    else:
        bins = np.array_split(np.arange(len(values)), _BINS)
        steps = np.asarray([steps[index].mean() for index in bins])
        low, middle, high = (
            np.asarray([fn(values[index]) for index in bins]) for fn in (np.min, np.mean, np.max)
        )
    if np.any(high > low):
        ax.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    few = "." if len(values) < 50 else ""
    ax.plot(
        steps, middle, dashes, color=colour, linewidth=1.3, marker=few, label=as_words(method.name)
    )
    return True


def _pruned(
    rows: Sequence[Mapping[str, Any]],
) -> tuple[list[str], Float[np.ndarray, "steps tensors"]]:
    names = list(rows[0]["kept_by_layer"])
    kept = [[row["kept_by_layer"][n] for n in names] for row in rows]
    values = np.asarray([[np.nan if x is None else x for x in line] for line in kept], float)
    return names, 1 - values


def _mean(values: Float[np.ndarray, "rows tensors"]) -> Float[np.ndarray, " tensors"]:
    """Over the rows that have a value; NaN where none has."""
    known = np.isfinite(values)
    totals = np.where(known, values, 0).sum(axis=0)
    counts = known.sum(axis=0)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _map(
    names: Sequence[str],
    shares: Float[np.ndarray, "tensors places"],
    ends: tuple[float, float],
    axis: str,
    title: str,
) -> str:
    figure = Figure(figsize=(_SIZE[0] + 0.6, 0.24 * len(names) + 1.1), layout="constrained")
    ax = figure.subplots()
    highest = float(np.nanmax(shares, initial=0.0))
    shown = ax.imshow(
        100 * shares,
        aspect="auto",
        interpolation="nearest",
        cmap="magma",
        vmin=0,
        vmax=100 * highest or 1,
        extent=(*ends, len(names) - 0.5, -0.5),
    )
    ax.set_yticks(range(len(names)), [as_words(name) for name in names])
    ax.set_xlabel(axis)
    figure.colorbar(shown, ax=ax, label="pruned, %")
    return _svg(figure, title)


def _svg(figure: Figure, label: str) -> str:
    """The figure as an element of the page: text stays text, and black is the page's own colour."""
    buffer = io.StringIO()
    for ax in figure.axes:
        ax.set_facecolor("none")
        ax.tick_params(colors=_INK, labelsize=8)
        for text in (ax.xaxis.label, ax.yaxis.label, ax.title):
            text.set(color=_INK, fontsize=8.5)
        for spine in ax.spines.values():
            spine.set_edgecolor(_INK)
            spine.set_alpha(0.5)
    for legend in figure.legends:
        legend.get_frame().set(facecolor="none", edgecolor="none")
        for text in legend.get_texts():
            text.set(color=_INK, fontsize=8)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": label}), drawing(figure):
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :].replace(_INK, "currentColor")
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    # Names must differ between all the figures of a page.
    mark = f"f{zlib.crc32(label.encode()):08x}"
    text = re.sub(r'(id="|url\(#|href="#)', rf"\g<1>{mark}-", text)
    tag, rest = text.split(">", 1)
    tag = re.sub(r' (width|height)="[^"]*"', "", tag)
    return tag.replace("<svg", f'<svg role="img" aria-label="{_escaped(label)}"', 1) + ">" + rest


def _escaped(text: str) -> str:
    text = printable(text)
    return text.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
