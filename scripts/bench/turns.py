"""Programs in processes of their own that take turns: both ends of the pipe, and what they find.

A process reads lines: a number (make so many calls, say how long each took), or `end`. It answers
in JSON.
"""

import json
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path

from bench.cases import (
    AT_ONCE,
    LIMITS,
    LIMITS_ON_GPU,
    SIDE_BY_SIDE,
    TINY_LIMITS,
    WAYS,
    Case,
    JaxProgram,
)

SECONDS_OF_A_TURN = 1.0
"""What the calls of a turn take together, at least."""
JAX, TORCH = "ddpp-jax", "PyTorch"
SCRIPTS = str(Path(__file__).parents[1])


class Side:
    """One side of a case, in its own process."""

    def __init__(self, library, variant, case, precision):
        command = [sys.executable, "-P", "-m", "bench.turns", library, variant]
        command += [json.dumps(asdict(case)), precision]
        # The calls are what is measured: no program comes from an earlier process.
        environment = os.environ | {
            "PYTHONPATH": os.pathsep.join(filter(None, (SCRIPTS, os.environ.get("PYTHONPATH")))),
            "JAX_ENABLE_COMPILATION_CACHE": "false",
            "TORCHINDUCTOR_FORCE_DISABLE_CACHES": "1",
            "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
        }
        self.name = variant or library
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        self.about = self._answer()
        self.seconds, self.last = [], {}

    def turn(self, calls):
        """Let it make so many calls; their mean counts."""
        self.process.stdin.write(f"{calls}\n")
        self.process.stdin.flush()
        self.last = self._answer()
        self.seconds.append(statistics.fmean(self.last.pop("calls")))

    def end(self):
        self.process.stdin.write("end\n")
        self.process.stdin.close()
        self.process.wait()

    def found(self):
        """Seconds of a call, over the turns, and what the process said of itself."""
        return {
            "variant": self.name,
            "seconds": statistics.median(self.seconds),
            "least": min(self.seconds),
            "most": max(self.seconds),
            **self.about,
            **self.last,
        }

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"benchmark: the process of {self.name} ended early, see above")
        return json.loads(line)


def take_turns(sides, rounds):
    """What each side comes to, after a first call of each that does not count."""
    for side in sides:
        side.turn(1)
    calls = [max(1, round(SECONDS_OF_A_TURN / side.seconds.pop())) for side in sides]
    for _ in range(rounds):
        for side, count in zip(sides, calls, strict=True):
            side.turn(count)
    for side in sides:
        side.end()
    return [side.found() for side in sides]


def torch_variants(case):
    """How PyTorch can do a case.

    `torch.compile` refuses the distillation step: "does not currently support double backward".
    """
    eager = ["eager", "channels-last"]
    return [*eager, "compiled"] if case.kind in ("teacher", "networks") else eager


def beside_torch(case, *, rounds, precision):
    """A case by this library and by each variant of PyTorch."""
    sides = [Side(JAX, "", case, precision)]
    sides += [Side(TORCH, variant, case, precision) for variant in torch_variants(case)]
    own, *others = take_turns(sides, rounds)
    best = min(others, key=lambda found: found["seconds"])
    eager = [found for found in others if found["variant"] != "compiled"]
    fastest_eager = min(found["seconds"] for found in eager)
    return {
        "case": asdict(case),
        "name": case.name,
        "flops": case.flops,
        "units": case.units,
        "jax": own,
        "torch": others,
        "best": best,
        "ratio": best["seconds"] / own["seconds"],
        "eager_ratio": fastest_eager / own["seconds"],
    }


def by_ways(case, *, rounds, precision):
    """A case of several members by each way that they can go."""
    sides = [Side(JAX, way, case, precision) for way in WAYS]
    found = take_turns(sides, rounds)
    chosen = SIDE_BY_SIDE if found[0]["platform"] == "cpu" else AT_ONCE
    base = next(side["seconds"] for side in found if side["variant"] == chosen)
    ratios = {side["variant"]: side["seconds"] / base for side in found}
    return {
        "case": asdict(case),
        "name": case.name,
        "units": case.units,
        "chosen": chosen,
        "ratios": ratios,
        "ways": found,
    }


def limits(*, rounds, precision, tiny=False):
    """The device, and its operations and bytes a second in a large product and a large sum.

    As this library reaches them, and PyTorch where it is installed.
    """
    device, libraries = None, (JAX, TORCH) if find_spec("torch") else (JAX,)
    for cases in (TINY_LIMITS,) if tiny else (LIMITS, LIMITS_ON_GPU):
        speeds = {}
        for name, case in cases.items():
            sides = [Side(library, "", case, precision) for library in libraries]
            found = {side["variant"]: side for side in take_turns(sides, rounds)}
            speeds[name] = {n: getattr(case, name) / side["least"] for n, side in found.items()}
            device = {key: found[JAX][key] for key in ("platform", "device")}
        if device["platform"] == "cpu":
            break
    most = {name: max(speeds[name].values()) for name in speeds}
    return {"cases": {n: case.name for n, case in cases.items()}, "most": most, **device, **speeds}


def _forget_peak():
    """Let Linux count the highest memory from now on; elsewhere it stays that of the process."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text("5")


def _peak():
    """MiB at the highest since `_forget_peak`."""
    place = Path("/proc/self/status")
    if place.exists():
        lines = [row for row in place.read_text().splitlines() if row.startswith("VmHWM")]
        if lines:
            return int(lines[0].split()[1]) / 2**10
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest / (2**20 if sys.platform == "darwin" else 2**10)


def _program(library, variant, case, precision):
    """A case made ready; `default` precision is TF32 on a GPU on both sides."""
    if library == JAX:
        import jax

        if precision != "default":
            jax.config.update("jax_default_matmul_precision", precision)
        return JaxProgram(case, variant)
    import torch
    from bench.torch_reference import TorchProgram

    torch.backends.cuda.matmul.allow_tf32 = precision == "default"
    torch.backends.cudnn.allow_tf32 = precision == "default"
    torch.backends.cudnn.benchmark = True
    return TorchProgram(case, variant)


def _say(**found):
    print(json.dumps(found), flush=True)


def main():
    """Answer the lines of standard input."""
    library, variant, case, precision = sys.argv[1:]
    program = _program(library, variant, Case(**json.loads(case)), precision)
    program.call()
    _say(
        compile_seconds=program.compile_seconds,
        xla=None if variant else program.xla_counts(),
        temporary_bytes=program.temporary_bytes(),
    )
    _forget_peak()
    for line in sys.stdin:
        if line.strip() == "end":
            break
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            program.call()
            seconds.append(time.perf_counter() - began)
        # The highest since the program was ready: building it may take more than running it.
        _say(calls=seconds, peak_mib=_peak(), **program.device())


if __name__ == "__main__":
    main()
