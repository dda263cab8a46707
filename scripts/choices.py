"""Settings chosen on held-out training images, as many tried for each, and what they bring.

Started by scripts/choices. `methods` tries five pixel rates of every method; `parts` tries five
values of what each part of trajectory matching adds, beside matching alone. A tenth of the training
images is kept apart, and three networks trained on a set are evaluated on them. With --seeds, what
was chosen is then distilled from all training images with each seed, evaluated on the test set, and
compared with MTT, paired by seed. A run that is complete is not started again, and several
processes may share the work.
"""

import argparse
import re
from pathlib import Path

import numpy as np
from choice_entries import BASE, ENTRIES, best, combined, merged
from chosen import CELLS, Choice, read_chosen, write_chosen
from mask_table import holm, paired
from runner import Runner, each, resumable
from table_files import RANDOM, difference_words, machine, spread_words

from ddpp_jax.configs import setting
from ddpp_jax.errors import InputError
from ddpp_jax.planning.problem import TEACHERS
from ddpp_jax.storage import (
    Replacement,
    digest_of,
    read_json,
)

SEED, SECOND = 100, 101
"""Of the distillations that settings are chosen by, and of those by which parts are joined.

None that is compared has them.
"""
AT_THE_END = ("--eval-every", "0")
TRIED = ("--held-out", "0.1", "--networks", "3", "--no-baselines", *AT_THE_END)


def held_out(folder):
    """The accuracy on held-out images of a run's set; of KIP by networks, not by its kernel."""
    return read_json(folder / "result.json")["rows"][0]["held_out_mean"]


def flags_of(entry, value, base_rate):
    """The flags of an entry; what it does not choose itself stands as chosen for MTT."""
    rate = () if base_rate is None or entry.knob == "pixel-rate" else ("--pixel-rate", base_rate)
    return ("--method", entry.method, *merged((*rate, *entry.flags, f"--{entry.knob}", value)))


def name_of(kind, cell, entry, flags, seed):
    """Of a run's folder; other flags have another."""
    title = re.sub(r"\W+", "-", entry.title.lower())
    digest = digest_of({"flags": list(flags)})
    return f"{kind}-{cell}-{title}-{digest[:8]}-seed{seed}"


def attempts(runner, cell, entry, base_rate):
    """The accuracy on held-out images of every try; 0 where a distillation breaks down.

    Values that may differ between distillations side by side are tried so, which takes less time.
    """
    named, vary = CELLS[cell]
    values = entry.tries(named)
    if entry.knob not in setting(named, entry.method).distillation.SWEPT:
        return in_order(values, lambda value: attempt(runner, cell, entry, value, base_rate))
    swept = ("--sweep", f"{entry.knob}={','.join(f'{value:g}' for value in values)}")
    flags = (*vary, *flags_of(entry, values[0], base_rate), *TRIED, *swept)
    name = name_of("try", cell, entry, flags, SEED)
    run = runner.attempt(name, named, *flags, "--seed", str(SEED))
    rows = [] if run is None else read_json(run / "result.json")["rows"]
    found = {float(row["value"]): row["held_out_mean"] for row in rows}
    return {value: found.get(value, 0.0) for value in values}


def attempt(runner, cell, entry, value, base_rate, seed=SEED):
    """The accuracy on held-out images of one try; 0 where the distillation breaks down."""
    named, vary = CELLS[cell]
    flags = (*vary, *flags_of(entry, value, base_rate), *TRIED)
    name = name_of("try", cell, entry, flags, seed)
    run = runner.attempt(name, named, *flags, "--seed", str(seed))
    return 0.0 if run is None else held_out(run)


def in_order(keys, fn):
    """What a function gives for each key, whichever was ready first."""
    found = each(keys, fn)
    return {key: found[key] for key in keys}


def choose(runner, cell, entries):
    """Of each entry the accuracy of every value, tried with the pixel rate chosen for MTT."""

    def tried(entry, base_rate=None):
        rate = base_rate if entry.method in ("mtt", "ddpp") else None
        return attempts(runner, cell, entry, rate)

    found = in_order(entries[:1], tried)
    base_rate = best(found[entries[0]])
    found |= in_order(entries[1:], lambda entry: tried(entry, base_rate))
    return {entry.title: outcome for entry, outcome in found.items()}


