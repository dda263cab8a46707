"""What each setting of a distillation does, on the digits, one changed at a time.

Started by scripts/settings. Runs `python -m ddpp_jax.distill` for each value, without baselines,
from the same teachers, and prints a table in Markdown: test accuracy, the mean matching loss and
the mean share of parameters kept over the last hundred steps, and the last alpha.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

VARIED = {
    "--student-steps": (5, 10, 20, 40),
    "--target-epochs": (1, 2, 4, 8),
    "--max-start-epoch": (2, 5, 10, 15),
    "--pixel-rate": (0.1, 1, 10, 100),
    "--alpha": (0.01, 0.04, 0.16),
    "--alpha-rate": (0, 1e-5, 1e-4, 1e-3),
    "--threshold": ("none", 0.1, 0.3, 0.6, 0.9),
}
LAST = 100


def outcome(folder, flags):
    """The figures of one run, or the message that it ended with."""
    command = [sys.executable, "-m", "ddpp_jax.distill", "--no-baselines", "--eval-every", "0"]
    command += [*flags, "--out", str(folder), "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        return (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1]
    result = json.loads((folder / "result.json").read_text())
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row.get("loss") is not None]
    mean, std = (100 * result["rows"][0][n] for n in ("mean", "std"))
    loss, kept = (
        statistics.fmean(row[n] for row in rows[-LAST:]) for n in ("loss", "kept_fraction")
    )
    return f"{mean:.1f} ± {std:.1f} | {loss:.3f} | {100 * kept:.1f} | {rows[-1]['alpha']:.4f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500, help="distillation steps of each")
    parser.add_argument("--out", type=Path, default=Path("runs/settings"))
    given = parser.parse_args()
    print(f"digits, seed 0, {given.steps} steps, all as by default but for what is varied\n")
    print("| setting | accuracy, % | loss | kept, % | alpha |\n|---|---|---|---|---|")
    for flag, values in VARIED.items():
        for value in values:
            name = f"{flag.strip('-')}-{value}"
            flags = ["--steps", str(given.steps), flag, str(value)]
            print(f"| `{flag} {value}` | {outcome(given.out / name, flags)} |", flush=True)


if __name__ == "__main__":
    main()
