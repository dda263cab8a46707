"""Real CIFAR-10, small enough for two cores: IPC 1 and 10, with and without pruning, three seeds.

Runs `python -m ddpp_jax.distill` for each cell that is not complete yet, in folders below
`--out`, and prints the table as Markdown. Killed and started again, it goes on.

    .venv/bin/python scripts/small_cifar.py --data-dir FOLDER_OF_TFDS_DATASETS
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path

import numpy as np

SEEDS = (0, 1, 2)
IPCS = (1, 10)


def run(ipc, seed, data_dir, out):
    folder = out / f"ipc{ipc}-seed{seed}"
    command = [sys.executable, "-m", "ddpp_jax.distill", f"cifar10-small-ipc{ipc}"]
    flags = ["--data-dir", data_dir, "--seed", str(seed), "--out", str(folder)]
    subprocess.run([*command, *flags], check=True)
    return json.loads((folder / "result.json").read_text())


def cell(results, number):
    """The mean over seeds of a row, its deviation over seeds, and the deviation over networks."""
    rows = [result["rows"][number] for result in results]
    means = 100 * np.array([row["mean"] for row in rows])
    networks = 100 * np.mean([row["std"] for row in rows])
    return f"{means.mean():.1f} ± {means.std(ddof=1):.1f} ({networks:.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", required=True, help="folder that holds cifar10/VERSION")
    parser.add_argument("--out", type=Path, default=Path("runs/small"), help="folder of the runs")
    given = parser.parse_args()
    # Seed by seed, so that both sizes share the seed's teachers.
    results = {
        (ipc, seed): run(ipc, seed, given.data_dir, given.out) for seed in SEEDS for ipc in IPCS
    }
    print("\n| IPC | random real images | none (MTT) | 0.1 (ours) | full data (the teachers) |")
    print("|---|---|---|---|---|")
    for ipc in IPCS:
        rows = [results[ipc, seed] for seed in SEEDS]
        print(f"| {ipc} | " + " | ".join(cell(rows, number) for number in range(4)) + " |")
    print(
        f"\nTest accuracy in %: mean over seeds {', '.join(map(str, SEEDS))} ± sample deviation "
        "over seeds (in brackets the mean deviation over the networks of a seed)."
    )


if __name__ == "__main__":
    main()
