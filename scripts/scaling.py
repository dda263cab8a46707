"""Growth over devices: what was measured on virtual ones, and what a model says of GPUs.

`measure` runs the stages on 1, 2, 4 and 8 virtual devices of this machine, each in a process of its
own, and prints the work of a device, what devices send and what they hold, beside the model. Since
they share the same cores, nothing is said about time. `plan` prints what jobs need on several GPUs
by the model, from a speed that is assumed. Nothing of it was measured on a GPU.
"""

import argparse
import json
from pathlib import Path

from bench.devices import CASES, measure
from bench.plans import OF_A_PROCESS, beside, jobs, plan

DEVICES = (1, 2, 4, 8)
PLANNED = (1, 8, 64)
GPU = "A100 SXM 80 GB"
PEAK = 156e12
"""Its published peak in TF32, operations a second."""
MEMORY = 80e9


def markdown(columns, rows):
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def amount(size):
    """Bytes for a person."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if size < 1000 or unit == "TB":
            return f"{size:.3g} {unit}" if size < 1000 else f"{size:,.0f} {unit}"
        size /= 1000
    raise AssertionError


def duration(seconds):
    """A time for a person."""
    for unit, size in (("days", 86400), ("h", 3600), ("min", 60)):
        if seconds >= (2 if unit == "days" else 1) * size:
            return f"{seconds / size:.1f} {unit}"
    return f"{seconds:.1f} s"


def off(measured, model):
    """By how much the model is off."""
    if not measured:
        return "0 %" if not model else "-"
    share = model / measured - 1
    return f"{share if abs(share) >= 5e-4 else 0:+.1%}".replace("%", " %")


def line_measured(row):
    """What is told of a case on some devices, when it is there."""
    return (
        f"{row['case']} on {row['devices']}: {row['flops'] / 1e6:,.0f} MFLOP a device "
        f"({off(row['flops'], row['flops_by_model'])} by the model), {row['part']:.3f} of one "
        f"device's ({row['part_by_model']:.3f}), {amount(row['sent'])} sent "
        f"({off(row['sent'], row['sent_by_model'])})"
    )


COLUMNS_MEASURED = [
    "case",
    "devices",
    "members of the busiest",
    "MFLOP of a device (model off by)",
    "part of one device's (model)",
    "handed to collectives by a device",
    "sent between devices (model off by)",
    "program on a device, MiB",
    "process at the highest, MiB",
]


def row_measured(rows):
    """A case on all numbers of devices, as a row of the table."""

    def each(text_fn):
        return ", ".join(map(text_fn, rows))

    last = rows[-1]
    return [
        last["case"],
        each(lambda row: str(row["devices"])),
        each(lambda row: str(row["members"])),
        each(lambda row: f"{row['flops'] / 1e6:,.0f}")
        + f" ({off(last['flops'], last['flops_by_model'])})",
        each(lambda row: f"{row['part']:.3g}") + f" ({last['part_by_model']:.3g} at last)",
        each(lambda row: amount(row["handed"])) if last["handed"] else "nothing",
        each(lambda row: amount(row["sent"])) + f" ({off(last['sent'], last['sent_by_model'])})",
        each(lambda row: f"{row['held'] / 2**20:.1f}"),
        each(lambda row: f"{row['peak_mib']:,.0f}"),
    ]


COLUMNS_PLANNED = [
    "job",
    "GPUs",
    "teachers",
    "steps",
    "evaluations",
    "of it sending",
    "memory of a GPU, at the least",
    "of the leading host",
    "disk",
    "read",
    "between GPUs of a process",
    "between processes",
]


def run_measure(given):
    rows, table = [], []
    for case in CASES:
        if not all(word in case.name for word in given.only):
            continue
        found = {count: measure([case], count)[0] for count in sorted({1, *given.devices})}
        own = beside(case, found)
        rows += own
        table.append(row_measured(own))
        print("\n".join(map(line_measured, own)), flush=True)
    if not rows:
        raise SystemExit("scaling: no case has that name")
    print(f"\n{markdown(COLUMNS_MEASURED, table)}")
    work = max(abs(row["part_by_model"] / row["part"] - 1) for row in rows)
    sent = [abs(row["sent_by_model"] / row["sent"] - 1) for row in rows if row["sent"]]
    print(
        f"\nThe model's part of the work is off by {work:.2%} at most"
        + (f", what is sent by {max(sent):.2%} at most" if sent else "")
    )
    if given.out:
        given.out.write_text(json.dumps(rows, indent=2) + "\n")


def row_planned(name, devices, found):
    return [
        name,
        str(devices),
        *map(duration, found["seconds"]),
        f"{found['sending']:.1%}".replace("%", " %"),
        f"{amount(found['memory'])} ({found['memory_in']})",
        amount(found["host"]),
        amount(found["written"]),
        streamed(found),
        amount(found["sent"]),
        amount(found["network"]),
    ]


def streamed(found):
    """What is read, and what of it as it is needed."""
    parts = found["streamed"]
    return amount(found["read"]) + (f" ({' and '.join(parts)} streamed)" if parts else "")


def run_plan(given):
    from ddpp_jax.planning.scaling import Rates

    speed, peak = given.share * given.peak, given.peak / 1e12
    rates = Rates(speed, given.link, given.network, given.disk)
    print(
        f"ASSUMED, not measured on a GPU: {speed / 1e12:.3g} TFLOP/s sustained by each GPU, "
        f"{given.share:.0%} of the {peak:.4g} TFLOP/s that are published for {given.gpu}; "
        f"{amount(given.memory)} of memory, {OF_A_PROCESS} GPUs a process, {amount(given.link)}/s "
        f"between them, {amount(given.network)}/s into a process, {amount(given.disk)}/s of disk\n"
    )
    rows, notes = [], {}
    for name, (job, shapes) in jobs().items():
        for devices in given.devices:
            found = plan(job, shapes, devices, rates, given.memory, segments=given.segments)
            rows.append(row_planned(name, devices, found))
            lines = list(dict.fromkeys(found["limits"]))
            if found["memory"] > given.memory:
                lines.append(f"{found['memory_in']} need more memory than a GPU has")
            for line in lines:
                notes.setdefault(line, {}).setdefault(name, []).append(str(devices))
    print(markdown(COLUMNS_PLANNED, rows))
    print("\nWhat limits it:")
    for line, where in notes.items():
        said = "; ".join(f"{name} on {', '.join(counts)}" for name, counts in where.items())
        print(f"- {line} ({said})")


def numbers(text):
    """Numbers of devices, joined by commas."""
    found = [int(part) for part in text.split(",")]
    if not all(1 <= count <= 10**5 for count in found):
        raise argparse.ArgumentTypeError(f"{text} has a number that is not 1 to 100000")
    return found


def above_zero(text):
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not a number above 0")
    return value


def parse():
    parser = argparse.ArgumentParser(prog="scripts/scaling.py", description=__doc__)
    kinds = parser.add_subparsers(required=True, dest="what")
    measured = kinds.add_parser("measure", help="virtual devices of this machine")
    measured.add_argument("--devices", type=numbers, default=DEVICES, help="such as 1,2,4,8")
    measured.add_argument("--only", nargs="*", default=[], help="cases whose name has all of these")
    measured.add_argument("--out", type=Path, help="also write the rows as JSON")
    measured.set_defaults(run=run_measure)
    planned = kinds.add_parser("plan", help="GPUs, by the model and an assumed speed")
    planned.add_argument("--devices", type=numbers, default=PLANNED, help="such as 1,8,64")
    planned.add_argument("--segments", type=int, default=1, help="of each distillation step")
    planned.add_argument("--gpu", default=GPU, help="whose figures these are")
    planned.add_argument("--peak", type=above_zero, default=PEAK, help="operations a second")
    planned.add_argument("--share", type=above_zero, default=0.2, help="of the peak, sustained")
    planned.add_argument("--memory", type=above_zero, default=MEMORY, help="bytes of a GPU")
    planned.add_argument("--link", type=above_zero, default=25e9, help="bytes/s between GPUs")
    planned.add_argument("--network", type=above_zero, default=12.5e9, help="bytes/s of a process")
    planned.add_argument("--disk", type=above_zero, default=2e9, help="bytes/s of all together")
    planned.set_defaults(run=run_plan)
    return parser.parse_args()


def main():
    given = parse()
    given.run(given)


if __name__ == "__main__":
    main()
