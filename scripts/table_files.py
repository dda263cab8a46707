"""A table of the paper beside figures from here, as Markdown, CSV and a bar plot."""

import csv
import os
import platform
from dataclasses import dataclass

import jax
import matplotlib.figure
import numpy as np
from benchmark import processor

from ddpp_jax.results import spread
from ddpp_jax.results.tables import comparison_words, comparisons
from ddpp_jax.storage import Replacement

KIP = "KIP"
RANDOM, MTT, DDPP = "random real images", "MTT (no pruning)", "DDPP (threshold 0.1)"
NO_RIVALS = ("full data (the teachers)",)
"""What DDPP is not compared with."""
CSV = (
    "table scale column setting network method seeds mean over_seeds standard_error over_networks "
    "paper_mean paper_std evaluated_with"
)


@dataclass(frozen=True)
class Column:
    """What one column of a table is made from.

    Attributes:
        title: of the column.
        setting: whose sets are evaluated.
        paper: the paper's mean and deviation in %, by method.
        architecture: of the networks that are trained on the sets.
        flags: of an evaluation of its own; without them that of the run is taken.
        vary: flags by which the setting's distillation is varied.
    """

    title: str
    setting: str
    paper: dict
    architecture: str = "convnet"
    flags: tuple = ()
    vary: tuple = ()


@dataclass(frozen=True)
class Table:
    """The rows of every column of a table, over all seeds."""

    number: str
    scale: str
    columns: list
    results: list

    @property
    def pairs(self):
        """Each column and its rows."""
        return list(zip(self.columns, self.results, strict=True))


def difference_words(less):
    """A difference of shares in points, and its standard error where there is one."""
    error = "" if np.isnan(less.error) else f" ± {100 * less.error:.1f}"
    return f"{100 * less.mean:+.1f}{error}"


def spread_words(means):
    """The mean of the seeds that did not break down, in %, and the deviation over them."""
    there = means[np.isfinite(means)]
    if not len(there):
        return "broke down"
    over = f" ± {100 * there.std(ddof=1):.1f}" if len(there) > 1 else ""
    lost = len(means) - len(there)
    return f"{100 * there.mean():.1f}{over}" + (f" ({lost} broke down)" if lost else "")


def methods_of(rows):
    return list(dict.fromkeys(row["method"] for row in rows))


def methods_of_all(table):
    return methods_of([row for rows in table.results for row in rows])


def figures(rows, method):
    """The spread of one method, or None where it has no row."""
    found = [np.asarray(row["accuracies"]) for row in rows if row["method"] == method]
    return spread(found) if found else None


def cell_words(found):
    if found is None:
        return "-"
    over = "-" if found.seeds == 1 else f"{100 * found.over_seeds:.1f}"
    return f"{100 * found.mean:.1f} ± {over} ({100 * found.over_networks:.1f})"


def paper_words(column, method):
    if method not in column.paper:
        return "-"
    mean, deviation = column.paper[method]
    return f"{mean:.1f}" if np.isnan(deviation) else f"{mean:.1f} ± {deviation:.1f}"


def disagreements(column, rows):
    """Where two methods stand in one order in the paper and in the other one here."""
    known = [m for m in methods_of(rows) if m in column.paper]
    for place, first in enumerate(known):
        for second in known[place + 1 :]:
            paper = column.paper[second][0] - column.paper[first][0]
            pair = [row for row in rows if row["method"] in (first, second)]
            here = figures(rows, second).mean - figures(rows, first).mean
            if paper * here < 0:
                compared = comparisons(pair)
                words = comparison_words(compared[0]) if compared else "one seed only"
                above = f"{second if paper > 0 else first} above {second if paper < 0 else first}"
                yield f"{column.title}: the paper has {above}; here {words}"


def differences(column, rows, methods):
    """DDPP less each of the methods that this table compares it with."""
    for method in methods:
        pair = [row for row in rows if row["method"] in (method, DDPP)]
        for found in comparisons(pair):
            yield f"{column.title}: {comparison_words(found)}"


