"""One side of one case of scripts/benchmark, in a process of its own that waits for its turn.

Reads lines: a number (make so many calls, say how long each took), or `end`. Answers in JSON.
"""

import json
import resource
import sys
import time
from pathlib import Path

import bench_ideas
from bench_cases import SIDES, Case

SIDE_OF_MATRIX = 4096
TIMES_ON_A_GPU = 20
"""Calls between two waits, so that the wait does not count."""


def forget_peak():
    """Let Linux count the highest memory from now on; elsewhere it stays that of the process."""
    place = Path("/proc/self/clear_refs")
    if place.exists():
        place.write_text("5")


def peak():
    """MiB at the highest since `forget_peak`."""
    place = Path("/proc/self/status")
    if place.exists():
        lines = [row for row in place.read_text().splitlines() if row.startswith("VmHWM")]
        if lines:
            return int(lines[0].split()[1]) / 2**10
    highest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return highest / (2**20 if sys.platform == "darwin" else 2**10)


def say(**found):
    print(json.dumps(found), flush=True)


def limits(side):
    """Operations and bytes a second of a large matrix product and of a large sum of arrays."""
    side_of_matrix, length = SIDE_OF_MATRIX, 2**27
    times = 1
    if side == "ours":
        import jax
        import jax.numpy as jnp

        if jax.default_backend() != "cpu":
            times = TIMES_ON_A_GPU
        a = jnp.ones((side_of_matrix, side_of_matrix))
        x = jnp.ones(length)
        product, added = jax.jit(jnp.matmul), jax.jit(lambda x: x + 1)

        def multiply():
            jax.block_until_ready([product(a, a) for _ in range(times)])

        def add():
            jax.block_until_ready([added(x) for _ in range(times)])
    else:
        import torch

        cuda = torch.cuda.is_available()
        times = TIMES_ON_A_GPU if cuda else 1
        device = "cuda" if cuda else "cpu"
        a = torch.ones((side_of_matrix, side_of_matrix), device=device)
        x = torch.ones(length, device=device)
        out, sums = torch.empty_like(a), torch.empty_like(x)

        def multiply():
            for _ in range(times):
                torch.matmul(a, a, out=out)
            if cuda:
                torch.cuda.synchronize()

        def add():
            for _ in range(times):
                torch.add(x, 1, out=sums)
            if cuda:
                torch.cuda.synchronize()

    def fastest(call):
        call()
        seconds = []
        for _ in range(5):
            began = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    found = {
        "flops": times * 2 * side_of_matrix**3 / fastest(multiply),
        "bytes": times * 8 * length / fastest(add),
    }
    if side == "ours":
        device = jax.devices()[0]
        found |= {"platform": device.platform, "device": device.device_kind}
    say(**found)


def set_precision(side, precision):
    """Products in float32 as asked for; `default` is TF32 on a GPU on both sides."""
    if side == "ours" and precision != "default":
        import jax

        jax.config.update("jax_default_matmul_precision", precision)
    if side == "torch":
        import torch

        torch.backends.cuda.matmul.allow_tf32 = precision == "default"
        torch.backends.cudnn.allow_tf32 = precision == "default"
        torch.backends.cudnn.benchmark = True


def main():
    side, variant, case, precision = sys.argv[1:]
    set_precision(side, precision)
    if variant == "limits":
        limits(side)
        return
    if variant in bench_ideas.BY_NAME:
        bench_ideas.apply(variant)
    program = SIDES[side](Case(**json.loads(case)), variant)
    program.call()
    whole = peak()
    say(
        compile_seconds=program.compile_seconds,
        xla=program.xla_counts(),
        temporary_bytes=program.temporary_bytes(),
        process_peak=whole,
    )
    forget_peak()
    for line in sys.stdin:
        if line.strip() == "end":
            break
        seconds = []
        for _ in range(int(line)):
            began = time.perf_counter()
            program.call()
            seconds.append(time.perf_counter() - began)
        say(seconds=seconds, peak=peak(), device_peak=program.device_peak())


if __name__ == "__main__":
    main()
