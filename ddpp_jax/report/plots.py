"""Pictures of a run, drawn from its result files."""

import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.text import Text

from ddpp_jax.sets import DistilledFile, shown_range
from ddpp_jax.storage import Replacement
from ddpp_jax.text import printable, shortened

MOST_PER_CLASS = 10
_CELLS_IN_A_ROW = 10
_DOTS_PER_INCH = 150
_LETTERS_AN_INCH = 12
_MOST_CLASSES_NAMED = 20
_LONGEST_NAME = 40
_FONTS = (
    "Noto Sans CJK JP",
    "Noto Sans CJK SC",
    "Noto Sans",
    "Arial Unicode MS",
    "Hiragino Sans",
    "Microsoft YaHei",
    "Nirmala UI",
    "FreeSans",
)
"""For letters that matplotlib's own font lacks, where they are installed."""


def shown_pixels(distilled: DistilledFile) -> Float[np.ndarray, "images height width channels"]:
    """The images as they can be looked at, normalisation or whitening undone, from 0 to 1.

    What is drawn black and white is chosen for the whole set (`results.shown_range`); the rest is
    cut.
    """
    low, high = shown_range(distilled.pixels)
    return np.clip((distilled.pixels - low) / (high - low), 0, 1)


def needs_less_contrast(distilled: DistilledFile) -> bool:
    """Whether `shown_pixels` lowers the contrast."""
    return shown_range(distilled.pixels) != (0.0, 1.0)


def as_words(name: str) -> str:
    """A name as matplotlib shows it unchanged: no formulas, and not hidden by an underscore."""
    name = printable(name).replace("$", r"\$")
    return f" {name}" if name.startswith("_") else name


def class_words(name: str) -> str:
    """The name of a class as matplotlib shows it, cut where it would leave no room for the rest."""
    return as_words(shortened(name, _LONGEST_NAME))


@contextmanager
def drawing(figure: Figure) -> Iterator[None]:
    """Draw names in any script: what no font here has becomes a box, and nothing is said of it.

    Names that leave no room for the picture beside them are drawn over its edge, likewise.
    """
    families = {font.name for font in fontManager.ttflist}
    more = [name for name in _FONTS if name in families]
    for text in figure.findobj(Text) if more else ():
        assert isinstance(text, Text)
        text.set_fontfamily([*text.get_fontfamily(), *more])
    with warnings.catch_warnings():
        for message in (r"Glyph \d+ .* missing from", r"constrained_layout not applied"):
            warnings.filterwarnings("ignore", message, UserWarning)
        yield


def draw_image(ax: Axes, image: Float[np.ndarray, "height width channels"]) -> None:
    """One image between 0 and 1, in grey or colour by its channels, pixels as squares."""
    if image.shape[2] == 1:
        ax.imshow(image[:, :, 0], cmap="gray", vmin=0, vmax=1, interpolation="nearest")
    else:
        ax.imshow(image, interpolation="nearest")
    ax.set(xticks=[], yticks=[])


def save_grid(path: Path, distilled: DistilledFile, *, title: str) -> None:
    """Draw the distilled images, each labelled with its class.

    One image per class flows from left to right; with more, each class has a row of its own and at
    most `MOST_PER_CLASS` images of it are shown.

    Args:
        path: the picture's file.
        distilled: the set.
        title: stands over the grid.
    """
    images, labels = shown_pixels(distilled), distilled.labels
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


def draw_curve(
    ax: Axes, rows: Iterable[Mapping[str, Any]], quantity: str, *, label: str, window: int = 1
) -> None:
    """One quantity of `metrics.jsonl` over the distillation steps.

    Args:
        ax: where.
        rows: of the file; those without the quantity, or with null for it, are left out.
        quantity: its name in the rows.
        label: the curve's name in the legend.
        window: steps in a running mean; with more than one the single values are drawn faintly.
    """
    points = [(row["step"], row[quantity]) for row in rows if row.get(quantity) is not None]
    if not points:
        return
    steps, values = np.asarray(points, float).T
    if window > 1 and len(values) > window:
        (faint,) = ax.plot(steps, values, linewidth=0.5, alpha=0.25)
        sums = np.cumsum(np.pad(values, (1, 0)))
        ends = np.arange(1, len(values) + 1)
        begins = np.maximum(ends - window, 0)
        smooth = (sums[ends] - sums[begins]) / (ends - begins)
        ax.plot(
            steps,
            smooth,
            color=faint.get_color(),
            label=as_words(f"{label}, mean of {window} steps"),
        )
    else:
        ax.plot(steps, values, marker="." if len(values) < 50 else "", label=as_words(label))