def markdown(table, seeds, command):
    """The table, what its figures are, and the differences that they show."""
    columns, pairs = table.columns, table.pairs
    lines = [
        "| trained on | " + " | ".join(f"{c.title} | paper" for c in columns) + " |",
        "|---|" + "---|---|" * len(columns),
    ]
    for method in methods_of_all(table):
        parts = (
            f"{cell_words(figures(rows, method))} | {paper_words(column, method)}"
            for column, rows in pairs
        )
        lines.append(f"| {method} | " + " | ".join(parts) + " |")
    lines += [
        "",
        f"Table {table.number} at the scale `{table.scale}`: test accuracy in %, mean over seeds "
        f"{', '.join(map(str, seeds))} ± sample deviation over the seeds (mean deviation over the "
        "networks of a seed). Distilled sets: the last. Paper: its own figures, ± over networks.",
        "",
    ]
    if any(column.vary for column in columns):
        varied = (f"{column.title} {' '.join(column.vary)}" for column in columns if column.vary)
        lines += [f"Distilled with: {'; '.join(varied)}.", ""]
    if any(column.flags for column in columns):
        flags = (f"{column.title} {' '.join(column.flags)}" for column in columns)
        lines += [f"Evaluated with: {'; '.join(flags)}; else as the setting and the sets say.", ""]
    for column, rows in pairs:
        others = [name for name in methods_of(rows) if name != DDPP and name not in NO_RIVALS]
        lines += [f"- {words}." for words in differences(column, rows, others)]
    lines += ["", "Other order than in the paper:", ""]
    other = [f"- {words}." for column, rows in pairs for words in disagreements(column, rows)]
    lines += other or ["- nowhere."]
    return "\n".join([*lines, "", f"`{command}`; {machine()}"])


def machine():
    """What the figures were measured on."""
    device = jax.devices()[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = f"{cores} cores of {processor()}" if device.platform == "cpu" else device.device_kind
    return f"{where}, jax {jax.__version__}, Python {platform.python_version()}."


def write_csv(path, table):
    """A line for each column and method."""
    with Replacement(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CSV.split())
        for column, rows in table.pairs:
            for method in methods_of(rows):
                found = figures(rows, method)
                percent = (found.mean, found.over_seeds, found.error, found.over_networks)
                about = [column.title, column.setting, column.architecture, method]
                here = [found.seeds, *(f"{100 * x:.3f}" for x in percent)]
                paper = column.paper.get(method, ("", ""))
                flags = " ".join(column.flags)
                writer.writerow([table.number, table.scale, *about, *here, *paper, flags])


def draw(path, table):
    """Bars of each method, here and in the paper."""
    methods, columns = methods_of_all(table), table.columns
    figure = matplotlib.figure.Figure(
        figsize=(3.4 * len(columns) + 2.4, 0.42 * len(methods) + 1.7), layout="constrained"
    )
    figure.suptitle(f"Table {table.number}, scale {table.scale}: test accuracy, %", fontsize=11)
    axes = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
    places = np.arange(len(methods))[::-1]
    for ax, (column, rows) in zip(axes, table.pairs, strict=True):
        found = [figures(rows, method) for method in methods]
        here = [(100 * f.mean, 100 * np.nan_to_num(f.over_seeds)) if f else (0, 0) for f in found]
        paper = [np.nan_to_num(column.paper.get(method, (0, 0))) for method in methods]
        means, deviations = zip(*here, strict=True)
        ax.barh(places + 0.2, means, 0.4, xerr=deviations, label="here, ± over seeds")
        means, deviations = zip(*paper, strict=True)
        ax.barh(places - 0.2, means, 0.4, xerr=deviations, label="paper, ± over networks")
        ax.set_yticks(places, methods, fontsize=8)
        ax.set_title(column.title, fontsize=9)
        ax.grid(axis="x", alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    with Replacement(path) as temporary:
        figure.savefig(temporary, dpi=150)
