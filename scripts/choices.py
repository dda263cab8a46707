"""Settings chosen on held-out training images, as many tried for each, and what they bring.

Started by scripts/choices. `methods` tries five pixel rates of every method; `parts` tries five
values of what each part of trajectory matching adds, beside matching alone. A tenth of the training
images is kept apart, and three networks trained on a set are evaluated on them. With --seeds, what
was chosen is then distilled from all training images with each seed, evaluated on the test set, and
compared with MTT, paired by seed. A run that is complete is not started again, and several
processes may share the work.
"""

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mask_table import with_error
from table_files import machine
from tables import Runner, each

from ddpp_jax.configs import setting
from ddpp_jax.errors import InputError
from ddpp_jax.results.statistics import paired_difference, spread
from ddpp_jax.storage import Leases, Replacement, claimed_folder, read_json

CELLS = {
    "digits": "digits",
    "cifar10-ipc1": "cifar10-small-ipc1",
    "cifar10-ipc10": "cifar10-small-ipc10",
}
FACTORS = (1 / 9, 1 / 3, 1, 3, 9)
SEED = 100
"""Of the distillations that settings are chosen by; none that is compared has it."""
TRIED = ("--held-out", "0.1", "--networks", "3", "--no-baselines")
COMPARED = ("--eval-every", "0", "--no-baselines")
BASE = "MTT"


@dataclass(frozen=True)
class Entry:
    """What is tried.

    Attributes:
        title: in tables.
        method: of distillation.
        flags: what is fixed.
        knob: the setting that is chosen.
        values: that are tried, or how they follow from a named setting's values; by default the
            setting's own times `FACTORS`.
    """

    title: str
    method: str = "mtt"
    flags: tuple = ()
    knob: str = "pixel-rate"
    values: tuple | Callable | None = None

    def tries(self, named):
        """The values that are tried in a cell."""
        if isinstance(self.values, tuple):
            return self.values
        job = setting(named, self.method)
        if self.values is not None:
            return self.values(job)
        own = getattr(job.distillation, self.knob.replace("-", "_"))
        return tuple(float(f"{own * factor:.2g}") for factor in FACTORS)


def later_starts(job):
    """Five bounds of the start epochs, up to the last that the teachers have a target for."""
    most = job.teaching.epochs - job.distillation.target_epochs + 1
    return tuple(round(most * share / 7) for share in (3, 4, 5, 6, 7))


MATCHING = (Entry(BASE), Entry("DDPP", "ddpp"))
METHODS = (
    *MATCHING,
    Entry("DC", "dc"),
    Entry("DSA", "dsa"),
    Entry("DM", "dm"),
    Entry("CAFE", "cafe"),
    Entry("KIP", "kip"),
    Entry("RaT-BPTT", "bptt"),
)
PARTS = (
    *MATCHING,
    Entry(
        "flat teachers",
        flags=("--teacher-optimizer", "gsam"),
        knob="sam-rho",
        values=(0.003, 0.01, 0.03, 0.1, 0.3),
    ),
    Entry(
        "growing start epochs",
        flags=("--early-start-epoch", "2", "--growth-steps", "100"),
        knob="max-start-epoch",
        values=later_starts,
    ),
    Entry("start images", flags=("--start-images", "correct")),
    Entry("nearest step", flags=("--match", "nearest")),
    Entry("averaged images", knob="image-average", values=(0.5, 0.8, 0.9, 0.95, 0.98)),
    Entry("skipped steps", knob="skip-above", values=(0.6, 0.7, 0.8, 0.9, 1.0)),
    Entry(
        "Adam",
        flags=("--optimizer", "adam", "--momentum", "0.9", "--alpha-rate", "0.03"),
        values=(0.01, 0.03, 0.1, 0.3, 1.0),
    ),
    Entry("learned labels", flags=("--learn-labels",), knob="label-rate"),
    Entry("RaT-BPTT", "bptt"),
)
ENTRIES = {"methods": METHODS, "parts": PARTS}


def held_out(folder):
    """The last accuracy on held-out images of a run."""
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [row["held_out_accuracy"] for row in rows if "held_out_accuracy" in row][-1]


def flags_of(entry, value, base_rate):
    """The flags of an entry; what it does not choose itself stands as chosen for MTT."""
    rate = () if base_rate is None or entry.knob == "pixel-rate" else ("--pixel-rate", base_rate)
    return ("--method", entry.method, *merged((*rate, *entry.flags, f"--{entry.knob}", value)))


def name_of(kind, cell, entry, value, seed):
    """Of a run's folder."""
    title = re.sub(r"\W+", "-", entry.title.lower())
    return f"{kind}-{cell}-{title}-{entry.knob}-{value:g}-seed{seed}"


def attempt(runner, cell, entry, value, base_rate):
    """The accuracy on held-out images of one try."""
    named = CELLS[cell]
    steps = setting(named, entry.method).distillation.steps
    flags = (*flags_of(entry, value, base_rate), *TRIED, "--eval-every", str(steps))
    name = name_of("try", cell, entry, value, SEED)
    return held_out(runner.call(name, "distill", named, *flags, "--seed", str(SEED)))


