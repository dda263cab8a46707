"""What a job would take on more devices like those at hand, in words: for `--dry-run`."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import jax

from ddpp_jax.planning import scaling
from ddpp_jax.planning.scaling import Kinds, Layout, Need
from ddpp_jax.planning.trial import in_words
from ddpp_jax.planning.work import Costs, Stage
from ddpp_jax.progress import Report
from ddpp_jax.storage import gib

KindsFn: TypeAlias = Callable[[Costs], Kinds]
"""`kinds_fn(paces)`: what there is of each kind of work, where a unit of all its members takes some
seconds, by which calls of the compiled programs are cut."""


class Tried(NamedTuple):
    """A stage that was tried.

    Attributes:
        stage: its units.
        costs: seconds of each unit on the devices at hand.
        kinds_fn: gives what there is of each kind.
    """

    stage: Stage
    costs: Costs
    kinds_fn: KindsFn


def paced(kinds_fn: KindsFn, costs: Costs, devices: int) -> Kinds:
    """What there is of each kind of work on so many devices.

    Args:
        kinds_fn: gives it.
        costs: seconds of a unit on one device.
        devices: how many.
    """
    kinds = kinds_fn(Costs(0.0, 0.0, 0.0))
    members = (kinds.epoch.members, kinds.step.members, 1)  # An evaluation is of all its networks.
    terms = zip(costs, members, kinds, strict=True)
    return kinds_fn(Costs(*(cost * n * scaling.part(kind, devices) for cost, n, kind in terms)))


def describe(tried: Sequence[Tried], devices: int, report: Report) -> None:
    """Say what a job would take on so many devices like those at hand.

    Args:
        tried: its stages.
        devices: how many there would be.
        report: told of it.
    """
    alone, apart, why, kept = list[Need](), list[Need](), list[str](), 0.0
    for stage, costs, kinds_fn in tried:
        one = scaling.on_one_device(costs, kinds_fn(Costs(0.0, 0.0, 0.0)), jax.device_count())
        kinds = paced(kinds_fn, one, devices)
        if one.of(stage):
            alone.append(scaling.need(stage, one, kinds, Layout(devices)))
            apart.append(scaling.need(stage, one, kinds, Layout(devices, devices)))
            why.append("; ".join(limits(stage, kinds, devices)))
            kept = max(kept, scaling.host_memory(kinds.epoch, devices) if stage.epochs else 0.0)
    if not alone:
        report.say(f"On {devices} devices: nothing is left to do")
        return
    total, busiest = (sum(getattr(n, name) for n in alone) for name in ("total", "busiest"))
    report.say(
        f"On {devices} device{'s' if devices > 1 else ''} like this one: about "
        f"{in_words(busiest)}, where one takes {in_words(total)}, by the trial and by how the work "
        "divides; nothing was run on them, and what is sent takes time that is not counted:"
    )
    for found, reason in zip(alone, why, strict=True):
        report.say(
            f"  {found.name}: {in_words(found.busiest)}, {scaling.speedup(found):.3g} times as "
            f"fast, {scaling.busy(found, devices):.0%} of the devices at work"
            + (f" ({reason})" if reason else "")
        )
    most = max(alone, key=lambda found: found.memory)
    host = f"; {gib(kept)} in that of the leading process, until they are written" if kept else ""
    report.say(f"  Memory: {gib(most.memory)} of a device at the least, in {most.name}{host}")
    report.say(
        f"  Disk: {gib(sum(found.written for found in alone))} written; read {_read(alone)} by one "
        f"process, {_read(apart)} by {devices}"
    )
    report.say(
        f"  Sent: {gib(sum(found.sent for found in alone))} between the devices of one process; or "
        f"{gib(sum(found.network for found in apart))} over the network, with a process for each"
    )


def say_unknown(devices: int, report: Report) -> None:
    """Say that nothing is known of so many devices, where nothing could be tried."""
    report.say(f"On {devices} devices: unknown too")


def limits(stage: Stage, kinds: Kinds, devices: int) -> list[str]:
    """Why a stage does not keep all devices at work, a line for each reason.

    Args:
        stage: whose units say which kinds it has.
        kinds: what there is of each kind.
        devices: how many share the work.
    """
    units = zip(
        ("teacher", "distillation", "network"),
        kinds,
        (stage.epochs, stage.steps, stage.evaluations),
        strict=True,
    )
    found = []
    for name, kind, count in units:
        if not count or devices == 1:
            continue
        apart = scaling.devices_for(kind.members, devices)
        divided = math.prod(scaling.sharing(kind, devices))
        if kind.members % apart:
            most = scaling.most_on_one(kind.members, devices)
            found.append(f"of {kind.members} {name}s a device has {most} at most")
        if apart * divided < devices:
            how = f"divided among {divided} devices" if divided > 1 else "not divided"
            how = "divided by a share that is not counted" if kind.untold else how
            found.append(f"a {name} is {how}")
    return found


def _read(found: Sequence[Need]) -> str:
    return gib(sum(one.read for one in found))
