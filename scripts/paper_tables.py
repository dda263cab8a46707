"""Tables 1, 3 and 4 of the paper, from commands that are run cell by cell.

Started by scripts/table1, table3 and table4. A cell that is complete is not run again, and a
command that was killed goes on, so a killed table goes on too. Leaves tableN.md, tableN.csv and
tableN.png in the folder of the runs.
"""

import argparse
import csv
import dataclasses
import os
import platform
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import jax
import matplotlib.figure
import numpy as np
from paper_figures import MTT, OURS, RANDOM, TABLE1, TABLE3, TABLE4

import ddpp_jax
from ddpp_jax.configs import SETTINGS
from ddpp_jax.errors import InputError
from ddpp_jax.results import spread, tables
from ddpp_jax.storage import Replacement, claimed_folder, read_json, write_json

SELECTIONS = ("random", "forgetting", "forgetting-least", "herding", "k-centre")
# What all rows of a column share, whichever command they come from.
SAME = {"architecture": None, "ipc": None, "iterate": None, "settings": None}
SMALL_JUDGE = ("--networks", "3", "--eval-epochs", "100")
CSV = (
    "table scale column setting network method seeds mean over_seeds standard_error over_networks "
    "paper_mean paper_std judged_with"
)


@dataclass(frozen=True)
class Column:
    """What one column of a table is made from."""

    title: str
    setting: str
    paper: dict
    architecture: str = "convnet"
    judge: tuple = ()  # Flags of an evaluation of its own; without them the run's is taken.


COLUMNS = {
    ("1", "small"): [
        Column(f"CIFAR-10, {ipc}", f"cifar10-small-ipc{ipc}", TABLE1["cifar10", ipc])
        for ipc in (1, 10)
    ],
    ("1", "paper"): [
        Column(f"{title}, {ipc}", f"{dataset}-ipc{ipc}", TABLE1[dataset, ipc])
        for title, dataset in (("CIFAR-10", "cifar10"), ("CIFAR-100", "cifar100"))
        for ipc in (1, 10, 50)
    ],
    # At the small scale AlexNet, which normalises nothing, stays at chance at the learned alpha.
    ("3", "small"): [
        Column(
            name,
            "cifar10-small-ipc10",
            TABLE3[name],
            architecture=name,
            judge=(*SMALL_JUDGE, *(("--rate", "0.01") if name == "alexnet" else ())),
        )
        for name in TABLE3
    ],
    ("3", "paper"): [
        Column(
            name,
            "cifar10-ipc10",
            TABLE3[name],
            architecture=name,
            judge=("--eval-epochs", "1000"),
        )
        for name in TABLE3
    ],
    ("4", "small"): [Column(f"CXR, {ipc}", f"cxr-small-ipc{ipc}", TABLE4[ipc]) for ipc in (1, 5)],
    ("4", "paper"): [Column(f"CXR, {ipc}", f"cxr-ipc{ipc}", TABLE4[ipc]) for ipc in (1, 5, 10, 20)],
}


class Runner:
    """Runs commands, each once."""

    def __init__(self, folder, data_dir):
        self.folder, self.data_dir = folder, data_dir

    def call(self, name, module, setting, *flags):
        """Run one command, unless it was complete before; the folder of its results."""
        out, mark = self.folder / name, self.folder / "done" / f"{name}.json"
        named = (setting,) if module in ("distill", "select") else ()
        command = [f"ddpp_jax.{module}", *named, *flags]
        command += ["--data-dir", self.data_dir, "--out", str(out)]
        cell = {"command": command, "version": ddpp_jax.__version__}
        cell["settings"] = dataclasses.asdict(SETTINGS[setting])
        left = out / ("distilled.safetensors" if module == "select" else "result.json")
        if not (left.exists() and mark.exists() and read_json(mark) == cell):
            print(f"\n== {name}", flush=True)
            subprocess.run([sys.executable, "-m", *command], check=True)
            write_json(mark, cell)
        return out


def rows_of(folder):
    return read_json(folder / "result.json")["rows"]


