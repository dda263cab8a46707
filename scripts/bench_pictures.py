"""The pictures of scripts/benchmark: times side by side, growth, and the roofline."""

import numpy as np
from matplotlib.figure import Figure

OURS, THEIRS = "#1b6ca8", "#d1495b"


def save_times(rows, place):
    """How many times as long PyTorch takes, by case."""
    names = [row["name"] for row in rows]
    figure = Figure(figsize=(8, 0.6 * len(rows) + 1.4), layout="constrained")
    axes = figure.subplots()
    y = np.arange(len(rows))
    for name, what, shift, shade in (
        ("eager_ratio", "eager", -0.2, 1.0),
        ("ratio", "the fastest, eager or compiled", 0.2, 0.5),
    ):
        ratios = [row[name] for row in rows]
        axes.barh(y + shift, ratios, color=OURS, alpha=shade, height=0.38, label=what)
        for place_of, ratio in zip(y + shift, ratios, strict=True):
            axes.text(ratio, place_of, f" {ratio:.2f}", va="center", fontsize=8)
    axes.axvline(1, color=THEIRS, linewidth=1.5)
    axes.set_yticks(y, names)
    axes.invert_yaxis()
    axes.margins(x=0.08)
    axes.set_xlabel("time of PyTorch over ours; red: as fast")
    axes.legend(fontsize=8)
    figure.savefig(place, dpi=120)


def save_growth(rows, families, place):
    """Time and memory against what grows."""
    by_name = {row["name"]: row for row in rows}
    figure = Figure(figsize=(4 * len(families), 6), layout="constrained")
    axes = figure.subplots(2, len(families), squeeze=False)
    for column, (label, cases) in enumerate(families.items()):
        found = [(case, by_name[case.name]) for case in cases if case.name in by_name]
        if not found:
            continue
        x = [
            {"student steps J": c.student_steps, "width": c.width}.get(label, c.batch)
            for c, _ in found
        ]
        for side, name, color in (("ours", "ours", OURS), ("best", "PyTorch", THEIRS)):
            axes[0, column].loglog(
                x, [r[side]["seconds"] for _, r in found], "o-", color=color, label=name
            )
            peaks = [r[side]["peak_mib"] for _, r in found]
            axes[1, column].loglog(x, peaks, "o-", color=color, label=f"{name}, the process")
        held = [(r["ours"]["temporary_bytes"] or 0) / 2**20 for _, r in found]
        axes[1, column].loglog(x, held, "s--", color=OURS, label="ours, the compiled program")
        axes[0, column].set_ylabel("seconds a distillation step")
        axes[1, column].set_ylabel("MiB at the highest")
        for axis in axes[:, column]:
            axis.set_xlabel(label)
            axis.set_xticks(x, [str(value) for value in x])
            axis.minorticks_off()
    axes[0, 0].legend()
    axes[1, 0].legend(fontsize=8)
    figure.savefig(place, dpi=120)


def save_roofline(rows, limits, place):
    """Operations a second against operations a byte, under the machine's two limits."""
    figure = Figure(figsize=(7.5, 5), layout="constrained")
    axes = figure.subplots()
    points = [(row, row["ours"]["xla"]) for row in rows if row["ours"]["xla"]]
    intensities = [row["flops"] / xla["bytes"] for row, xla in points]
    low, high = min([*intensities, 1]) / 3, max([*intensities, 100]) * 3
    x = np.geomspace(low, high, 200)
    roof = np.minimum(limits["flops"], x * limits["bytes"])
    axes.loglog(x, roof / 1e9, color="black", label="measured limits: product, memory")
    marks = "os^vDPX*<>hp"
    for index, ((row, _), intensity) in enumerate(zip(points, intensities, strict=True)):
        speed = row["flops"] / row["ours"]["seconds"] / 1e9
        mark = marks[index % len(marks)]
        axes.loglog(intensity, speed, mark, color=f"C{index % 10}", label=row["name"])
    axes.set_xlabel("operations by the mathematics, per byte that the compiled program moves (XLA)")
    axes.set_ylabel("GFLOP/s")
    axes.legend(fontsize=7, loc="lower right")
    figure.savefig(place, dpi=120)
