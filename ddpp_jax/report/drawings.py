"""What is drawn of a run: once, for the pictures in its folder and for its page alike."""

import textwrap
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager
from matplotlib.image import AxesImage
from matplotlib.text import Text

from ddpp_jax.text import printable, shortened

COLOURS = ("#2f7fd1", "#d9772b", "#3a9d5d", "#b0519f", "#8a8a2b", "#c0504d", "#5b8c9e", "#7a6fd0")
DASHES = ("-", "--")  # So that of two lines in one place both are seen.

Rows = Sequence[Mapping[str, Any]]
"""Rows of `metrics.jsonl`, or of a result."""

_BINS = 250
_MAP_BINS = 60
_MOST_CLASSES_NAMED = 20
_LONGEST_NAME = 40
_EVALUATIONS = {
    "accuracy": "test accuracy of fresh networks",
    "held_out_accuracy": "accuracy on held-out images",
}
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


def labels_of(runs: Iterable[Rows]) -> dict[str, str]:
    """What the metrics of some distillations are called, in the order in which they are shown."""
    found: dict[str, str] = {}
    for rows in runs:
        for row in rows[:1]:
            found |= row.get("shows", {})
    return found | _EVALUATIONS


def quantities_of(runs: Sequence[Rows]) -> dict[str, str]:
    """What can be drawn over the steps: numbers that some distillation has, and their labels."""
    return {
        name: label
        for name, label in labels_of(runs).items()
        if any(_is_number(row.get(name)) for rows in runs for row in rows)
    }


def curves_of(runs: Sequence[Rows]) -> list[tuple[str, str, list[int]]]:
    """Each quantity that can be drawn, what it is called, and the places of the runs that have it.

    What two methods call by one name, such as their loss, need not be the same thing: by another
    label it is another quantity.
    """
    found: dict[tuple[str, str], list[int]] = {}
    for place, rows in enumerate(runs):
        for quantity in quantities_of([rows]).items():
            found.setdefault(quantity, []).append(place)
    return [(name, label, places) for (name, label), places in found.items()]


def maps_of(rows: Rows) -> dict[str, str]:
    """The metrics that have a number for each of several names, and what they are called."""
    labels = labels_of([rows])
    last = rows[-1] if rows else {}
    return {n: labels.get(n, n) for n, value in last.items() if isinstance(value, Mapping)}


