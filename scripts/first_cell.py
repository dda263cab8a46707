"""The paper's first cell, from runs of `python -m ddpp_jax.distill cifar10-ipc1-cpu`.

`python scripts/first_cell.py RUN RUN ... --out curve.png` reads what runs of several seeds, and of
several numbers of teachers, evaluated on the way. It prints accuracy by step with the difference of
DDPP and MTT, paired by seed, and draws it beside the published figures; with several numbers of
teachers also accuracy against their number, at the last step that all runs have.
"""

import argparse
import json
import sys
from pathlib import Path

import matplotlib.figure
import numpy as np
from table_files import DDPP, MTT, difference_words, spread_words
from tables import PAPER

from ddpp_jax.progress import read_metrics
from ddpp_jax.results import paired_difference
from ddpp_jax.storage import Replacement

CELL = ("1", "cifar10-ipc1")


def curve_of(path):
    """Accuracies by step, where a set was evaluated."""
    rows = read_metrics(path)
    return {row["step"]: row["accuracy"] for row in rows if row.get("accuracy") is not None}


def read(folder):
    """Teachers, seed, curves and other settings of one run; None for what is no such run."""
    if not (folder / "config.json").exists() or not (folder / "mtt" / "metrics.jsonl").exists():
        return None
    config = json.loads((folder / "config.json").read_text())["config"]
    curves = {DDPP: curve_of(folder / "metrics.jsonl")}
    curves[MTT] = curve_of(folder / "mtt" / "metrics.jsonl")
    teachers, seed = config["teaching"].pop("teachers"), config.pop("seed")
    for free in ("steps", "eval_every"):
        config["distillation"].pop(free)
    config.pop("random_draws")
    return teachers, seed, curves, config


def gather(folders):
    """Curves of each method and seed, by the number of teachers."""
    found, settings = {}, None
    for folder in folders:
        run = read(folder)
        if run is None:
            sys.exit(
                f"scripts/first_cell.py: {folder} is no run of distill with MTT beside DDPP; name "
                "the folders of such runs"
            )
        teachers, seed, curves, own = run
        settings = settings or own
        if own != settings:
            sys.exit(
                f"scripts/first_cell.py: {folder} has other settings than {folders[0]}, beside "
                "teachers, seed and steps; name runs that share them"
            )
        by_seed = found.setdefault(teachers, {})
        if seed in by_seed:
            sys.exit(
                f"scripts/first_cell.py: {folder} is the second run of seed {seed} with {teachers} "
                "teachers; name one of them"
            )
        by_seed[seed] = curves
    return dict(sorted(found.items()))


def steps_of(by_seed):
    """The steps at which every run was evaluated."""
    every = [set(curve) for curves in by_seed.values() for curve in curves.values()]
    return sorted(set.intersection(*every))


def at(by_seed, method, step):
    """The accuracy of each seed."""
    return np.array([curves[method][step] for curves in by_seed.values()])


def table(found):
    """Accuracy by step in Markdown: mean over the seeds, ± deviation over them."""
    lines = [
        "| teachers | seeds | step | MTT | DDPP | DDPP less MTT |",
        "|---|---|---|---|---|---|",
    ]
    for teachers, by_seed in found.items():
        for step in steps_of(by_seed):
            mtt, ddpp = (at(by_seed, method, step) for method in (MTT, DDPP))
            less = paired_difference(ddpp, mtt)
            lines.append(
                f"| {teachers} | {len(by_seed)} | {step} | {spread_words(mtt)} | "
                f"{spread_words(ddpp)} | {difference_words(less)} |"
            )
    return "\n".join(lines)


def draw_against(ax, xs, columns, **style):
    """Means over seeds with their deviations."""
    deviations = [100 * own.std(ddof=1) if len(own) > 1 else 0 for own in columns]
    means = [100 * own.mean() for own in columns]
    ax.errorbar(xs, means, yerr=deviations, marker="o", markersize=4, capsize=2, **style)


def draw(path, found):
    """The picture of the table."""
    common = set.intersection(*(set(steps_of(by_seed)) for by_seed in found.values()))
    several = len(found) > 1 and bool(common)
    figure = matplotlib.figure.Figure(figsize=(9 if several else 5.5, 3.6), layout="constrained")
    axes = figure.subplots(1, 1 + several, squeeze=False, sharey=True)[0]
    for place, (teachers, by_seed) in enumerate(found.items()):
        steps = steps_of(by_seed)
        for method, line in ((MTT, "--"), (DDPP, "-")):
            columns = [at(by_seed, method, step) for step in steps]
            label = f"{method.split(' (')[0]}, {teachers} teachers"
            draw_against(axes[0], steps, columns, linestyle=line, color=f"C{place}", label=label)
    axes[0].set_xlabel("distillation steps")
    axes[0].set_ylabel("test accuracy, %")
    if several:
        step = max(common)
        for method, line in ((MTT, "--"), (DDPP, "-")):
            columns = [at(by_seed, method, step) for by_seed in found.values()]
            draw_against(axes[1], list(found), columns, linestyle=line, color="0.3", label=method)
        axes[1].set_xscale("log")
        axes[1].set_xticks(list(found), [str(teachers) for teachers in found], minor=False)
        axes[1].minorticks_off()
        axes[1].set_xlabel(f"teachers, after {step} steps")
    for ax in axes:
        for method, color in ((MTT, "0.6"), (DDPP, "0.3")):
            mean, _ = PAPER[CELL][method]
            label = f"{method.split(' (')[0]}, published"
            ax.axhline(mean, color=color, linewidth=0.8, linestyle=":", label=label)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=7, loc="lower right")
    with Replacement(path) as temporary:
        figure.savefig(temporary, dpi=120, format="png")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", type=Path, nargs="+", help="folders of runs")
    parser.add_argument("--out", type=Path, default=Path("curve.png"), help="of the picture")
    given = parser.parse_args()
    found = gather(given.runs)
    print(table(found))
    print("\n± of accuracies: the deviation over seeds; of differences: their standard error.")
    draw(given.out, found)


if __name__ == "__main__":
    main()
