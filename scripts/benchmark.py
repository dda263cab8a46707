"""This library beside PyTorch, in turn, over several rounds: time, memory, operations.

Started by scripts/benchmark. Each side of a case is a process of its own that waits while the other
has its turn. Prints a row for each case, and leaves benchmark.md, benchmark.json and pictures in a
folder.
"""

import argparse
import json
import os
import platform
import sys
import time
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from bench.cases import GROWTH, MAIN, MEMBERS, MEMBERS_ON_GPU, ON_GPU, TINY
from bench.turns import beside_torch, by_ways, limits
from matplotlib.figure import Figure

COLUMNS = (
    "case",
    "ddpp-jax, ms",
    "PyTorch, ms",
    "ratio",
    "to eager",
    "memory ddpp-jax, MiB",
    "PyTorch",
    "GFLOP (XLA's count)",
    "of peak, ddpp-jax",
    "PyTorch",
    "ready after, s",
    "PyTorch",
)
COLUMNS_OF_MEMBERS = ("case", "as the library, ms", "others, time relative to it")
BLUE, RED = "#1b6ca8", "#d1495b"


def milliseconds(found, units):
    """The median of a unit, and in brackets the extremes of the rounds."""
    low, middle, high = (1e3 / units * found[name] for name in ("least", "seconds", "most"))
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


def memory(side):
    """What a side held at the highest, and of it what the compiled program holds."""
    if side["device_peak"]:
        return f"{side['device_peak'] / 2**20:,.0f} on the device"
    held = side["temporary_bytes"]
    program = "" if held is None else f" ({held / 2**20:,.0f} the program)"
    return f"{side['peak_mib']:,.0f}{program}"


def row(found, peak):
    """A line of the table beside PyTorch."""
    own, best, units, flops = (found[name] for name in ("jax", "best", "units", "flops"))
    counted = own["xla"] and f" ({own['xla']['flops'] / units / 1e9:,.1f})"
    return [
        found["name"],
        milliseconds(own, units),
        f"{milliseconds(best, units)} {best['variant']}",
        f"{found['ratio']:.2f}",
        f"{found['eager_ratio']:.2f}",
        memory(own),
        memory(best),
        f"{flops / units / 1e9:,.1f}{counted or ''}",
        f"{flops / own['seconds'] / peak:.0%}",
        f"{flops / best['seconds'] / peak:.0%}",
        f"{own['compile_seconds']:.1f}",
        f"{best['compile_seconds']:.1f}",
    ]


def row_of_members(found):
    """A line of the table of ways that members can go."""
    own = next(side for side in found["ways"] if side["variant"] == found["chosen"])
    others = {way: ratio for way, ratio in found["ratios"].items() if way != found["chosen"]}
    return [
        found["name"],
        f"{found['chosen']} {milliseconds(own, found['units'])}",
        ", ".join(f"{way} {ratio:.2f}" for way, ratio in others.items()),
    ]


