"""Ours beside PyTorch, in turn, over several rounds: time, memory, operations, share of the peak.

Started by scripts/benchmark. Each side of a case is a process of its own that waits while the other
has its turn. Leaves benchmark.md, benchmark.json and pictures in a folder.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path

import bench_ideas
import bench_pictures
from bench_cases import FOR_IDEAS, GROWTH, MAIN, ON_GPU, TINY, opponents
from bench_worker import SIDE_OF_MATRIX

HERE = Path(__file__).parent
AS_IT_IS = "as it is"
LEAST_SECONDS = 1.0
"""What the calls of a turn take together, at least."""


class Worker:
    """One side of a case, in its own process."""

    def __init__(self, side, variant, case, precision):
        command = [sys.executable, str(HERE / "bench_worker.py"), side, variant]
        command += [json.dumps(asdict(case)), precision]
        # The calls are what is measured: no program comes from an earlier process.
        environment = os.environ | {
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        environment |= bench_ideas.environment(variant)
        self.name = side if variant == AS_IT_IS else variant
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about = self.answer()
        self.seconds, self.last = [], {}

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmark: the process of {self.name} ended early, see above")
        return json.loads(line)

    def turn(self, calls):
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        self.last = self.answer()
        self.seconds.append(statistics.fmean(self.last["seconds"]))

    def end(self):
        self.process.stdin.write("end\n")
        self.process.stdin.close()
        self.process.wait()

    def found(self):
        low, middle, high = min(self.seconds), statistics.median(self.seconds), max(self.seconds)
        return {
            "variant": self.name,
            "seconds": middle,
            "least": low,
            "most": high,
            "peak_mib": self.last["peak"],
            "device_peak": self.last["device_peak"],
            **self.about,
        }


def calls_of(seconds):
    return max(1, round(LEAST_SECONDS / seconds))


def measure(case, *, rounds, precision):
    """What the sides of a case came to, over turns that alternate."""
    sides = [Worker("ours", AS_IT_IS, case, precision)]
    sides += [Worker("torch", variant, case, precision) for variant in opponents(case)]
    ours, *others = take_turns(sides, rounds)
    best = min(others, key=lambda found: found["seconds"])
    eager = min(
        (found for found in others if found["variant"] != "compiled"),
        key=lambda found: found["seconds"],
    )
    return {
        "case": asdict(case),
        "name": case.name,
        "flops": case.flops,
        "units": case.units,
        "unit": case.unit,
        "ours": ours,
        "torch": others,
        "best": best,
        "ratio": best["seconds"] / ours["seconds"],
        "eager_ratio": eager["seconds"] / ours["seconds"],
    }


def take_turns(sides, rounds):
    """What each worker came to."""
    for worker in sides:
        worker.turn(1)
    calls = [calls_of(worker.seconds.pop()) for worker in sides]
    for _ in range(rounds):
        for worker, count in zip(sides, calls, strict=True):
            worker.turn(count)
    for worker in sides:
        worker.end()
    return [worker.found() for worker in sides]


def try_ideas(cases, given):
    """Print and return each idea's time and memory relative to the program as it is."""
    rows = []
    print("idea | case | predicted time | time | memory of the program")
    for case in cases:
        for idea in bench_ideas.IDEAS:
            if not bench_ideas.serves(idea, case):
                continue
            sides = [Worker("ours", name, case, given.precision) for name in (AS_IT_IS, idea.name)]
            base, tried = take_turns(sides, given.rounds)
            sizes = [side["temporary_bytes"] for side in (base, tried)]
            row = {
                "idea": idea.name,
                "case": case.name,
                "predicted": idea.prediction,
                "time": tried["seconds"] / base["seconds"],
                "memory": sizes[1] / sizes[0] if all(sizes) else None,
            }
            rows.append(row)
            memory = "-" if row["memory"] is None else f"{row['memory']:.2f}"
            line = (idea.name, case.name, idea.prediction, f"{row['time']:.2f}", memory)
            print(" | ".join(line), flush=True)
    return rows


def limits(precision):
    """The machine's limits as the faster of the two sides reaches them."""
    found = []
    for side in ("ours", "torch"):
        command = [sys.executable, str(HERE / "bench_worker.py"), side, "limits", "{}", precision]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        found.append(json.loads(done.stdout))
    most = {name: max(row[name] for row in found) for name in ("flops", "bytes")}
    return most | {"ours": found[0], "torch": found[1]}


def milliseconds(found, units):
    scale = 1e3 / units
    low, high = scale * found["least"], scale * found["most"]
    middle = scale * found["seconds"]
    digits = 0 if middle >= 100 else 1 if middle >= 10 else 2
    return f"{middle:,.{digits}f} ({low:,.{digits}f} to {high:,.{digits}f})"