def distilled(runner, column, seed):
    """The folder of a distillation, which judges its sets too."""
    name = f"distill-{column.setting}-seed{seed}"
    flags = ("--seed", str(seed), "--random-draws", "0", "--eval-every", "0")
    return runner.call(name, "distill", column.setting, *flags)


def cells(runner, table, column, seed):
    """Every row of one column and seed."""
    run = distilled(runner, column, seed)
    if column.judge:
        name = f"judge-{column.setting}-{column.architecture}-seed{seed}"
        flags = (str(run / "mtt"), str(run), "--architectures", column.architecture, *column.judge)
        rows = rows_of(runner.call(name, "evaluate", column.setting, *flags))
        return [row | SAME | {"seed": seed} for row in rows]
    rows = rows_of(run)
    if table == "1":
        chosen = []
        for method in SELECTIONS:
            name = f"select-{method}-{column.setting}-seed{seed}"
            flags = ("--method", method, "--seed", str(seed))
            chosen.append(runner.call(name, "select", column.setting, *flags))
        name = f"judge-selected-{column.setting}-seed{seed}"
        found = runner.call(name, "evaluate", column.setting, *map(str, chosen))
        rows = rows_of(found) + rows
    return [row | SAME | {"seed": seed} for row in rows]


def methods_of(rows):
    return list(dict.fromkeys(row["method"] for row in rows))


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
    return "{:.1f} ± {:.1f}".format(*column.paper[method]) if method in column.paper else "-"


def disagreements(column, rows):
    """Where two methods stand in one order in the paper and in the other one here."""
    known = [m for m in methods_of(rows) if m in column.paper]
    for place, first in enumerate(known):
        for second in known[place + 1 :]:
            paper = column.paper[second][0] - column.paper[first][0]
            pair = [row for row in rows if row["method"] in (first, second)]
            here = figures(rows, second).mean - figures(rows, first).mean
            if paper * here < 0:
                compared = tables.comparisons(pair)
                words = tables.comparison_words(compared[0]) if compared else "one seed only"
                above = f"{second if paper > 0 else first} above {second if paper < 0 else first}"
                yield f"{column.title}: the paper has {above}; here {words}"


def compared(column, rows, methods):
    """Ours less each of the methods that this table compares it with."""
    for method in methods:
        pair = [row for row in rows if row["method"] in (method, OURS)]
        for found in tables.comparisons(pair):
            yield f"{column.title}: {tables.comparison_words(found)}"


def markdown(table, scale, columns, results, seeds, command):
    lines = [
        "| trained on | " + " | ".join(f"{c.title} | paper" for c in columns) + " |",
        "|---|" + "---|---|" * len(columns),
    ]
    for method in methods_of([row for rows in results for row in rows]):
        parts = (
            f"{cell_words(figures(rows, method))} | {paper_words(column, method)}"
            for column, rows in zip(columns, results, strict=True)
        )
        lines.append(f"| {method} | " + " | ".join(parts) + " |")
    lines += [
        "",
        f"Table {table} at the scale `{scale}`: test accuracy in %, mean over seeds "
        f"{', '.join(map(str, seeds))} ± sample deviation over the seeds (mean deviation over the "
        "networks of a seed). Distilled sets: the last. Paper: its own figures, ± over networks.",
        "",
    ]
    if any(column.judge for column in columns):
        judged = (f"{column.title} {' '.join(column.judge)}" for column in columns)
        lines += [f"Judged with: {'; '.join(judged)}; else as the setting and the sets say.", ""]
    pairs = list(zip(columns, results, strict=True))
    for column, rows in pairs:
        lines += [f"- {words}." for words in compared(column, rows, (RANDOM, MTT))]
    lines += ["", "Other order than in the paper:", ""]
    other = [f"- {words}." for column, rows in pairs for words in disagreements(column, rows)]
    lines += other or ["- nowhere."]
    return "\n".join([*lines, "", f"`{command}`; {machine()}"])


def machine():
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    device, model = jax.devices()[0], (models or [platform.machine()])[0]
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    where = f"{cores} cores of {model}" if device.platform == "cpu" else device.device_kind
    return f"{where}, jax {jax.__version__}, Python {platform.python_version()}."