def save_curves(path: Path, runs: Mapping[str, Sequence[Mapping[str, Any]]], *, title: str) -> None:
    """Draw loss, kept fraction, alpha and test accuracy over the distillation steps.

    Args:
        path: the picture's file.
        runs: rows of `metrics.jsonl` by the name of the method.
        title: stands over the curves.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    figure.suptitle(as_words(title), fontsize=11)
    panels = (
        ("loss", "matching loss (equation 8)"),
        ("kept_fraction", "share of parameters kept"),
        ("alpha", "alpha, the student's learning rate"),
        ("accuracy", "test accuracy of fresh networks"),
    )
    for ax, (quantity, name) in zip(figure.subplots(2, 2).flat, panels, strict=True):
        for method, rows in runs.items():
            draw_curve(ax, rows, quantity, label=method, window=25 if quantity == "loss" else 1)
        ax.set(title=name, xlabel="distillation step")
        ax.title.set_fontsize(9)
        ax.grid(alpha=0.3)
        if ax.get_legend_handles_labels()[0]:
            ax.legend(fontsize=8)
        else:
            ax.set_axis_off()
            ax.set_title(f"{name}: none kept")
            ax.title.set_fontsize(9)
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
    places = np.arange(len(rows))[::-1]
    means = [100 * row["mean"] for row in rows]
    ax.barh(places, means, 0.7, xerr=[100 * row["std"] for row in rows], color="lightsteelblue")
    for place, row in zip(places, rows, strict=True):
        found = 100 * np.asarray(row["accuracies"])
        ax.plot(found, np.full(len(found), place), "o", markersize=3, color="black", alpha=0.6)
    chance = 100 / len(result["class_names"])
    ax.axvline(chance, color="firebrick", linewidth=1, linestyle=":", label="chance")
    ax.set_yticks(places, [textwrap.fill(as_words(name), 40) for name in names], fontsize=8)
    ax.set_xlabel("test accuracy, %; bars: population deviation over networks (dots)", fontsize=8)
    ax.set_xlim(0, 100)
    ax.set_title(as_words(result["dataset"]), fontsize=10)
    ax.grid(axis="x", alpha=0.3)
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
        counts = np.asarray(row["confusion"], float)
        shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
        ax.imshow(shares, vmin=0, vmax=1, cmap="viridis")
        ax.set_title(textwrap.fill(as_words(name), 44), fontsize=7)
        ax.set_xlabel("taken for", fontsize=7)
        ax.set_ylabel("class", fontsize=7)
        if len(classes) <= _MOST_CLASSES_NAMED:
            shown = [class_words(name) for name in classes]
            ax.set_xticks(range(len(classes)), shown, rotation=90, fontsize=6)
            ax.set_yticks(range(len(classes)), shown, fontsize=6)
    for ax in figure.axes[len(rows) :]:
        ax.set_axis_off()
    scale = ScalarMappable(Normalize(0, 1), "viridis")
    figure.colorbar(scale, ax=figure.axes, shrink=0.6, label="share of the class")
    _save(figure, path)


def draw_sweep(ax: Axes, rows: Sequence[Mapping[str, Any]], *, name: str) -> None:
    """Test accuracy with its deviation, and the share of parameters kept, for each value.

    Args:
        ax: where; the share has an axis of its own on the right.
        rows: with `value`, `mean`, `std` and `kept_fraction`.
        name: of the setting.
    """
    places = np.arange(len(rows))
    means, deviations, kept = (
        100 * np.asarray([row[n] for row in rows]) for n in ("mean", "std", "kept_fraction")
    )
    ax.errorbar(places, means, deviations, fmt="o-", capsize=3, color="C0")
    ax.set_xticks(places, [as_words(str(row["value"])) for row in rows])
    ax.set(xlabel=as_words(name), ylabel="test accuracy, %")
    ax.yaxis.label.set_color("C0")
    right = ax.twinx()
    right.plot(places, kept, "s--", color="C1")
    right.set_ylabel("parameters kept, %, mean over the steps", color="C1")
    right.set_ylim(top=max(100.0, float(kept.max())) + 1)


def save_sweep(path: Path, rows: Sequence[Mapping[str, Any]], *, name: str, title: str) -> None:
    """Draw what a setting does to accuracy and to the share of parameters kept.

    Args:
        path: the picture's file.
        rows: of the results, as `draw_sweep` takes them.
        name: of the setting.
        title: stands over the picture.
    """
    figure = Figure(figsize=(6, 3.8), layout="constrained")
    figure.suptitle(as_words(title), fontsize=10)
    draw_sweep(figure.subplots(), rows, name=name)
    _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    with Replacement(path) as temporary, drawing(figure):
        figure.savefig(temporary, dpi=_DOTS_PER_INCH)
