"""How a job's work, memory and bytes spread over devices: a model, which runs nothing.

What devices share are members (teachers, distillations that go side by side, networks of an
evaluation), and where these are fewer, what a unit of a member is cut into. The busiest device
decides the time. Work is in any unit that `Costs` has: operations, or seconds on one device.
"""

import math
from typing import NamedTuple

from ddpp_jax.planning.work import Costs, Stage


class Cut(NamedTuple):
    """What work is cut into, so that several devices can have equal parts of it.

    Attributes:
        pieces: how many there are.
        least: of them on a device; fewer are not worth it.
        fills: whether copies fill up where they do not divide evenly; else fewer devices share.
        summed: bytes that the devices sum in each unit.
    """

    pieces: int
    least: int = 1
    fills: bool = False
    summed: float = 0.0


class Kind(NamedTuple):
    """What there is of one kind of work: epochs of teachers, distillation steps, evaluations.

    All sizes are in bytes.

    Attributes:
        members: that share the devices.
        at_a_time: the most of them that are at work on a device at a time; 0 has no such bound.
        cuts: of a unit's work, one inside another, each shared by devices that no member is on.
        shared: the share of a unit's work that is cut.
        untold: whether devices share work beyond what the cuts tell.
        calls: of the compiled program for each unit of a member.
        state: of a member, which goes to its device before a call and comes back after it.
        fed: what a call of a member reads beside, and is sent with its state.
        common: what every device is sent for each unit.
        once: what every device is sent once.
        held: what a member at work takes on its device, at the least.
        standing: what every device holds beside.
        read: what a unit of a member reads from disk, in every process.
        read_once: the same, of all units together.
        written: what a member leaves on disk.
    """

    members: int = 1
    at_a_time: int = 0
    cuts: tuple[Cut, ...] = ()
    shared: float = 1.0
    untold: bool = False
    calls: float = 1.0
    state: float = 0.0
    fed: float = 0.0
    common: float = 0.0
    once: float = 0.0
    held: float = 0.0
    standing: float = 0.0
    read: float = 0.0
    read_once: float = 0.0
    written: float = 0.0


class Kinds(NamedTuple):
    """What there is of each kind of work, as `Costs` has them."""

    epoch: Kind
    step: Kind
    evaluation: Kind


class Layout(NamedTuple):
    """The devices of a job.

    Attributes:
        devices: of all processes together.
        processes: each of which has as many of them.
    """

    devices: int
    processes: int = 1


class Rates(NamedTuple):
    """How fast a machine is.

    Attributes:
        work: that a device does in a second, in the unit of the costs.
        link: bytes a second between the devices of a process, one device sending or receiving.
        network: bytes a second into a process from the others.
        disk: bytes a second that all processes together read or write.
    """

    work: float = 1.0
    link: float = math.inf
    network: float = math.inf
    disk: float = math.inf


class Need(NamedTuple):
    """What a stage takes on some devices.

    Attributes:
        name: of the stage.
        total: its work.
        busiest: the work of the device that has most of it.
        sent: bytes between the devices of a process.
        network: bytes between processes.
        read: bytes from disk, of all processes.
        written: bytes to disk.
        memory: bytes on a device, at the least.
    """

    name: str
    total: float
    busiest: float
    sent: float
    network: float
    read: float
    written: float
    memory: float


def most_on_one(members: int, devices: int) -> int:
    """Members of the busiest device, where each device has an equal part and copies fill up."""
    return math.ceil(members / devices_for(members, devices))


