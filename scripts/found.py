"""How good the settings are that `distill` finds itself, over several datasets and seeds.

Started by scripts/found. For each dataset and seed it runs `python -m ddpp_jax.distill --dataset`
with no settings, then `select --method herding` with the settings that were found, evaluates that,
and prints two tables in Markdown: accuracies over the seeds, and what was found for each. Runs that
are there are taken as they are; the minutes that a command took are kept beside its run.
"""

import argparse
import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import shapes
from table_files import difference_words

from ddpp_jax.results import paired_difference, spread

METHODS = ("random real images", "herding", "MTT", "DDPP", "full data")
SHAPES = {
    "shapes-3-16": {"classes": 3, "size": 16, "count": 20},
    "shapes-10-8": {"classes": 10, "size": 8, "count": 2000},
    "shapes-20-32": {"classes": 20, "size": 32, "count": 200},
    "shapes-5-64-colour": {"classes": 5, "size": 64, "count": 150, "channels": 3},
    "shapes-10-28-tail": {"classes": 10, "size": 28, "count": 400, "tail": True},
}


def cases(data, out):
    """The flags of each dataset; those of `data` only where it is given."""
    found = {"digits": ["digits", "--auto"]}
    if data is not None:
        found |= {
            "Fashion-MNIST": ["--dataset", f"{data}/fashion_mnist_small.npz"],
            "CIFAR-10 small": ["cifar10-small-ipc1", "--auto", "--data-dir", f"{data}/tfds"],
            "CIFAR-10 small, IPC 10": [
                *("cifar10-small-ipc10", "--auto", "--data-dir", f"{data}/tfds")
            ],
        }
        for size in (32, 64):
            found[f"chest X-rays, {size}x{size}"] = [
                *("--dataset", f"{data}/chest_xray", "--image-size", str(size), "--channels", "1")
            ]
    return found | {name: ["--dataset", str(out / f"{name}.npz")] for name in SHAPES}


def write_shapes(name, out):
    """Make the file of a row of shapes, always the same."""
    if name in SHAPES:
        shapes.write(out / f"{name}.npz", **SHAPES[name])


