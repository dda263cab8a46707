"""Figures within the page as SVG, in the colours of the page."""

import io
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ddpp_jax.report.drawings import (
    Mapped,
    Rows,
    curves_of,
    draw_accuracies,
    draw_confusion,
    draw_curve,
    draw_map,
    draw_steps,
    draw_sweep,
    draw_trials,
    drawing,
    maps_of,
    quantities_of,
)
from ddpp_jax.report.read import Method
from ddpp_jax.report.searches import draw_proxy
from ddpp_jax.text import printable

_INK = "#123456"  # Of which the page makes its own colour of text.
_SIZE = (4.3, 3.1)
_MOST_LINES = 15


def curves(methods: Sequence[Method]) -> dict[str, str]:
    """A figure for each quantity that some method has, as SVG by its title."""
    found = {}
    for quantity, label, places in curves_of([method.rows for method in methods]):
        title = _title(label)
        figure = Figure(figsize=_SIZE, layout="constrained")
        ax = figure.subplots()
        for place in places:
            method = methods[place]
            draw_curve(ax, method.rows, quantity, label=method.name, place=place)
        ax.set_xlabel("distillation step")
        ax.grid(alpha=0.25)
        figure.legend(loc="outside lower left", ncols=1)
        found[title] = _svg(figure, f"{title} over the distillation steps")
    return found


def maps(method: Method) -> list[dict[str, Any]]:
    """Each metric of a method that has a number for each of several names, as maps and a table.

    One that never changes is left out: there is nothing to see.
    """
    found = []
    for metric, label in maps_of(method.rows).items():
        mapped = Mapped(method.rows, metric)
        values = mapped.values[mapped.values == mapped.values]
        if len(values) == 0 or values.min() == values.max():
            continue
        title = _title(label)
        pictures = [("Over the distillation steps", _map(mapped, title, method.name))]
        if all(isinstance(row.get("start_epoch"), int) for row in mapped.rows):
            by_epoch = _map(mapped, title, method.name, over="start_epoch")
            pictures.append(("By the start epoch", by_epoch))
        lines = mapped.extremes()[:_MOST_LINES]
        found.append({"name": method.name, "title": title, "maps": pictures, "table": lines})
    return found


def _map(mapped: Mapped, title: str, method: str, *, over: str | None = None) -> str:
    figure = Figure(figsize=(_SIZE[0] + 0.6, 0.24 * len(mapped.names) + 1.1), layout="constrained")
    ax = figure.subplots()
    values, ends = mapped.over_steps() if over is None else mapped.over(over)
    axis = "distillation step" if over is None else over.replace("_", " ")
    shown = draw_map(ax, mapped.names, values, ends, axis)
    figure.colorbar(shown, ax=ax)
    return _svg(figure, f"{title}, {method}, by {axis}")


def accuracies(rows: Rows, names: Sequence[str]) -> str:
    """The mean accuracy of each row of a result, its deviation, and a dot for each network."""
    height = max(0.42, 0.16 * max(1 + len(name) // 26 for name in names))
    figure = Figure(figsize=(_SIZE[0], height * len(rows) + 0.8), layout="constrained")
    draw_accuracies(figure.subplots(), rows, names, ink=_INK)
    return _svg(figure, "Test accuracy of each row of the table")


def sweep(rows: Rows, name: str, methods: Sequence[Method]) -> dict[str, str]:
    """What a setting does to accuracy and to each metric, as SVG by its title."""
    shown = {"mean": "test accuracy, %", **metrics_of(methods)}
    found = {}
    for quantity, label in shown.items():
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw_sweep(figure.subplots(), rows, name=name, quantity=quantity, label=label)
        found[_title(label)] = _svg(figure, f"{_title(label)} against {name}")
    return found


def steps(found: Mapping[str, Any]) -> str:
    """The accuracy over the classes seen, as classes arrive in steps."""
    figure = Figure(figsize=(_SIZE[0] + 1, _SIZE[1] + 0.3), layout="constrained")
    draw_steps(figure.subplots(), found["methods"], found["seen"])
    figure.legend(loc="outside lower left", ncols=1)
    return _svg(figure, "Accuracy over the classes seen, after each step")


def trials(rows: Rows) -> str:
    """The accuracy of each pilot of a search for settings."""
    figure = Figure(figsize=(_SIZE[0] + 1, _SIZE[1]), layout="constrained")
    draw_trials(figure.subplots(), rows)
    return _svg(figure, "Accuracy of the pilots on held-out images")


def proxies(search: Mapping[str, Any]) -> dict[str, str]:
    """Each proxy's accuracies against those of the full data, as SVG by its title.

    Args:
        search: of the result file.
    """
    found = {}
    for one in search["proxies"]:
        figure = Figure(figsize=_SIZE, layout="constrained")
        draw_proxy(figure.subplots(), search["networks"], one["name"])
        found[one["name"]] = _svg(figure, f"Accuracy of networks by {one['name']}")
    return found


def metrics_of(methods: Sequence[Method]) -> dict[str, str]:
    """The metrics of every step that are numbers, and what they are called."""
    found = quantities_of([method.rows for method in methods])
    return {name: label for name, label in found.items() if "accuracy" not in name}


def confusion(row: Mapping[str, Any], names: Sequence[str], title: str) -> str:
    """The confusion matrix of a row of a result, as shares of each class."""
    figure = Figure(figsize=(_SIZE[0], 3.9), layout="constrained")
    ax = figure.subplots()
    shown = draw_confusion(ax, row, names)
    figure.colorbar(shown, ax=ax, shrink=0.8, label="share of the class")
    return _svg(figure, f"Confusion matrix: {title}")


def curve_svg(draw_fn: Callable[[Axes], None], label: str) -> str:
    """A figure that a function draws, with its legend below.

    Args:
        draw_fn: draws on the axes that it is given.
        label: what is seen.
    """
    figure = Figure(figsize=(_SIZE[0], _SIZE[1] + 1), layout="constrained")
    draw_fn(figure.subplots())
    figure.legend(loc="outside lower left", ncols=1)
    return _svg(figure, label)


def _title(label: str) -> str:
    return label[:1].upper() + label[1:]


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
