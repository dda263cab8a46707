"""What a compiled program does on each device: counted in its text, with the turns of its loops.

XLA's own count (`cost_analysis`) takes each loop once. Here a loop counts as often as it turns,
where the compiler knows that; one whose turns are passed to the program counts once. Operations are
those of products and convolutions, multiplications and additions.
"""

import math
import re
from collections import Counter
from typing import NamedTuple

BYTES = {"pred": 1, "s8": 1, "u8": 1, "s16": 2, "u16": 2, "f16": 2, "bf16": 2, "s64": 8, "u64": 8}
BYTES |= {"s32": 4, "u32": 4, "f32": 4, "f64": 8}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "all-to-all", "collective-permute")

_HEADER = re.compile(r"(ENTRY )?%?([\w.\-]+) \(.*\) -> .* \{$")
_LINE = re.compile(r"\s+(?:ROOT )?%?([\w.\-]+) = (\(.*?\)|\S+) ([\w\-]+)\((.*)$")
_SHAPE = re.compile(r"(\w+)\[([\d,]*)\]")
_NAME = re.compile(r"%([\w.\-]+)")
_TURNS = re.compile(r'"known_trip_count":\{"n":"(\d+)"\}')


class Instruction(NamedTuple):
    kind: str
    shapes: list
    operands: list
    rest: str


class Counted(NamedTuple):
    """What a program does on one device.

    Attributes:
        flops: of products and convolutions.
        sent: bytes that it hands to collectives, by their kind, and `of N` where N devices each
            take part in one.
    """

    flops: float
    sent: Counter


def count(text, *, loops=True):
    """What a compiled program does on each device.

    Args:
        text: of the program, as `Compiled.as_text` gives it.
        loops: False counts every loop once, as XLA does.
    """
    computations, entry = _parse(text)
    return _count(computations, entry, loops, {})


def _parse(text):
    """The instructions of every computation by their names, and the name of the whole."""
    computations, entry, current = {}, None, {}
    for line in text.splitlines():
        header = _HEADER.match(line)
        if header:
            current = computations[header[2]] = {}
            entry = header[2] if header[1] else entry
            continue
        found = _LINE.match(line)
        if found:
            name, shape, kind, rest = found.groups()
            inside, _, after = rest.partition(")")
            shapes = [(dtype, _sizes(sizes)) for dtype, sizes in _SHAPE.findall(shape)]
            current[name] = Instruction(kind, shapes, _NAME.findall(inside), after)
    if entry is None:
        raise ValueError("the text has no program")
    return computations, entry


def _count(computations, name, loops, known):
    if name not in known:
        flops, sent = 0.0, Counter()
        own = computations[name]
        for one in own.values():
            flops += _operations(one, own)
            kind = one.kind.removesuffix("-start")
            if kind in COLLECTIVES:
                size = sum(_size(own[operand].shapes) for operand in one.operands)
                sent[f"{kind}{_group(one)}"] += size
            turns = _TURNS.search(one.rest)
            times = int(turns[1]) if turns and loops and one.kind == "while" else 1
            inside = [_count(computations, called, loops, known) for called in _called(one)]
            if one.kind == "conditional":  # One branch is taken.
                inside = [max(inside, key=lambda branch: branch.flops)]
            for found in inside:
                flops += times * found.flops
                sent.update({key: times * size for key, size in found.sent.items()})
        known[name] = Counted(flops, sent)
    return known[name]


def _called(one):
    """The computations that an instruction runs; not those that reduce or compare two numbers."""
    if one.kind == "while":
        return re.findall(r"body=%([\w.\-]+)", one.rest)
    if one.kind == "conditional":
        branches = re.search(r"branch_computations=\{(.*?)\}", one.rest)
        two = re.findall(r"(?:true|false)_computation=%([\w.\-]+)", one.rest)
        return _NAME.findall(branches[1]) if branches else two
    if one.kind == "call":
        return re.findall(r"to_apply=%([\w.\-]+)", one.rest)
    return re.findall(r"calls=%([\w.\-]+)", one.rest)


def _group(one):
    """How many devices take part in a collective, in words; nothing where all do."""
    listed = re.search(r"replica_groups=\{\{([\d,]*)\}", one.rest)
    counted = re.search(r"replica_groups=\[\d+,(\d+)\]", one.rest)
    if listed:
        return f" of {len(_sizes(listed[1]))}"
    return f" of {counted[1]}" if counted else ""


def _operations(one, own):
    if one.kind not in ("dot", "convolution"):
        return 0.0
    ((_, out),) = one.shapes
    left, right = (own[operand].shapes[0][1] for operand in one.operands[:2])
    if one.kind == "dot":
        axes = re.search(r"lhs_contracting_dims=\{([\d,]*)\}", one.rest)
        return 2.0 * math.prod(out) * math.prod(left[axis] for axis in _sizes(axes[1]))
    kernel = re.search(r"dim_labels=\w+_(\w+)->", one.rest)[1]
    return 2.0 * math.prod(out) * math.prod(right) / right[kernel.index("o")]


def _sizes(text):
    return [int(size) for size in text.split(",") if size]


def _size(shapes):
    return sum(BYTES[dtype] * math.prod(sizes) for dtype, sizes in shapes)