def call(stage, *flags):
    """Run one command; what it printed."""
    command = [sys.executable, "-m", f"ddpp_jax.{stage}", *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return done.stdout


def rows_of(folder):
    """Accuracies of the networks in per cent, by method."""
    rows = json.loads((folder / "result.json").read_text())["rows"]
    return {row["method"].split(" (")[0]: 100 * np.asarray(row["accuracies"]) for row in rows}


class Outcome(NamedTuple):
    """What was found for one dataset and seed.

    Attributes:
        accuracies: of networks, in per cent, by method.
        settings: as they were found.
        minutes: that the command took; of one that was resumed, its last process.
    """

    accuracies: dict
    settings: dict
    minutes: float


def outcome(name, flags, given, seed):
    """Distil, choose by herding and evaluate, where that is not done."""
    place = given.out / f"{name.replace(' ', '-').replace(',', '')}-seed{seed}"
    asked = [*flags, "--seed", seed, "--budget", given.budget]
    took, began = place.with_suffix(".minutes"), time.monotonic()
    there = (place / "result.json").exists()
    call("distill", *asked, "--out", place)
    if not there:
        took.write_text(f"{(time.monotonic() - began) / 60:.2f}")
    settings = place.with_suffix(".json")
    settings.write_text(call("distill", *asked, "--print-settings"))
    data = flags[flags.index("--data-dir") :] if "--data-dir" in flags else []
    data += flags[flags.index("--dataset") :] if "--dataset" in flags else []
    herded = place.with_name(f"{place.name}-herding")
    found = json.loads(settings.read_text())
    call(
        *("select", "--settings", settings, *data, "--method", "herding"),
        *("--ipc", found["distillation"]["ipc"], "--seed", seed, "--out", herded),
    )
    rated = place.with_name(f"{place.name}-herding-evaluated")
    call("evaluate", herded, *data, "--out", rated)
    minutes = float(took.read_text()) if took.exists() else float("nan")
    return Outcome(rows_of(place) | rows_of(rated), found, minutes)


def accuracy_row(name, outcomes):
    """Accuracies over the seeds, and what DDPP has over random images and herding."""
    cells = [name]
    for method in METHODS:
        own = [one.accuracies[method] for one in outcomes if method in one.accuracies]
        if not own:
            cells.append("-")
        elif len(own) == 1:
            cells.append(f"{own[0].mean():.1f} ± {own[0].std():.1f}")
        else:
            found, lost = spread(own), len(outcomes) - len(own)
            words = f"{found.mean:.1f} ± {found.over_seeds:.1f}"
            cells.append(f"{words} ({lost} lost)" if lost else words)
    for other in ("random real images", "herding"):
        both = [one.accuracies for one in outcomes if {"DDPP", other} <= one.accuracies.keys()]
        if not both:
            cells.append("-")
            continue
        own, others = (np.array([one[m].mean() for one in both]) for m in ("DDPP", other))
        cells.append(difference_words(paired_difference(own / 100, others / 100)))
    minutes = [one.minutes for one in outcomes]
    cells.append("-" if np.isnan(minutes).all() else f"{np.nanmax(minutes):.1f}")
    return f"| {' | '.join(cells)} |"


def settings_row(name, seed, one):
    """What was found for one seed."""
    teaching, tuned = one.settings["teaching"], one.settings["distillation"]
    cells = [
        *(name, f"{seed}", f"{teaching['teacher_rate']:g}"),
        f"{teaching['teachers']} x {teaching['epochs']}",
        *(f"{tuned['max_start_epoch']}", f"{tuned['pixel_rate']:g}", f"{tuned['steps']}"),
    ]
    return f"| {' | '.join(cells)} |"


def parse():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder of real data; without it, fewer rows")
    parser.add_argument("--only", nargs="*", default=[], help="names of rows")
    parser.add_argument("--budget", default="4m", help="of each search")
    parser.add_argument("--seeds", default="0", help="joined by commas; by default 0")
    parser.add_argument("--out", type=Path, default=Path("runs/found"))
    given = parser.parse_args()
    if not re.fullmatch(r"\d+(,\d+)*", given.seeds):
        parser.error(f"--seeds is {given.seeds!r}; wanted whole numbers joined by commas")
    given.seeds = list(dict.fromkeys(map(int, given.seeds.split(","))))
    names = list(cases(given.data_dir, given.out))
    if wrong := [name for name in given.only if name not in names]:
        parser.error(f"--only has {wrong[0]!r}; wanted some of {', '.join(names)}")
    return given


def main():
    given = parse()
    given.out.mkdir(parents=True, exist_ok=True)
    chosen = {
        name: flags
        for name, flags in cases(given.data_dir, given.out).items()
        if not given.only or name in given.only
    }
    found = {name: [] for name in chosen}
    for seed in given.seeds:  # So that every row has a figure early.
        for name, flags in chosen.items():
            write_shapes(name, given.out)
            found[name].append(outcome(name, flags, given, seed))
            print(accuracy_row(f"{name}, seed {seed}", found[name][-1:]), flush=True)
    heads = ("data", *METHODS, "DDPP less random", "DDPP less herding", "minutes at most")
    over = "seeds" if len(given.seeds) > 1 else "networks"
    print(f"\nSeeds {given.seeds}, --budget {given.budget}; test accuracy in %, ± over {over};")
    print("differences are paired by seed, ± their standard error.\n")
    print(f"| {' | '.join(heads)} |\n|{len(heads) * '---|'}")
    print("\n".join(accuracy_row(name, own) for name, own in found.items()))
    heads = ("data", "seed", "teacher rate", "teachers x epochs", "I+", "pixel rate", "steps")
    print(f"\n| {' | '.join(heads)} |\n|{len(heads) * '---|'}")
    for name, own in found.items():
        for seed, one in zip(given.seeds, own, strict=True):
            print(settings_row(name, seed, one))


if __name__ == "__main__":
    main()