def draw_curve(ax: Axes, rows: Rows, quantity: str, *, label: str, place: int = 0) -> bool:
    """Draw one quantity over the distillation steps; whether there is any of it.

    Where steps are many, the line is the mean of neighbouring ones, and the band their extremes;
    the band of an accuracy is its deviation over networks.

    Args:
        ax: where.
        rows: of `metrics.jsonl`; those without a number for the quantity are left out.
        quantity: its name in the rows.
        label: the curve's name in the legend.
        place: of the curve among others, which decides its colour.
    """
    points = [
        (row["step"], row[quantity], row.get(f"{quantity}_std") or 0.0)
        for row in rows
        if _is_number(row.get(quantity))
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
    colour = COLOURS[place % len(COLOURS)]
    if np.any(high > low):
        ax.fill_between(steps, low, high, color=colour, alpha=0.18, linewidth=0)
    few = "." if len(values) < 50 else ""
    dashes = DASHES[place % len(DASHES)]
    ax.plot(steps, middle, dashes, color=colour, linewidth=1.3, marker=few, label=as_words(label))
    return True


def draw_accuracies(ax: Axes, rows: Rows, names: Sequence[str], *, ink: str = "black") -> None:
    """Draw the mean accuracy of each row of a result, its deviation, and a dot for each network."""
    places = np.arange(len(rows))[::-1]
    means, deviations = (100 * np.asarray([row[n] for row in rows]) for n in ("mean", "std"))
    ax.barh(places, means, 0.65, xerr=deviations, color=COLOURS[0], alpha=0.55, ecolor=ink)
    for place, row in zip(places, rows, strict=True):
        dots = 100 * np.asarray(row["accuracies"])
        ax.plot(dots, np.full(len(dots), place), "o", markersize=2.5, color=ink, alpha=0.6)
    ax.set_yticks(places, [textwrap.fill(as_words(name), 26) for name in names])
    ax.set(xlabel="test accuracy, %", xlim=(0, 100))
    ax.grid(axis="x", alpha=0.25)


def draw_confusion(ax: Axes, row: Mapping[str, Any], names: Sequence[str]) -> AxesImage:
    """Draw the confusion matrix of a row of a result, as shares of each class."""
    counts = np.asarray(row["confusion"], float)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    shown = ax.imshow(shares, vmin=0, vmax=1, cmap="viridis", interpolation="nearest")
    ax.set(xlabel="taken for", ylabel="class")
    if len(names) <= _MOST_CLASSES_NAMED:
        shown_names = [class_words(name) for name in names]
        ax.set_xticks(range(len(names)), shown_names, rotation=90)
        ax.set_yticks(range(len(names)), shown_names)
    return shown


def draw_sweep(ax: Axes, rows: Rows, *, name: str, quantity: str, label: str) -> None:
    """Draw what a setting does: test accuracy with its deviation, or the mean of a metric.

    Args:
        ax: where.
        rows: of a result, with `value`, `mean`, `std` and `means`.
        name: of the setting.
        quantity: `mean` of the accuracy, or a metric in `means`.
        label: what it is called.
    """
    places = np.arange(len(rows))
    if quantity == "mean":
        means, deviations = (100 * np.asarray([row[n] for row in rows]) for n in ("mean", "std"))
        ax.errorbar(places, means, deviations, fmt="o-", capsize=3, color=COLOURS[0])
    else:
        values = [row["means"].get(quantity, np.nan) for row in rows]
        ax.plot(places, values, "s--", color=COLOURS[1])
    ax.set_xticks(places, [as_words(str(row["value"])) for row in rows])
    ax.set(xlabel=as_words(name), title=as_words(label))
    ax.title.set_fontsize(9)
    ax.grid(alpha=0.25)


def draw_trials(ax: Axes, trials: Rows) -> None:
    """Draw the accuracy of each pilot of a search over its steps; those that went far are named."""
    by_pilot: dict[str, list[Mapping[str, Any]]] = {}
    for trial in trials:
        by_pilot.setdefault(values_words(trial["values"]), []).append(trial)
    most = max(len(own) for own in by_pilot.values())
    for place, (name, own) in enumerate(by_pilot.items()):
        steps, accuracies = ([trial[n] for trial in own] for n in ("steps", "accuracy"))
        ax.plot(
            steps,
            100 * np.asarray(accuracies),
            "o-",
            markersize=3,
            linewidth=1.3,
            color=COLOURS[place % len(COLOURS)],
            alpha=1.0 if len(own) == most else 0.45,
            label=as_words(name) if len(own) == most else None,
        )
    ax.set(xlabel="distillation step", ylabel="accuracy on held-out images, %")
    ax.grid(alpha=0.25)
    if any(by_pilot):
        ax.legend(fontsize=7)


def draw_steps(ax: Axes, methods: Mapping[str, Any], seen: Sequence[int]) -> None:
    """Draw the accuracy over the classes seen, a line for each method and a band for its deviation.

    The band is the deviation over orders, or over networks where there is a single order.

    Args:
        ax: where.
        methods: by name, the figures after each step.
        seen: how many classes are seen after each step.
    """
    for place, (name, own) in enumerate(methods.items()):
        means = 100 * np.asarray([one["mean"] for one in own["steps"]])
        deviations = 100 * np.asarray(
            [
                one["over_networks"] if one["over_orders"] is None else one["over_orders"]
                for one in own["steps"]
            ]
        )
        colour = COLOURS[place % len(COLOURS)]
        low, high = np.clip([means - deviations, means + deviations], 0, 100)
        ax.fill_between(seen, low, high, color=colour, alpha=0.15, linewidth=0)
        style = f"{DASHES[place % len(DASHES)]}o"
        ax.plot(seen, means, style, color=colour, linewidth=1.3, markersize=3, label=as_words(name))
    ax.set_xticks(list(seen))
    ax.set(xlabel="classes seen", ylabel="accuracy over the classes seen, %")
    ax.grid(alpha=0.25)


def values_words(values: Mapping[str, Any]) -> str:
    """Settings and their values in a line."""
    return ", ".join(f"{name.replace('_', ' ')} {value:g}" for name, value in values.items())


def draw_map(
    ax: Axes,
    names: Sequence[str],
    values: Float[np.ndarray, "names columns"],
    ends: tuple[float, float],
    axis: str,
) -> AxesImage:
    """Draw a number for each of several names, over the steps or over something else.

    Args:
        ax: where.
        names: of the lines.
        values: of each line, from left to right.
        ends: what the left and the right edge stand for.
        axis: what goes from left to right.
    """
    shown = ax.imshow(
        values,
        aspect="auto",
        interpolation="nearest",
        cmap="magma",
        extent=(*ends, len(names) - 0.5, -0.5),
    )
    ax.set_yticks(range(len(names)), [as_words(name) for name in names])
    ax.set_xlabel(axis)
    return shown


class Mapped:
    """The values of a metric that has a number for each of several names."""

    def __init__(self, rows: Rows, metric: str) -> None:
        """Take them from the rows that have them."""
        self.rows = [row for row in rows if row.get(metric)]
        self.names = list(self.rows[0][metric]) if self.rows else []
        found = [[row[metric][name] for name in self.names] for row in self.rows]
        numbers = [[np.nan if x is None else x for x in line] for line in found]
        self.values = np.asarray(numbers, float).reshape(len(self.rows), len(self.names))

    def over_steps(self) -> tuple[Float[np.ndarray, "names bins"], tuple[float, float]]:
        """Means of neighbouring steps, and what the edges stand for."""
        bins = np.array_split(np.arange(len(self.rows)), min(_MAP_BINS, len(self.rows)))
        ends = (self.rows[0]["step"] - 0.5, self.rows[-1]["step"] + 0.5)
        return np.stack([_mean(self.values[index]) for index in bins], axis=1), ends

    def over(self, quantity: str) -> tuple[Float[np.ndarray, "names values"], tuple[float, float]]:
        """Means over the steps that have the same whole number as some other quantity."""
        numbers = np.asarray([row[quantity] for row in self.rows])
        means = np.full((len(self.names), numbers.max() + 1), np.nan)
        for number in np.unique(numbers):
            means[:, number] = _mean(self.values[numbers == number])
        return means, (-0.5, means.shape[1] - 0.5)

    def extremes(self) -> list[tuple[str, float, float, float]]:
        """Each name with its mean, its least and its largest value; the least mean first."""
        lines = [
            (name, float(np.mean(known)), float(known.min()), float(known.max()))
            for place, name in enumerate(self.names)
            if len(known := self.values[np.isfinite(self.values[:, place]), place])
        ]
        return sorted(lines, key=lambda line: line[1])


def _mean(values: Float[np.ndarray, "rows names"]) -> Float[np.ndarray, " names"]:
    """Over the rows that have a value; NaN where none has."""
    known = np.isfinite(values)
    totals, counts = np.where(known, values, 0).sum(axis=0), known.sum(axis=0)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
