"""How good the settings are that `distill` finds itself, over several datasets.

Started by scripts/found. For each dataset and seed it runs `python -m ddpp_jax.distill --dataset`
with no settings, then `select --method herding` with the settings that were found, evaluates that,
and prints a table in Markdown. Runs that are there are taken as they are.
"""

import argparse
import json
import subprocess
import sys
import time
from pathlib import Path

import shapes

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
    for name, sizes in SHAPES.items():
        path = out / f"{name}.npz"
        if not path.exists():
            shapes.write(path, **sizes)
        found[name] = ["--dataset", str(path)]
    return found


def call(stage, *flags):
    """Run one command; what it printed."""
    command = [sys.executable, "-m", f"ddpp_jax.{stage}", *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return done.stdout


def rows_of(folder):
    """Accuracies in per cent, by method."""
    rows = json.loads((folder / "result.json").read_text())["rows"]
    return {row["method"].split(" (")[0]: (100 * row["mean"], 100 * row["std"]) for row in rows}


def outcome(name, flags, given):
    """The figures of one dataset and seed as the cells of a row."""
    place = given.out / f"{name.replace(' ', '-').replace(',', '')}-seed{given.seed}"
    asked = [*flags, "--seed", given.seed, "--budget", given.budget]
    began, there = time.monotonic(), (place / "result.json").exists()
    call("distill", *asked, "--out", place)
    minutes = "-" if there else f"{(time.monotonic() - began) / 60:.1f}"
    settings = place.with_suffix(".json")
    settings.write_text(call("distill", *asked, "--print-settings"))
    data = flags[flags.index("--data-dir") :] if "--data-dir" in flags else []
    data += flags[flags.index("--dataset") :] if "--dataset" in flags else []
    herded = place.with_name(f"{place.name}-herding")
    ipc = json.loads(settings.read_text())["distillation"]["ipc"]
    call(
        *("select", "--settings", settings, *data, "--method", "herding", "--ipc", ipc),
        *("--seed", given.seed, "--out", herded),
    )
    rated = place.with_name(f"{place.name}-herding-evaluated")
    call("evaluate", herded, *data, "--out", rated)
    found = rows_of(place) | rows_of(rated)
    cells = [
        "{:.1f} ± {:.1f}".format(*found[row]) if row in found else "-"
        for row in ("random real images", "herding", "MTT", "DDPP", "full data")
    ]
    values = json.loads(settings.read_text())
    tuned = values["distillation"]
    cells += [
        f"{values['teaching']['teacher_rate']:g}",
        f"{values['teaching']['teachers']} x {values['teaching']['epochs']}",
        f"{tuned['max_start_epoch']}",
        f"{tuned['pixel_rate']:g}",
        f"{tuned['steps']}",
        minutes,
    ]
    return cells


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", type=Path, help="folder of real data; without it, fewer rows")
    parser.add_argument("--only", nargs="*", default=[], help="names of rows")
    parser.add_argument("--budget", default="4m", help="of each search")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/found"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    print(f"seed {given.seed}, --budget {given.budget}; test accuracy in %\n")
    heads = "data | random | herding | MTT | DDPP | full data | teacher rate | teachers x epochs"
    print(f"| {heads} | I+ | pixel rate | steps | minutes |\n|{12 * '---|'}", flush=True)
    for name, flags in cases(given.data_dir, given.out).items():
        if not given.only or name in given.only:
            print(f"| {' | '.join([name, *outcome(name, flags, given)])} |", flush=True)


if __name__ == "__main__":
    main()