def choose(runner, cell, entries):
    """Of each entry the accuracy of every value, tried with the pixel rate chosen for MTT."""

    def tried(entry, base_rate):
        values = entry.tries(CELLS[cell])
        return each(values, lambda value: attempt(runner, cell, entry, value, base_rate))

    found = {BASE: tried(entries[0], None)}
    base_rate = best(found[BASE])
    others = each(
        entries[1:],
        lambda entry: tried(entry, base_rate if entry.method in ("mtt", "ddpp") else None),
    )
    return found | {entry.title: outcome for entry, outcome in others.items()}


def best(tries):
    return max(tries, key=tries.get)


def merged(flags):
    """Flags of which the last of each name stands, in the order of their names."""
    found, name = {}, ""
    for word in map(str, flags):
        if word.startswith("--"):
            name, found[word] = word, ()
        else:
            found[name] = (word,)
    return tuple(word for name, value in found.items() for word in (name, *value))


def combined(entries, tries):
    """All parts that gain, together, by MTT and with pruning, as (entry, value).

    None where fewer than two do. Where several choose the same setting, the last one's stands.
    """
    plain = max(tries[BASE].values())
    parts = [e for e in entries[1:] if e.method == "mtt" and max(tries[e.title].values()) > plain]
    if len(parts) < 2:
        return []
    flags = ("--pixel-rate", best(tries[BASE]))
    for part in parts:
        flags += (*part.flags, f"--{part.knob}", best(tries[part.title]))
    words, last = " + ".join(part.title for part in parts), parts[-1]
    flags, value = merged(flags), best(tries[last.title])
    return [
        (Entry(words, flags=flags, knob=last.knob), value),
        (Entry(f"{words} + pruning", "ddpp", flags, last.knob), value),
    ]


def accuracies(runner, cell, entry, value, base_rate, seeds):
    """Test accuracies of the networks of each seed."""
    found = []
    for seed in seeds:
        flags = (*flags_of(entry, value, base_rate), *COMPARED, "--seed", str(seed))
        run = runner.call(name_of("run", cell, entry, value, seed), "distill", CELLS[cell], *flags)
        found.append(np.asarray(read_json(run / "result.json")["rows"][0]["accuracies"]))
    return found


def compare(runner, cell, entries, tries, seeds):
    """Of each entry, and of what gains together, the accuracies of each seed."""
    base_rate = best(tries[BASE])
    chosen = [(entry, best(tries[entry.title])) for entry in entries]
    chosen += combined(entries, tries)

    def run(pair):
        entry, value = pair
        rate = base_rate if entry.method in ("mtt", "ddpp") else None
        return accuracies(runner, cell, entry, value, rate, seeds)

    return {entry.title: found for (entry, _), found in each(chosen, run).items()}


def tried_lines(cell, entries, tries):
    """A row of Markdown for each entry, with what was chosen in bold."""
    lines = []
    for entry in entries:
        own = tries[entry.title]
        figures = []
        for value, found in own.items():
            mark = "**" if value == best(own) else ""
            figures.append(f"{mark}{value:g}: {100 * found:.1f}{mark}")
        lines.append(f"| {cell} | {entry.title} | `--{entry.knob}` | {', '.join(figures)} |")
    return lines


def compared_lines(cell, found):
    """A row for each entry: its accuracy over the seeds, and what it has over MTT."""
    lines = []
    means = {title: np.array([own.mean() for own in seeds]) for title, seeds in found.items()}
    for title, seeds in found.items():
        own = spread(seeds)
        less = paired_difference(means[title], means[BASE])
        told = "" if title == BASE else with_error(less.mean, less.error, "+.1f")
        over = f"{100 * own.mean:.1f} ± {100 * own.over_seeds:.1f}"
        lines.append(f"| {cell} | {title} | {over} | {told} | {'yes' if less.stands else 'no'} |")
    return lines


def make(given, runner):
    """All that was asked for, as Markdown."""
    entries = [e for e in ENTRIES[given.what] if not given.only or e.title in given.only]
    tries = {cell: choose(runner, cell, entries) for cell in given.cells}
    said = ["| data, IPC | what | chosen | held-out accuracy by value, % |", "|---|---|---|---|"]
    said += [line for cell, own in tries.items() for line in tried_lines(cell, entries, own)]
    if given.seeds:
        many = f"{len(given.seeds)} seeds"
        said += ["", f"| data, IPC | what | test, % ({many}) | less {BASE} | told |"]
        said += ["|---|---|---|---|---|"]
        for cell, own in tries.items():
            said += compared_lines(cell, compare(runner, cell, entries, own, given.seeds))
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
    if SEED in given.seeds:
        parser.error(f"--seeds has {SEED}, which settings are chosen with; leave it out")
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
    try:
        claim = claimed_folder(given.out, {"choices": 1}, name="choices.json", shared=True)
        with claim, Leases(given.out / "leases") as leases:
            text = make(given, Runner(given.out, given.data_dir, leases))
            with Replacement(given.out / f"{given.what}.md") as temporary:
                temporary.write_text(text + "\n")
            print(f"\n{text}")
    except InputError as error:
        sys.exit(f"scripts/choices: {error}")
    except subprocess.CalledProcessError as error:
        sys.exit(f"a command left with status {error.returncode}; then this one goes on from here")
    except KeyboardInterrupt:
        sys.exit("interrupted; the same command goes on from here")


if __name__ == "__main__":
    main()
