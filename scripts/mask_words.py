"""The table of masks as Markdown, CSV and a picture."""

import csv

import matplotlib.figure
import numpy as np
from mask_table import (
    ARCHITECTURES,
    CELLS,
    ORDER,
    PLAIN,
    QUESTIONS,
    REAL,
    less_plain,
    means_of,
    rate_of,
    table_of,
    tests_of,
)
from table_files import machine

from ddpp_jax.storage import Replacement

COLUMNS = [
    "cell",
    "mask",
    "pruning",
    "seeds",
    "diverged",
    "kept",
    "loss",
    "mean",
    "error",
    "difference",
    "difference_error",
    "difference_low",
    "difference_high",
]
OF_TESTS = ["cell", "less", "seeds", "difference", "error", "low", "high", "p", "p_holm"]


def markdown(cells, lines, tests, command, *, own_teachers):
    """The tests, the table of every cell, and what other architectures find."""
    said = ["| data, IPC | ratio at threshold 0.1 less | points | 95 % | seeds | p | p, Holm |"]
    said += ["|---|---|---|---|---|---|---|"]
    for line in tests:
        points = with_error(line["difference"], line["error"], "+.2f")
        ps = ["" if np.isnan(line[name]) else f"{line[name]:.2g}" for name in ("p", "p_holm")]
        title = CELLS[line["cell"]][0]
        parts = [title, line["less"], points, interval(line), f"{line['seeds']}", *ps]
        said.append(f"| {' | '.join(parts)} |")
    said.append("")
    for cell, results in cells.items():
        own = [line for line in lines if line["cell"] == cell]
        rate = rate_of(cell)
        chosen = "" if rate is None else f", pixel rate {rate}, chosen for MTT on held-out images"
        said += [f"**{CELLS[cell][0]}** ({len(results)} seeds{chosen})", ""]
        said += ["| mask | prunes by | kept, % | loss of all | accuracy, % | less none |"]
        said += ["|---|---|---|---|---|---|"]
        for line in own:
            less = with_error(line["difference"], line["difference_error"], "+.2f")
            lost = len(results) - line["seeds"]
            accuracy = with_error(line["mean"], line["error"], ".2f")
            accuracy += f" ({lost} broke down)" if lost else ""
            accuracy += f" ({line['diverged']} networks diverged)" if line["diverged"] else ""
            parts = [line["mask"], line["pruning"]]
            parts += [known(100 * line["kept"], ".1f"), known(line["loss"], ".4f"), accuracy]
            parts += ["" if line["mask"] == PLAIN else less]
            said.append(f"| {' | '.join(parts)} |")
        said += ["", *other_networks(results), ""]
    tested = (
        "The first table holds what the table with shared teachers tests; here nothing is tested."
        if own_teachers
        else "The first table holds what was to be tested, by paired t-tests, corrected over the "
        f"{len(CELLS) * len(QUESTIONS)} questions of all cells (Holm); nothing else is tested."
    )
    teachers = (
        "Each seed has teachers of its own."
        if own_teachers
        else "All seeds have the same teachers, and what is told is told of these."
    )
    return "\n".join(
        [
            *said,
            f"± is the standard error over seeds, of differences that of the paired ones. {tested} "
            "At a threshold ratio and ratio-magnitude prune by their own rule, the others that "
            "rank parameters as many in each step as ratio would of their own student, random as "
            "many of each tensor; signs and learned keep what they keep, and of learned it is the "
            "mean weight. A share is the same for all. The loss is of all parameters, over the "
            f"last quarter of the steps. {teachers}",
            "",
            f"`{command}`; {machine()}",
        ]
    )


def known(value, form):
    """A number in words; nothing of an unknown one."""
    return "" if np.isnan(value) else format(value, form)


def interval(line):
    """Where a difference lies by Student's t, in points; nothing of one seed."""
    if np.isnan(line["low"]):
        return ""
    return f"{100 * line['low']:+.2f} to {100 * line['high']:+.2f}"