def again(runner, cell, entries, tries):
    """The accuracy on held-out images of what was chosen, with another seed; of MTT and its parts.

    A part whose own setting is tried starts from the best of MTT's rates and takes the best of five
    once more, which is ahead by chance alone. With another seed it no longer is.
    """
    base_rate = best(tries[BASE])

    def tried(entry):
        return attempt(runner, cell, entry, best(tries[entry.title]), base_rate, SECOND)

    found = in_order([entry for entry in entries if entry.method == "mtt"], tried)
    return {entry.title: accuracy for entry, accuracy in found.items()}


def accuracies(runner, cell, entry, value, base_rate, seeds):
    """Test accuracies of the networks of each seed, by the title of a row.

    NaN for a seed whose distillation breaks down.
    """
    beside = {
        title: f"{title} ({entry.title})" if entry.joined else title for title in entry.beside
    }
    found = {title: [] for title in (entry.title, *beside.values())}
    named, vary = CELLS[cell]
    baselines = ("--random-draws", "3") if entry.beside else ("--no-baselines",)
    own = (*vary, *flags_of(entry, value, base_rate), *AT_THE_END, *baselines)
    for seed in seeds:
        name = name_of("run", cell, entry, own, seed)
        run = runner.attempt(name, named, *own, "--seed", str(seed))
        rows = [] if run is None else read_json(run / "result.json")["rows"]
        rows = {row["method"]: np.asarray(row["accuracies"]) for row in rows}
        for title, shown in beside.items():
            found[shown].append(rows.get(title, np.array([np.nan])))
        sets = [one for title, one in rows.items() if title not in (RANDOM, *beside, TEACHERS)]
        found[entry.title].append(sets[0] if sets else np.array([np.nan]))
    return found


def compare(runner, cell, entries, tries, seeds):
    """Of each entry, and of what gains together, the accuracies of each seed.

    Entries of which every try broke down are left out.

    Raises:
        InputError: every try of MTT broke down, with which all are compared.
    """
    if max(tries[BASE].values()) == 0:
        raise InputError(f"every try of {BASE} on {cell} broke down; leave the cell out of --cells")
    base_rate = best(tries[BASE])
    tried = [entry for entry in entries if max(tries[entry.title].values()) > 0]
    chosen = [(entry, best(tries[entry.title])) for entry in tried]
    if any(entry.method == "mtt" for entry in tried[1:]):
        chosen += combined(tried, tries, again(runner, cell, tried, tries))

    def run(pair):
        entry, value = pair
        rate = base_rate if entry.method in ("mtt", "ddpp") else None
        return accuracies(runner, cell, entry, value, rate, seeds)

    return {title: own for rows in in_order(chosen, run).values() for title, own in rows.items()}


def tried_lines(cell, entries, tries):
    """A row of Markdown for each entry, with what was chosen in bold, and whether at an edge."""
    lines = []
    for entry in entries:
        own = tries[entry.title]
        figures = []
        edge = ", at an edge" if max(own.values()) and best(own) in (min(own), max(own)) else ""
        for value, found in own.items():
            mark = "**" if value == best(own) else ""
            figures.append(f"{mark}{value:g}: {100 * found:.1f}{mark}")
        lines.append(f"| {cell} | {entry.title} | `--{entry.knob}`{edge} | {', '.join(figures)} |")
    return lines


def compared_lines(found):
    """A row for each cell and entry: accuracy over the seeds, and what it has over MTT."""
    lines, values = [], []
    for cell, of_cell in found.items():
        means = {title: np.array([own.mean() for own in seeds]) for title, seeds in of_cell.items()}
        for title, own in means.items():
            less, _, p = paired(own, means[BASE])
            values.append(p)  # Of MTT itself there is none.
            words = "" if title == BASE or less is None else difference_words(less)
            lines.append(f"| {cell} | {title} | {spread_words(own)} | {words} |")
    return [
        f"{line} {p:.2g} |" if np.isfinite(p) else f"{line} |"
        for line, p in zip(lines, holm(values), strict=True)
    ]