def markdown(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def save_times(rows, place):
    """How many times as long PyTorch takes, by case."""
    figure = Figure(figsize=(8, 0.6 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(rows))
    for name, label, shift, shade in (
        ("eager_ratio", "eager", -0.2, 1.0),
        ("ratio", "the fastest, eager or compiled", 0.2, 0.5),
    ):
        ratios = [row[name] for row in rows]
        bars = axes.barh(y + shift, ratios, color=BLUE, alpha=shade, height=0.38, label=label)
        axes.bar_label(bars, [f" {ratio:.2f}" for ratio in ratios], fontsize=8)
    axes.axvline(1, color=RED, linewidth=1.5)
    axes.set_yticks(y, [row["name"] for row in rows])
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlabel("time of PyTorch over that of ddpp-jax; red: as fast")
    axes.legend(fontsize=8)
    figure.savefig(place, dpi=120)


def save_growth(rows, place):
    """Time and memory against what grows."""
    by_name = {row["name"]: row for row in rows}
    figure = Figure(figsize=(4 * len(GROWTH), 6), layout="constrained")
    axes = figure.subplots(2, len(GROWTH), squeeze=False)
    of_case = dict(zip(GROWTH, ("student_steps", "batch", "width"), strict=True))
    for column, (label, cases) in enumerate(GROWTH.items()):
        known = [case for case in cases if case.name in by_name]
        found = [by_name[case.name] for case in known]
        x = [getattr(case, of_case[label]) for case in known]
        time_axis, memory_axis = axes[:, column]
        for side, name, color in (("jax", "ddpp-jax", BLUE), ("best", "PyTorch", RED)):
            time_axis.plot(x, [r[side]["seconds"] for r in found], "o-", color=color, label=name)
            peaks = [r[side]["peak_mib"] for r in found]
            memory_axis.plot(x, peaks, "o-", color=color, label=f"{name}, the process")
        held = [(r["jax"]["temporary_bytes"] or 0) / 2**20 for r in found]
        memory_axis.plot(x, held, "s--", color=BLUE, label="ddpp-jax, the compiled program")
        time_axis.set_ylabel("seconds a distillation step")
        memory_axis.set_ylabel("MiB at the highest")
        for axis in axes[:, column]:
            axis.set(xscale="log", yscale="log", xlabel=label)
            axis.set_xticks(x, [str(value) for value in x])
            axis.minorticks_off()
    axes[0, 0].legend()
    axes[1, 0].legend(fontsize=8)
    figure.savefig(place, dpi=120)


def save_roofline(rows, most, place):
    """Operations a second against operations a byte, under the machine's two limits."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    rows = [row for row in rows if row["jax"]["xla"]]
    intensities = [row["flops"] / row["jax"]["xla"]["bytes"] for row in rows]
    x = np.geomspace(min([*intensities, 1]) / 3, max([*intensities, 100]) * 3, 200)
    roof = np.minimum(most["flops"], x * most["bytes"])
    axes.loglog(x, roof / 1e9, color="black", label="measured limits: product, memory")
    marks = "os^vDPX*<>hp"
    for index, (row, intensity) in enumerate(zip(rows, intensities, strict=True)):
        speed = row["flops"] / row["jax"]["seconds"] / 1e9
        mark = marks[index % len(marks)]
        axes.loglog(intensity, speed, mark, color=f"C{index % 10}", label=row["name"])
    axes.set_xlabel("operations by the mathematics, per byte that the compiled program moves (XLA)")
    axes.set_ylabel("GFLOP/s")
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(place, dpi=120)


def processor():
    """What the processor calls itself."""
    place = Path("/proc/cpuinfo")
    rows = place.read_text().splitlines() if place.exists() else []
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def chosen(given, on_gpu):
    """The cases that the flags ask for."""
    cases = MAIN + (ON_GPU if on_gpu else [])
    if given.members:
        cases = MEMBERS + (MEMBERS_ON_GPU if on_gpu else [])
    if given.growth:
        cases = [case for cases in GROWTH.values() for case in cases]
    if given.tiny:
        cases = [case for case in TINY if case.networks > 1 or not given.members]
    return [case for case in dict.fromkeys(cases) if all(word in case.name for word in given.only)]


def parse():
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--only", nargs="*", default=[], help="cases whose name has all of these")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--growth", action="store_true", help="growth with J, batch and width")
    what.add_argument(
        "--members", action="store_true", help="several members: side by side, in turn, at once"
    )
    parser.add_argument("--roofline", action="store_true", help="draw where the cases stand")
    parser.add_argument("--tiny", action="store_true", help="cases of seconds, to try it out")
    parser.add_argument(
        "--precision",
        default="default",
        choices=["default", "highest"],
        help="of float32 products, where the device has a choice",
    )
    parser.add_argument("--out", type=Path, help="folder; runs/benchmark-TIME by default")
    given = parser.parse_args()
    if given.rounds < 1:
        parser.error("--rounds is 1 or more")
    given.out = given.out or Path("runs") / f"benchmark-{time.strftime('%Y%m%d-%H%M%S')}"
    if given.out.exists() and any(given.out.iterdir()):
        parser.error(f"{given.out} is not empty; name another folder by --out")
    return parser, given


def main():
    # This process asks for no device: on a GPU it would hold the memory that is measured.
    parser, given = parse()
    rounds, precision = given.rounds, given.precision
    machine = limits(rounds=min(rounds, 3), precision=precision, tiny=given.tiny)
    cases = chosen(given, machine["platform"] == "gpu")
    if not cases:
        parser.error("no case has that name")
    about = {
        "processor": processor(),
        "device": machine["device"],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": version("jax"),
        "torch": version("torch") if find_spec("torch") else None,
        "precision": precision,
        "rounds": rounds,
        "command": " ".join(["scripts/benchmark", *sys.argv[1:]]),
    }
    speeds = (f"{speed / 1e9:,.0f} GFLOP/s {side}" for side, speed in machine["flops"].items())
    head = (
        f"{about['processor']}, {about['cores']} cores, on {about['device']}; jax {about['jax']}, "
        f"torch {about['torch']}, Python {about['python']}\n{machine['cases']['flops']}: "
        f"{', '.join(speeds)}; memory {machine['most']['bytes'] / 2**30:,.1f} GiB/s"
    )
    print(head, flush=True)
    given.out.mkdir(parents=True, exist_ok=True)
    measure_fn = by_ways if given.members else beside_torch
    columns = COLUMNS_OF_MEMBERS if given.members else COLUMNS
    rows, table = [], []
    for case in cases:
        rows.append(measure_fn(case, rounds=rounds, precision=precision))
        found = rows[-1]
        table.append(
            row_of_members(found) if given.members else row(found, machine["most"]["flops"])
        )
        print(" | ".join(table[-1]), flush=True)
        whole = {"about": about, "limits": machine, "cases": rows}
        (given.out / "benchmark.json").write_text(json.dumps(whole, indent=2) + "\n")
    (given.out / "benchmark.md").write_text(f"{head}\n\n{markdown(columns, table)}\n")
    if not given.members:
        save_times(rows, given.out / "benchmark.png")
    if given.growth:
        save_growth(rows, given.out / "growth.png")
    if given.roofline:
        save_roofline(rows, machine["most"], given.out / "roofline.png")
    print(f"Table, figures and pictures are in {given.out}")


if __name__ == "__main__":
    main()
