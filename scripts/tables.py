"""Tables 1 to 4 of the paper, and its masks compared, from commands that are run cell by cell.

Started by scripts/tables. A cell that is complete is not run again, and a command that was killed
goes on, so a killed table goes on too. Several processes, as of a job array, may make one table:
each takes cells that no other one is at work on. Leaves tableN.md, tableN.csv and tableN.png in the
folder of the runs. The paper's own figures (Li et al., 2024) stand in paper.csv.
"""

import argparse
import csv
import dataclasses
import re
import subprocess
import sys
from pathlib import Path

import mask_table
import mask_words
from chosen import HALF, choice_of, read_chosen
from runner import Runner, each, resumable
from table_files import DDPP, KIP, MTT, RANDOM, Column, Table, draw, markdown, write_csv

from ddpp_jax.storage import Replacement, read_json

OTHERS_OF = {"1": ("dsa", "dm", "cafe"), "2": ("kip",)}
"""Methods beside MTT and DDPP, by table."""
SELECTIONS = ("random", "forgetting", "forgetting-least", "herding", "k-centre")
METHODS = {
    "random": RANDOM,
    "forgetting": "forgetting (most forgotten)",
    "herding": "herding",
    "DSA": "DSA",
    "DM": "DM",
    "CAFE": "CAFE",
    "KIP": KIP,
    "MTT": MTT,
    "DDPP": DDPP,
    "full data": "full data (the teachers)",
}
"""The methods of paper.csv, as the commands call them in their results."""
# What all rows of a column share, whichever command they come from.
SAME = {"architecture": None, "ipc": None, "iterate": None, "settings": None}
ARCHITECTURES = ("convnet", "alexnet", "vgg11", "resnet18")
CHOSEN = read_chosen()
FEW_NETWORKS = ("--networks", "3", "--eval-epochs", "100")