def sharing(kind: Kind, devices: int) -> list[int]:
    """How many devices share each cut of a member's work.

    Devices beyond the members are shared out evenly, and divided among the cuts, the outer one
    first, as `training/spread.py` divides them.

    >>> sharing(Kind(cuts=(Cut(4), Cut(256, least=16))), 8)
    [4, 2]
    """
    free, found = devices // devices_for(kind.members, devices), list[int]()
    for cut in kind.cuts:
        fitting = (
            count
            for count in _divisors(free)
            if count == 1
            or cut.fills
            or (cut.pieces % count == 0 and cut.pieces // count >= cut.least)
        )
        found.append(max(fitting))
        free //= found[-1]
    return found


def part(kind: Kind, devices: int) -> float:
    """The part of all work of a kind that the busiest device has: 1 on one device.

    >>> part(Kind(members=10), 4), part(Kind(cuts=(Cut(8),)), 4), part(Kind(cuts=(Cut(8),)), 3)
    (0.3, 0.25, 1.0)
    """
    counts = zip(kind.cuts, sharing(kind, devices), strict=True)
    left = math.prod(math.ceil(cut.pieces / count) / cut.pieces for cut, count in counts)
    own = 1 - kind.shared + kind.shared * left
    return most_on_one(kind.members, devices) / kind.members * own


def devices_for(members: int, devices: int) -> int:
    """Over how many devices members are divided: no more than they need, or all.

    >>> devices_for(2, 8), devices_for(3, 8), devices_for(9, 8)
    (2, 4, 8)
    """
    return min(count for count in _divisors(devices) if count >= min(members, devices))


def _divisors(number: int) -> list[int]:
    return [count for count in range(1, number + 1) if number % count == 0]


def on_one_device(costs: Costs, kinds: Kinds, devices: int) -> Costs:
    """What a unit costs on one device, from what it costs where some devices share the work."""
    pairs = zip(costs, kinds, strict=True)
    return Costs(*(cost / part(kind, devices) for cost, kind in pairs))


def need(stage: Stage, costs: Costs, kinds: Kinds, layout: Layout) -> Need:
    """What a stage takes on some devices.

    Args:
        stage: how many units of each kind it has, of all members together.
        costs: of a unit, on one device.
        kinds: what there is of each kind.
        layout: the devices.
    """
    parts = Costs(*(part(kind, layout.devices) for kind in kinds))
    busiest = Costs(*(cost * share for cost, share in zip(costs, parts, strict=True)))
    evaluated = stage.evaluations * kinds.evaluation.members  # Each is of all networks.
    units = zip(kinds, (stage.epochs, stage.steps, evaluated), strict=True)
    each = [(kind, count) for kind, count in units if count]
    return Need(
        stage.name,
        costs.of(stage),
        busiest.of(stage),
        sent=sum(_between_devices(*one, layout) for one in each),
        network=sum(_between_processes(*one, layout) for one in each),
        read=sum(layout.processes * (kind.read_once + n * kind.read) for kind, n in each),
        written=sum(kind.members * kind.written for kind, _ in each),
        memory=max((memory(kind, layout.devices) for kind, _ in each), default=0.0),
    )


def memory(kind: Kind, devices: int) -> float:
    """Bytes of a device at work on a kind, at the least."""
    count = most_on_one(kind.members, devices)
    at_once = min(count, kind.at_a_time) if kind.at_a_time else count
    return float(kind.standing + kind.held * at_once)


def host_memory(kind: Kind, devices: int) -> float:
    """Bytes that the leading process keeps in its own memory until they are written.

    They are those of all members that are at work at a time.
    """
    at_a_time = kind.at_a_time * devices or kind.members
    return float(kind.written * min(kind.members, at_a_time))


def seconds(found: Need, rates: Rates, layout: Layout) -> float:
    """Seconds of a stage: its busiest device, then what is sent.

    What distillation reads is read ahead, so that only what is slower than the work counts, and all
    that is written.

    Args:
        found: what the stage takes.
        rates: of the machine.
        layout: the devices.
    """
    # What goes between the devices of one process goes through the first of them.
    sending = found.sent / rates.link + found.network / layout.processes / rates.network
    working = found.busiest / rates.work + sending
    return float(max(working, found.read / rates.disk) + found.written / rates.disk)


def busy(found: Need, devices: int) -> float:
    """The share of the devices that is at work, over a stage, from 0 to 1."""
    return found.total / (devices * found.busiest) if found.busiest else 1.0


def speedup(found: Need) -> float:
    """How many times as fast as one device, sending and reading left out."""
    return found.total / found.busiest if found.busiest else 1.0


def _between_devices(kind: Kind, units: int | float, layout: Layout) -> float:
    """Bytes between the devices of one process.

    Processes have what goes to their devices in memory of their own, so that several of them send
    through the network alone.
    """
    others = layout.devices - 1
    if layout.processes > 1 or not others:
        return 0.0
    each = units / kind.members
    count, apart = (
        most_on_one(kind.members, layout.devices),
        devices_for(kind.members, layout.devices),
    )
    there = others * (kind.state + kind.fed)
    back = (apart - 1) * kind.state  # What devices share of a member, the first has already.
    moved = count * each * kind.calls * (there + back)
    summed = 2 * _summed(kind, units, layout.devices)
    return float(others * (kind.once + each * kind.common) + moved + summed)


def _between_processes(kind: Kind, units: int | float, layout: Layout) -> float:
    """Bytes between processes: states that all are told of, and what their devices sum."""
    others = layout.processes - 1
    apart = devices_for(kind.members, layout.devices)
    filled = apart * most_on_one(kind.members, layout.devices)
    told = filled * units / kind.members * kind.calls * kind.state if kind.members > 1 else 0.0
    summed = 2 * _summed(kind, units, layout.devices) / (layout.devices - 1) if others else 0.0
    return float(others * (told + summed))


def _summed(kind: Kind, units: int | float, devices: int) -> float:
    """Bytes that devices hand on, half way through the sums of all their groups."""
    counts = zip(kind.cuts, sharing(kind, devices), strict=True)
    free = devices // devices_for(kind.members, devices)
    return float(sum(units * cut.summed * (free - free // n) for cut, n in counts))
