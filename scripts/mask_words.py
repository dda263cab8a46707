"""The table of masks as Markdown, CSV and a picture."""

import csv

import matplotlib.figure
import numpy as np
from mask_table import (
    ARCHITECTURES,
    CELLS,
    ORDER,
    PLAIN,
    less_plain,
    means_of,
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
    "kept",
    "loss",
    "mean",
    "error",
    "difference",
    "difference_error",
]
OF_TESTS = ["cell", "less", "seeds", "difference", "error", "p", "p_holm"]


def markdown(cells, lines, tests, command, *, own_teachers):
    """The tests, the table of every cell, and what other architectures find."""
    said = ["| data, IPC | ratio at threshold 0.1 less | points | seeds | p | p, Holm |"]
    said += ["|---|---|---|---|---|---|"]
    for line in tests:
        points = with_error(line["difference"], line["error"], "+.2f")
        ps = ["" if np.isnan(line[name]) else f"{line[name]:.2g}" for name in ("p", "p_holm")]
        title = CELLS[line["cell"]][0]
        said.append(f"| {title} | {line['less']} | {points} | {line['seeds']} | {' | '.join(ps)} |")
    said.append("")
    for cell, results in cells.items():
        own = [line for line in lines if line["cell"] == cell]
        said += [f"**{CELLS[cell][0]}** ({len(results)} seeds)", ""]
        said += ["| mask | prunes by | kept, % | loss of all | accuracy, % | less none |"]
        said += ["|---|---|---|---|---|---|"]
        for line in own:
            less = with_error(line["difference"], line["difference_error"], "+.2f")
            lost = len(results) - line["seeds"]
            accuracy = with_error(line["mean"], line["error"], ".2f")
            accuracy += f" ({lost} broke down)" if lost else ""
            said.append(
                f"| {line['mask']} | {line['pruning']} | {100 * line['kept']:.1f} | "
                f"{line['loss']:.4f} | {accuracy} | {less if line['mask'] != PLAIN else ''} |"
            )
        said += ["", *other_networks(results), ""]
    teachers = (
        "Each seed has teachers of its own."
        if own_teachers
        else "All seeds have the same teachers, and what is told is told of these."
    )
    return "\n".join(
        [
            *said,
            "± is the standard error over seeds, of differences that of the paired ones. The first "
            "table holds what was to be tested, by paired t-tests, corrected over all of its lines "
            "(Holm); nothing else is tested. At a threshold ratio and ratio-magnitude prune by "
            "their own rule, the others that rank parameters as many in each step as ratio would "
            "of their own student, random as many of each tensor; signs and learned keep what they "
            f"keep. A share is the same for all. The loss is of all parameters. {teachers}",
            "",
            f"`{command}`; {machine()}",
        ]
    )


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
    lines = ["| mask | " + " | ".join(f"{name}, % | less none" for name in names) + " |"]
    lines += ["|---|" + "---|---|" * len(names)]
    for case in cases:
        parts = []
        for name in names:
            mean = 100 * np.nanmean(means_of(results, case, name))
            less = less_plain(results, case, name)
            words = with_error(less.mean, less.error, "+.2f")
            parts += [f"{mean:.1f}", "" if case[0] == PLAIN else words]
        lines.append(f"| {case[0]} | " + " | ".join(parts) + " |")
    return lines


def write_csv(path, columns, lines):
    """The lines of a table; shares, not percent."""
    with Replacement(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, columns)
        writer.writeheader()
        writer.writerows(lines)


def draw(path, lines):
    """The difference to plain matching of every case, with twice its standard error."""
    cells = list(dict.fromkeys(line["cell"] for line in lines))
    known = {(line["mask"], line["pruning"]) for line in lines if line["mask"] != PLAIN}
    shown = [case for case in ORDER if case in known]
    place = {case: -number for number, case in enumerate(shown)}
    figure = matplotlib.figure.Figure(
        figsize=(3.2 * len(cells) + 2.6, 0.26 * len(shown) + 1.4), layout="constrained"
    )
    axes = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    for ax, cell in zip(axes, cells, strict=True):
        own = [line for line in lines if line["cell"] == cell and line["mask"] != PLAIN]
        ax.axvline(0, color="0.6", linewidth=0.8)
        ax.errorbar(
            [100 * line["difference"] for line in own],
            [place[line["mask"], line["pruning"]] for line in own],
            xerr=[200 * line["difference_error"] for line in own],
            fmt="o",
            markersize=4,
        )
        ax.set_yticks(list(place.values()), [" ".join(case).strip() for case in shown])
        ax.tick_params(labelsize=7)
        ax.set_title(CELLS[cell][0], fontsize=9)
        ax.set_xlabel("points of accuracy less no mask", fontsize=8)
        ax.grid(axis="x", alpha=0.3)
    with Replacement(path) as temporary:
        figure.savefig(temporary, dpi=150)


def make(folder, results, command, *, own_teachers):
    """Leave the table's files, from what `run_cell` gave for each seed of a cell; its Markdown."""
    name = "masks-own-teachers" if own_teachers else "masks"
    lines, tests = table_of(results), tests_of(results)
    text = markdown(results, lines, tests, command, own_teachers=own_teachers)
    with Replacement(folder / f"{name}.md") as temporary:
        temporary.write_text(text + "\n")
    write_csv(folder / f"{name}.csv", COLUMNS, lines)
    write_csv(folder / f"{name}-tests.csv", OF_TESTS, tests)
    draw(folder / f"{name}.png", lines)
    return f"\n{text}\n\nIn {folder}: {name}.md, {name}.csv, {name}-tests.csv, {name}.png"