def read_paper():
    """The paper's mean and deviation in %, by table, column and method."""
    found = {}
    with Path(__file__).with_name("paper.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            figures = (float(row["mean"]), float(row["deviation"] or "nan"))
            found.setdefault((row["table"], row["column"]), {})[METHODS[row["method"]]] = figures
    return found


PAPER = read_paper()


def of_setting(table, title, dataset, ipc, scale=""):
    """A column whose sets are evaluated by the run that distils them."""
    paper = PAPER[table, f"{dataset}-ipc{ipc}"]
    return Column(f"{title}, {ipc}", f"{dataset}{scale}-ipc{ipc}", paper)


def of_kernel(title, dataset, ipc, scale="", vary=()):
    """A column of Table 2, whose sets the same run distils and evaluates."""
    column = of_setting("2", title, dataset, ipc, scale)
    return dataclasses.replace(column, vary=vary)


def of_architecture(name, setting, *flags):
    """A column whose sets are evaluated once more, by another architecture."""
    return Column(name, setting, PAPER["3", name], architecture=name, flags=flags)


COLUMNS = {
    ("1", "small"): [of_setting("1", "CIFAR-10", "cifar10", ipc, "-small") for ipc in (1, 10)],
    ("1", "paper"): [
        of_setting("1", title, dataset, ipc)
        for title, dataset in (("CIFAR-10", "cifar10"), ("CIFAR-100", "cifar100"))
        for ipc in (1, 10, 50)
    ],
    # The paper has no digits; they are there since the kernel is cheap on 8x8 pixels.
    ("2", "small"): [
        Column("digits, 1", "digits", {}),
        of_kernel("CIFAR-10 at 16x16", "cifar10", 1, "-small", HALF),
    ],
    ("2", "paper"): [
        of_kernel(title, dataset, ipc)
        for title, dataset, many in (
            ("CIFAR-10", "cifar10", (1, 10, 50)),
            ("CIFAR-100", "cifar100", (1, 10)),
        )
        for ipc in many
    ],
    # At the small scale AlexNet, which normalises nothing, stays at chance at the learned alpha.
    ("3", "small"): [
        of_architecture(
            name,
            "cifar10-small-ipc10",
            *FEW_NETWORKS,
            *(("--rate", "0.01") if name == "alexnet" else ()),
        )
        for name in ARCHITECTURES
    ],
    ("3", "paper"): [
        of_architecture(name, "cifar10-ipc10", "--eval-epochs", "1000") for name in ARCHITECTURES
    ],
    ("4", "small"): [of_setting("4", "CXR", "cxr", ipc, "-small") for ipc in (1, 5)],
    ("4", "paper"): [of_setting("4", "CXR", "cxr", ipc) for ipc in (1, 5, 10, 20)],
}


OF_TABLE_1 = {
    (column.setting, column.vary) for scale in ("small", "paper") for column in COLUMNS["1", scale]
}


def rows_of(folder, seed):
    """The rows of a command's result, as those of one seed of a column."""
    return [row | SAME | {"seed": seed} for row in read_json(folder / "result.json")["rows"]]


def distillation(column, seed, method="ddpp", table=None):
    """What a `Runner` takes to distil the sets of a column and to evaluate them.

    Table 2 has no MTT, and so its runs of DDPP have none, unless Table 1 has the same ones.
    """
    flags = ("--seed", str(seed), "--random-draws", "0", "--eval-every", "0", *column.vary)
    if (choice := chosen_for(table, column, method)) is not None:
        flags = (*flags, f"--{choice.knob}", choice.value)
    name = column.setting + "".join(f"-{word}" for word in column.vary if word.isdecimal())
    without_mtt = table == "2" and (column.setting, column.vary) not in OF_TABLE_1
    if method == "ddpp" and (without_mtt or apart(table, column)):
        flags = (*flags, "--no-baselines")
    if method == "ddpp":
        return f"distill-{name}-seed{seed}", "distill", column.setting, *flags
    flags = ("--method", method, *flags)
    return f"distill-{method}-{name}-seed{seed}", "distill", column.setting, *flags


def chosen_for(table, column, method):
    """What was chosen on held-out images for a method; None where its named setting stands."""
    if table not in OTHERS_OF:
        return None
    return choice_of(CHOSEN, column.setting, column.vary, method)


def apart(table, column):
    """Whether MTT and DDPP have chosen settings that differ, so that no run can hold both."""
    own = [chosen_for(table, column, method) for method in ("mtt", "ddpp") if table == "1"]
    return len({one and (one.knob, one.value) for one in own}) > 1


def beside(table, column):
    """The methods that have a run of their own beside that of DDPP."""
    return (*OTHERS_OF.get(table, ()), *(("mtt",) if apart(table, column) else ()))


def cells(runner, table, column, seed):
    """Every row of one column and seed."""
    run = runner.call(*distillation(column, seed, table=table))
    if column.flags:
        name = f"evaluate-{column.setting}-{column.architecture}-seed{seed}"
        flags = (str(run / "mtt"), str(run), "--architectures", column.architecture, *column.flags)
        return rows_of(runner.call(name, "evaluate", column.setting, *flags), seed)
    if table == "2":
        return others(runner, table, column, seed) + rows_of(run, seed)
    if table != "1":
        return rows_of(run, seed)
    selected = []
    for method in SELECTIONS:
        name = f"select-{method}-{column.setting}-seed{seed}"
        flags = ("--method", method, "--seed", str(seed))
        selected.append(runner.call(name, "select", column.setting, *flags))
    name = f"evaluate-selected-{column.setting}-seed{seed}"
    evaluated = runner.call(name, "evaluate", column.setting, *map(str, selected))
    return rows_of(evaluated, seed) + others(runner, table, column, seed) + rows_of(run, seed)


def others(runner, table, column, seed):
    """The rows of the methods beside MTT and DDPP."""
    methods = beside(table, column)
    runs = [runner.call(*distillation(column, seed, method, table)) for method in methods]
    return [row for run in runs for row in rows_of(run, seed)]


def all_cells(runner, table, columns, seeds):
    """The rows of every column, seed by seed, so that the columns share the seed's teachers."""
    pairs = [(place, seed) for seed in seeds for place in range(len(columns))]
    found = each(pairs, lambda pair: cells(runner, table, columns[pair[0]], pair[1]))
    return [[row for seed in seeds for row in found[place, seed]] for place in range(len(columns))]


def show_costs(runner, table, columns, seed):
    """Print what each distillation of a table will take on this machine; start none."""
    for column in {column.setting: column for column in columns}.values():
        for method in ("ddpp", *beside(table, column)):
            name, *cell = distillation(column, seed, method, table)
            command, _ = runner.command(name, *cell)
            command = [sys.executable, "-m", *command, "--dry-run"]
            done = subprocess.run(command, capture_output=True, text=True)
            lines = (done.stderr if done.returncode else done.stdout).splitlines()
            times = [n for n, line in enumerate(lines) if line.startswith("Time:")]
            said = lines[-1:] if done.returncode else lines[min(times, default=len(lines)) :]
            title = column.setting if method == "ddpp" else f"{column.setting}, {method}"
            print("\n".join([f"== {title}", *said]))


def parse():
    parser = argparse.ArgumentParser(prog="scripts/tables", description=__doc__.splitlines()[0])
    tables = ("1", "2", "3", "4", "masks")
    parser.add_argument("table", choices=tables, help="which of the paper's, or masks")
    scales = ("small", "paper")
    parser.add_argument("--scale", choices=scales, default="small", help="by default small")
    parser.add_argument("--data-dir", required=True, help="folder that holds the datasets")
    parser.add_argument("--seeds", default="0,1,2", help="joined by commas; by default 0,1,2")
    parser.add_argument("--out", type=Path, help="by default runs/tables-SCALE")
    cells = ",".join(mask_table.CELLS)
    parser.add_argument("--cells", default=cells, help=f"of masks; by default {cells}")
    groups = ",".join(group.name for group in mask_table.GROUPS)
    parser.add_argument(
        "--groups", default=groups, help=f"of masks, by how much they prune; by default {groups}"
    )
    parser.add_argument(
        "--own-teachers", action="store_true", help="of masks: each seed has teachers of its own"
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what the distillations of a seed will take here"
    )
    given = parser.parse_args()
    if not re.fullmatch(r"\d+(,\d+)*", given.seeds):
        parser.error(f"--seeds is {given.seeds!r}; wanted whole numbers joined by commas")
    given.cells = given.cells.split(",")
    if wrong := [cell for cell in given.cells if cell not in mask_table.CELLS]:
        parser.error(f"--cells has {wrong[0]!r}; wanted some of {cells}")
    given.groups = given.groups.split(",")
    if wrong := [group for group in given.groups if group not in groups.split(",")]:
        parser.error(f"--groups has {wrong[0]!r}; wanted some of {groups}")
    if given.table == "masks" and mask_table.GROUPS[0].name not in given.groups:
        parser.error(f"--groups lacks {mask_table.GROUPS[0].name}, which all is compared with")
    of_masks = (
        given.own_teachers,
        given.cells != cells.split(","),
        given.groups != groups.split(","),
    )
    if given.table != "masks" and any(of_masks):
        parser.error("--cells, --groups and --own-teachers are of the table masks alone")
    if given.table == "masks" and (given.scale != "small" or given.dry_run):
        parser.error("masks are compared at the small scale, and have no --dry-run")
    given.out = given.out or Path(f"runs/tables-{given.scale}")
    return given


def chosen_words(table, columns):
    """Which settings were chosen for the columns of a table, of how many; nothing if none was."""
    said = [
        f"{column.title}: {method.upper()} `--{choice.knob} {choice.value}` of {choice.tries}"
        for column in columns
        for method in (*(("mtt",) if table == "1" else ()), "ddpp", *OTHERS_OF.get(table, ()))
        if (choice := chosen_for(table, column, method)) is not None
    ]
    if not said:
        return ""
    return f"\n\nChosen on held-out training images (`scripts/choices methods`): {'; '.join(said)}."


def make(given, columns, seeds, leases):
    """Run the cells of a table and leave its files; its Markdown."""
    runner, name = Runner(given.out, given.data_dir, leases), f"table{given.table}"
    results = all_cells(runner, given.table, columns, seeds)
    table = Table(given.table, given.scale, columns, results)
    command = f"scripts/tables {given.table} --scale {given.scale} --data-dir DATA"
    text = markdown(table, seeds, f"{command} --seeds {given.seeds}")
    text += chosen_words(given.table, columns)
    with Replacement(given.out / f"{name}.md") as temporary:
        temporary.write_text(text + "\n")
    write_csv(given.out / f"{name}.csv", table)
    draw(given.out / f"{name}.png", table)
    return f"\n{text}\n\nIn {given.out}: {name}.md, {name}.csv, {name}.png"


def make_masks(given, seeds, leases):
    """The masks compared; their Markdown."""
    own = " --own-teachers" if given.own_teachers else ""
    command = "scripts/tables masks --scale small --data-dir DATA"
    command += f" --seeds {given.seeds} --cells {','.join(given.cells)}"
    command += f" --groups {','.join(given.groups)}{own}"
    runner, teacher_seed = Runner(given.out, given.data_dir, leases), None if own else 0
    pairs = [(cell, seed) for seed in seeds for cell in given.cells]
    groups = [group for group in mask_table.GROUPS if group.name in given.groups]
    found = each(pairs, lambda pair: mask_table.run_cell(runner, *pair, teacher_seed, groups))
    results = {cell: [found[cell, seed] for seed in seeds] for cell in given.cells}
    of = [*(given.cells if len(given.cells) < len(mask_table.CELLS) else ())]
    of += [group.name for group in groups] if len(groups) < len(mask_table.GROUPS) else []
    name = "-".join(["masks", *(["own-teachers"] if own else []), *of])
    return mask_words.make(runner.folder / name, results, command, own_teachers=bool(own))


def main():
    given = parse()
    columns = COLUMNS.get((given.table, given.scale), [])
    seeds = list(dict.fromkeys(map(int, given.seeds.split(","))))
    if given.dry_run:
        show_costs(Runner(given.out, given.data_dir), given.table, columns, seeds[0])
        return

    def work(leases):
        if given.table == "masks":
            return make_masks(given, seeds, leases)
        return make(given, columns, seeds, leases)

    resumable("tables", given.out, {"tables": given.scale}, work)


if __name__ == "__main__":
    main()