def with_error(mean, error, form):
    """A mean in percent and its standard error, where there is one; nothing of an unknown one."""
    if np.isnan(mean):
        return ""
    said = format(100 * mean, form)
    return said if np.isnan(error) else f"{said} ± {100 * error:.2f}"


def other_networks(results):
    """What networks of other architectures reach on the sets, by mask."""
    every = dict.fromkeys(case for found in results for case in found)
    names = [n for n in ARCHITECTURES if np.isfinite(means_of(results, (PLAIN, ""), n)).any()]
    cases = [case for case in every if all(less_plain(results, case, name) for name in names)]
    if not names:
        return []
    ways = "; ".join(
        f"{name} {' '.join(how) or 'at the learned alpha'}" for name, how in ARCHITECTURES.items()
    )
    lines = [f"Three networks each, 100 epochs, on the sets of threshold 0.1 ({ways}):", ""]
    lines += ["| mask | " + " | ".join(f"{name}, % | less none" for name in names) + " |"]
    lines += ["|---|" + "---|---|" * len(names)]
    for case in cases:
        parts = []
        for name in names:
            mean = 100 * np.nanmean(means_of(results, case, name))
            less = less_plain(results, case, name)
            words = with_error(less.mean, less.error, "+.2f")
            lost = int(np.nansum(means_of(results, case, f"{name} diverged")))
            lost = f" ({lost} diverged)" if lost else ""
            parts += [f"{mean:.1f}{lost}", "" if case[0] == PLAIN else words]
        lines.append(f"| {case[0]} | " + " | ".join(parts) + " |")
    return lines


def write_csv(path, columns, lines):
    """The lines of a table; shares, not percent."""
    with Replacement(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)


def draw(path, lines):
    """The difference to plain matching of every case, with its interval of 95 % by Student's t."""
    cells = list(dict.fromkeys(line["cell"] for line in lines))
    lines = [line for line in lines if line["mask"] not in (PLAIN, REAL)]
    shown = [case for case in ORDER if case in {(line["mask"], line["pruning"]) for line in lines}]
    place = {case: -number for number, case in enumerate(shown)}
    figure = matplotlib.figure.Figure(
        figsize=(3.2 * len(cells) + 2.6, 0.26 * len(shown) + 1.4), layout="constrained"
    )
    axes = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    for ax, cell in zip(axes, cells, strict=True):
        own = [line for line in lines if line["cell"] == cell]
        ax.axvline(0, color="0.6", linewidth=0.8)
        ax.errorbar(
            [100 * line["difference"] for line in own],
            [place[line["mask"], line["pruning"]] for line in own],
            xerr=[100 * (line["difference_high"] - line["difference"]) for line in own],
            fmt="o",
            markersize=4,
        )
        ax.set_yticks(list(place.values()), [" ".join(case).strip() for case in shown])
        ax.tick_params(labelsize=7)
        ax.set_title(CELLS[cell][0], fontsize=9)
        ax.set_xlabel("points less no mask, with 95 % intervals", fontsize=8)
        ax.grid(axis="x", alpha=0.3)
    with Replacement(path) as temporary:
        figure.savefig(temporary, dpi=150)


def make(place, results, command, *, own_teachers):
    """Leave the table's files, from what `run_cell` gave for each seed of a cell; its Markdown.

    The place is their path without a suffix.
    """
    folder, name = place.parent, place.name
    lines, tests = table_of(results), tests_of(results, own_teachers=own_teachers)
    text = markdown(results, lines, tests, command, own_teachers=own_teachers)
    with Replacement(folder / f"{name}.md") as temporary:
        temporary.write_text(text + "\n")
    write_csv(folder / f"{name}.csv", COLUMNS, lines)
    write_csv(folder / f"{name}-tests.csv", OF_TESTS, tests)
    draw(folder / f"{name}.png", lines)
    return f"\n{text}\n\nIn {folder}: {name}.md, {name}.csv, {name}-tests.csv, {name}.png"