COLUMNS = (
    "case",
    "ours, ms",
    "PyTorch, ms",
    "ratio",
    "to eager",
    "memory ours, MiB",
    "PyTorch",
    "GFLOP (XLA's count)",
    "of peak, ours",
    "PyTorch",
    "ready after, s",
    "PyTorch",
)


def row(found, peak):
    ours, best = found["ours"], found["best"]
    counted = ours["xla"] and f" ({ours['xla']['flops'] / found['units'] / 1e9:,.1f})"

    def memory(side):
        if side["device_peak"]:
            return f"{side['device_peak'] / 2**20:,.0f} on the device"
        held = side["temporary_bytes"]
        program = "" if held is None else f" ({held / 2**20:,.0f} the program)"
        return f"{side['peak_mib']:,.0f}{program}"

    return [
        found["name"],
        milliseconds(ours, found["units"]),
        f"{milliseconds(best, found['units'])} {best['variant']}",
        f"{found['ratio']:.2f}",
        f"{found['eager_ratio']:.2f}",
        memory(ours),
        memory(best),
        f"{found['flops'] / found['units'] / 1e9:,.1f}{counted or ''}",
        f"{found['flops'] / ours['seconds'] / peak:.0%}",
        f"{found['flops'] / best['seconds'] / peak:.0%}",
        f"{ours['compile_seconds']:.1f}",
        f"{best['compile_seconds']:.1f}",
    ]


def markdown(rows):
    lines = [COLUMNS, ["---"] * len(COLUMNS), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def processor():
    """What the processor calls itself."""
    place = Path("/proc/cpuinfo")
    rows = place.read_text().splitlines() if place.exists() else []
    names = [row.partition(":")[2].strip() for row in rows if row.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def chosen(given, platform):
    if given.tiny:
        return TINY
    cases = MAIN + (ON_GPU if platform == "gpu" else [])
    if given.ideas:
        cases = FOR_IDEAS
    if given.growth:
        cases = [case for cases in GROWTH.values() for case in cases]
    cases = list(dict.fromkeys(cases))
    return [case for case in cases if all(word in case.name for word in given.only)]


def main():
    parser = argparse.ArgumentParser(prog="scripts/benchmark", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5, help="turns of each side")
    parser.add_argument("--only", nargs="*", default=[], help="cases whose name has all of these")
    parser.add_argument("--growth", action="store_true", help="growth with J, batch and width")
    parser.add_argument("--roofline", action="store_true", help="draw where the cases stand")
    parser.add_argument("--ideas", action="store_true", help="ways that were tried, beside ours")
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
    out = given.out or Path("runs") / f"benchmark-{time.strftime('%Y%m%d-%H%M%S')}"
    if out.exists() and any(out.iterdir()):
        parser.error(f"{out} is not empty; name another folder by --out")
    # This process asks for no device: on a GPU it would hold the memory that is measured.
    peak = limits(given.precision)
    cases = chosen(given, peak["ours"]["platform"])
    if not cases:
        parser.error("no case has that name")
    about = {
        "processor": processor(),
        "device": peak["ours"]["device"],
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "jax": version("jax"),
        "torch": version("torch"),
        "precision": given.precision,
        "rounds": given.rounds,
        "command": " ".join(["scripts/benchmark", *sys.argv[1:]]),
    }
    ours, theirs, moved = (
        peak["ours"]["flops"] / 1e9,
        peak["torch"]["flops"] / 1e9,
        peak["bytes"] / 2**30,
    )
    head = (
        f"{about['processor']}, {about['cores']} cores, on {about['device']}; jax {about['jax']}, "
        f"torch {about['torch']}, Python {about['python']}\n"
        f"a {SIDE_OF_MATRIX}x{SIDE_OF_MATRIX} product: {ours:,.0f} GFLOP/s ours, {theirs:,.0f} "
        f"PyTorch; memory {moved:,.1f} GiB/s"
    )
    print(head, flush=True)
    rows, table = [], []
    out.mkdir(parents=True, exist_ok=True)
    if given.ideas:
        found = {"about": about, "ideas": try_ideas(cases, given)}
        (out / "ideas.json").write_text(json.dumps(found, indent=2) + "\n")
        print(f"The figures are in {out / 'ideas.json'}")
        return
    for case in cases:
        rows.append(measure(case, rounds=given.rounds, precision=given.precision))
        table.append(row(rows[-1], peak["flops"]))
        print(" | ".join(table[-1]), flush=True)
        whole = {"about": about, "limits": peak, "cases": rows}
        (out / "benchmark.json").write_text(json.dumps(whole, indent=2) + "\n")
    (out / "benchmark.md").write_text(f"{head}\n\n{markdown(table)}\n")
    bench_pictures.save_times(rows, out / "benchmark.png")
    if given.growth:
        bench_pictures.save_growth(rows, GROWTH, out / "growth.png")
    if given.roofline:
        bench_pictures.save_roofline(rows, peak, out / "roofline.png")
    print(f"Table, figures and pictures are in {out}")


if __name__ == "__main__":
    main()