def write_csv(path, table, scale, columns, results):
    with Replacement(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(CSV.split())
        for column, rows in zip(columns, results, strict=True):
            for method in methods_of(rows):
                found = figures(rows, method)
                percent = (found.mean, found.over_seeds, found.error, found.over_networks)
                about = [table, scale, column.title, column.setting, column.architecture, method]
                here = [found.seeds, *(f"{100 * x:.3f}" for x in percent)]
                paper = column.paper.get(method, ("", ""))
                writer.writerow([*about, *here, *paper, " ".join(column.judge)])


def draw(path, table, scale, columns, results):
    methods = methods_of([row for rows in results for row in rows])
    figure = matplotlib.figure.Figure(
        figsize=(3.4 * len(columns) + 2.4, 0.42 * len(methods) + 1.7), layout="constrained"
    )
    figure.suptitle(f"Table {table}, scale {scale}: test accuracy, %", fontsize=11)
    axes = figure.subplots(1, len(columns), sharex=True, sharey=True, squeeze=False)[0]
    places = np.arange(len(methods))[::-1]
    for ax, column, rows in zip(axes, columns, results, strict=True):
        found = [figures(rows, method) for method in methods]
        ours = [(100 * f.mean, 100 * np.nan_to_num(f.over_seeds)) if f else (0, 0) for f in found]
        paper = [column.paper.get(method, (0, 0)) for method in methods]
        means, deviations = zip(*ours, strict=True)
        ax.barh(places + 0.2, means, 0.4, xerr=deviations, label="here, ± over seeds")
        means, deviations = zip(*paper, strict=True)
        ax.barh(places - 0.2, means, 0.4, xerr=deviations, label="paper, ± over networks")
        ax.set_yticks(places, methods, fontsize=8)
        ax.set_title(column.title, fontsize=9)
        ax.grid(axis="x", alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    with Replacement(path) as temporary:
        figure.savefig(temporary, dpi=150)


def main():
    parser = argparse.ArgumentParser(
        prog=f"scripts/table{''.join(sys.argv[1:2])}", description=__doc__.splitlines()[0]
    )
    parser.add_argument("table", choices=("1", "3", "4"), help="which; scripts/tableN gives it")
    scales = ("small", "paper")
    parser.add_argument("--scale", choices=scales, default="small", help="by default small")
    parser.add_argument("--data-dir", required=True, help="folder that holds the datasets")
    parser.add_argument("--seeds", default="0,1,2", help="joined by commas; by default 0,1,2")
    parser.add_argument("--out", type=Path, help="by default runs/tables-SCALE")
    given = parser.parse_args()
    if not re.fullmatch(r"\d+(,\d+)*", given.seeds):
        parser.error(f"--seeds is {given.seeds!r}; wanted whole numbers joined by commas")
    columns = COLUMNS[given.table, given.scale]
    seeds = list(dict.fromkeys(map(int, given.seeds.split(","))))
    folder = given.out or Path(f"runs/tables-{given.scale}")
    name = f"table{given.table}"
    command = f"scripts/{name} --scale {given.scale} --data-dir DATA --seeds {given.seeds}"
    try:
        with claimed_folder(folder, {"tables": given.scale}, name="tables.json"):
            results = all_cells(Runner(folder, given.data_dir), given.table, columns, seeds)
            text = markdown(given.table, given.scale, columns, results, seeds, command)
            with Replacement(folder / f"{name}.md") as temporary:
                temporary.write_text(text + "\n")
            write_csv(folder / f"{name}.csv", given.table, given.scale, columns, results)
            draw(folder / f"{name}.png", given.table, given.scale, columns, results)
    except InputError as error:
        sys.exit(f"scripts/{name}: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"a command left with status {error.returncode}; then this one goes on from here")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")
    print(f"\n{text}\n\nIn {folder}: {name}.md, {name}.csv, {name}.png")


def all_cells(runner, table, columns, seeds):
    """The rows of every column, seed by seed, so that the columns share the seed's teachers."""
    results = [[] for _ in columns]
    for seed in seeds:
        for place, column in enumerate(columns):
            results[place] += cells(runner, table, column, seed)
    return results


if __name__ == "__main__":
    main()