def choices_of(entries, tries):
    """What was chosen for each method of each cell, for `scripts/tables`."""
    return [
        Choice(
            *(cell, entry.method, entry.knob, f"{best(own):g}", f"{len(own)}"),
            f"{100 * max(own.values()):.1f}",
        )
        for cell in tries
        for entry in entries[cell]
        if max((own := tries[cell][entry.title]).values()) > 0
    ]


def make(given, runner):
    """All that was asked for, as Markdown."""
    entries = {
        cell: [
            entry
            for entry in ENTRIES[given.what]
            if cell in entry.cells and (not given.only or entry.title in given.only)
        ]
        for cell in given.cells
    }
    for cell, own in entries.items():
        if given.only and {entry.title for entry in own} != set(given.only):
            lacking = ", ".join(set(given.only) - {entry.title for entry in own})
            raise InputError(f"{lacking} is not tried on {cell}; leave it out of --only or --cells")
    tries = {cell: choose(runner, cell, own) for cell, own in entries.items()}
    if given.what == "methods":
        left = runner.folder / "chosen.csv"
        write_chosen(left, [*read_chosen(left).values(), *choices_of(entries, tries)])
    said = ["| data, IPC | what | chosen | held-out accuracy by value, % |", "|---|---|---|---|"]
    said += [line for cell, own in tries.items() for line in tried_lines(cell, entries[cell], own)]
    if given.seeds:
        found = {
            cell: compare(runner, cell, entries[cell], own, given.seeds)
            for cell, own in tries.items()
        }
        many = f"{len(given.seeds)} seed{'s' if len(given.seeds) > 1 else ''}"
        said += ["", f"| data, IPC | what | test, % ({many}) | less {BASE} | p, Holm |"]
        said += ["|---|---|---|---|---|", *compared_lines(found), ""]
        said += ["± of accuracies: the deviation over seeds; of differences: the standard error of"]
        said += ["paired differences. p by paired t-tests, corrected over the whole table (Holm)."]
        said += [
            "Joined is what gained on held-out images, with a second seed too; with pruning at"
        ]
        said += ["the pixel rate chosen for DDPP, if it was tried, unless a joined part chose one."]
        said += ["Random images have the rate of the named setting."]
    said += ["", "All else is as the named setting has it, which was picked by hand for MTT and"]
    said += ["DDPP and is published, or shortened to what two cores can do, for other methods;"]
    said += ["their steps take different times."]
    return "\n".join([*said, "", machine()])


def parse():
    parser = argparse.ArgumentParser(prog="scripts/choices", description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=ENTRIES)
    parser.add_argument("--data-dir", required=True, help="folder that holds the datasets")
    cells = ",".join(CELLS)
    parser.add_argument("--cells", default=cells, help=f"by default {cells}")
    parser.add_argument("--only", nargs="*", default=[], help=f"titles of rows beside {BASE}")
    parser.add_argument("--seeds", default="", help="to compare with, joined by commas")
    parser.add_argument("--out", type=Path, default=Path("runs/choices"))
    given = parser.parse_args()
    if not re.fullmatch(r"(\d+(,\d+)*)?", given.seeds):
        parser.error(f"--seeds is {given.seeds!r}; wanted whole numbers joined by commas")
    given.seeds = list(dict.fromkeys(map(int, given.seeds.split(",")))) if given.seeds else []
    if own := [seed for seed in (SEED, SECOND) if seed in given.seeds]:
        parser.error(f"--seeds has {own[0]}, which settings are chosen with; leave it out")
    given.cells = given.cells.split(",")
    if wrong := [cell for cell in given.cells if cell not in CELLS]:
        parser.error(f"--cells has {wrong[0]!r}; wanted some of {cells}")
    titles = [entry.title for entry in ENTRIES[given.what]]
    if wrong := [title for title in given.only if title not in titles]:
        parser.error(f"--only has {wrong[0]!r}; wanted some of {', '.join(titles)}")
    given.only = given.only and [BASE, *given.only]
    return given


def main():
    given = parse()

    def work(leases):
        text = make(given, Runner(given.out, given.data_dir, leases))
        with Replacement(given.out / f"{given.what}.md") as temporary:
            temporary.write_text(text + "\n")
        return f"\n{text}"

    resumable("choices", given.out, {"choices": 1}, work)


if __name__ == "__main__":
    main()
