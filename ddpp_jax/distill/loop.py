"""The loop of distillation: any method, one distillation or many side by side."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ddpp_jax import cluster
from ddpp_jax.distill.health import rows_of
from ddpp_jax.distill.member import (
    EvaluateFn,
    Keeper,
    Member,
    Outcome,
    Pictured,
    give_up,
    is_finished,
    outcome_of,
    was_given_up,
)
from ddpp_jax.distill.program import (
    States,
    begin,
    compiled,
    feeds_of,
    no_batches,
    steps_per_call,
)
from ddpp_jax.errors import InputError
from ddpp_jax.methods import Info, Method
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet, origin_digest
from ddpp_jax.storage import Checkpoints, digest_of

CHECKPOINT_EVERY = 50
"""Distillation steps between checkpoints."""

CHECKPOINT_SECONDS = 300.0
"""Where steps are slow, the time after which another one is due."""

_SECONDS_PER_CALL = 2.0
_METRICS_SHOWN = 3


class Pace(NamedTuple):
    """How long distillations go on, and when they are looked at.

    Attributes:
        steps: of each.
        eval_every: steps between evaluations; 0 for none.
        which: of each one's sets is wanted at the end: `last`, `best-held-out` or `best-test`.
    """

    steps: int
    eval_every: int = 0
    which: str = "last"


def run(
    method: Method,
    members: Sequence[Member],
    pace: Pace,
    folder: Path,
    report: Report,
    *,
    seen: Pictured,
    evaluate_fn: EvaluateFn | None = None,
    name: str = "distil",
) -> dict[str, Outcome]:
    """Distil all members, and leave each one's sets, `metrics.jsonl` and frames in its folder.

    Each goes through the steps that it would go through alone: on one CPU device to the bit,
    elsewhere to rounding; to rounding also where members differ in their masks, since their program
    has all. Members whose sets are there already are done. What was interrupted goes on from its
    checkpoints, and ends with the same bits as if it had never been. A member whose steps are not
    finite is given up, the others go on.

    Args:
        method: of distillation.
        members: what to distil; their starts are of one shape.
        pace: how long, and when they are looked at.
        folder: for the checkpoints and the whitening, which all members share.
        report: told of every step.
        seen: how images look.
        evaluate_fn: called every `eval_every` steps. What it finds becomes part of the metrics. It
            has no influence on the steps.
        name: what the progress calls it.

    Returns:
        What each member left, by its name, in their order; those that were given up are left out.

    Raises:
        InputError: a member's steps were not finite, and no other is left.
        OSError: the disk is full or may not be written to; what was kept before stays.
    """
    given_up, finished = cluster.agreed(lambda: _found(members, pace.which))
    left = [member for member in members if member.name not in given_up]
    if not left:
        raise InputError(_ALL_GIVEN_UP)
    unfinished = [member for member in left if member.name not in finished]
    place, spent = folder / "checkpoints", _Spent({}, 0.0, 0.0)
    if unfinished:
        group = _group(members, unfinished, place)
        loop = _Loop(method, group, pace, report, seen, evaluate_fn, folder)
        spent = loop.run(_checkpoints(group, place), name)
    for group in (members, unfinished):
        _checkpoints(group, place).remove()
    if cluster.leads() and place.is_dir() and not any(place.iterdir()):
        place.rmdir()
    found = {}
    for member in left:
        if member.name in spent.given_up:
            continue
        # Of rows that were lost before, a person was told when the steps began.
        begun = any(member is other for other in unfinished)
        warn_fn = (lambda _: None) if begun else report.warn
        read = partial(outcome_of, method, member, pace.steps, pace.which, warn_fn)
        outcome = cluster.agreed(read)
        if begun:
            outcome = outcome._replace(seconds=spent.seconds, waited=spent.waited)
        found[member.name] = outcome
    return found


def _found(members: Sequence[Member], which: str) -> tuple[set[str], set[str]]:
    """The names of those that earlier processes gave up, and of those that they finished."""
    given_up = {member.name for member in members if was_given_up(member)}
    return given_up, {member.name for member in members if is_finished(member, which)}


_ALL_GIVEN_UP = (
    "all distillations were given up, since their steps were not finite; given-up.json in each "
    "one's folder says more"
)


class _Spent(NamedTuple):
    """What a process did: whom it gave up and why, and the seconds for each member."""

    given_up: dict[str, str]
    seconds: float
    waited: float


def _checkpoints(members: Sequence[Member], place: Path) -> Checkpoints:
    """The checkpoints of a group of members, in a folder of the group's own."""
    of = digest_of({member.name: origin_digest(member.origin) for member in members})
    return Checkpoints(place / of[:8], of=of)


def _group(
    members: Sequence[Member], unfinished: Sequence[Member], place: Path
) -> Sequence[Member]:
    """Whom to distil: all, where an earlier process left a state of all; or who is unfinished."""
    return members if _checkpoints(members, place).exist() else unfinished


class _Loop:
    """Some distillations side by side, from their first step or a checkpoint to their last."""

    def __init__(
        self,
        method: Method,
        members: Sequence[Member],
        pace: Pace,
        report: Report,
        seen: Pictured,
        evaluate_fn: EvaluateFn | None,
        folder: Path,
    ) -> None:
        self._folder = folder
        self._method, self._members, self._pace = method, list(members), pace
        self._report, self._seen, self._evaluate_fn = report, seen, evaluate_fn
        self._every = pace.eval_every if evaluate_fn is not None else 0
        self._given_up: dict[str, str] = {}
        self._keepers: list[Keeper] = []

    def run(self, checkpoints: Checkpoints, name: str) -> _Spent:
        """Make the steps that are left, and write what each member leaves."""
        method, report, steps = self._method, self._report, self._pace.steps
        begun = [begin(method, member) for member in self._members]
        states = jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)
        states, done = checkpoints.load_latest(states, report.warn)
        rows = steps_per_call(method, len(self._members))
        feeds, clock = feeds_of(method, self._members, done), _Clock()
        try:
            cluster.agreed(partial(self._open_keepers, done))
            empty = no_batches(method, rows) if not method.shared else feeds[0].take(0, rows=rows)
            advance = compiled(method, self._members, states, [empty] * len(feeds))
            with report.progress(name, steps, unit="step", done=done) as tick:
                if done == 0:
                    self._begin(states)
                frames = cluster.agreed(lambda: self._keepers[0].frame_steps)
                for first, count in calls(done, steps, self._every, rows, clock, frames):
                    began = time.perf_counter()
                    batches = [feed.take(count, rows=rows) for feed in feeds]
                    states, info = advance(states, first, count, batches)
                    info = jax.device_get(info)
                    for feed in feeds:
                        feed.check()
                    clock.record(_took(began), count)
                    self._record(states, info, first, count)
                    if (first + count) % CHECKPOINT_EVERY == 0 or clock.is_late():
                        checkpoints.save(first + count, states)
                        clock.saved = time.monotonic()
                    tick(first + count, _shown(method, info, count))
            for index in self._active():
                small = self._small(states, index)
                cluster.agreed(lambda i=index, s=small: self._keepers[i].finish(s, steps))
        finally:
            for thing in (*feeds, *self._keepers):
                thing.close()
        share, waited = len(self._members), sum(feed.waited for feed in feeds)
        return _Spent(self._given_up, clock.seconds / share, waited / share)

    def _begin(self, states: States) -> None:
        for index in self._active():
            small = self._small(states, index)
            found = self._evaluated(small, 0)
            cluster.agreed(lambda i=index, s=small, f=found: self._keepers[i].begin(s, f))

    def _open_keepers(self, done: int) -> None:
        """Open the files of all members; the leading process alone."""
        span = (done, self._pace.steps)
        for member in self._members:
            keeper = Keeper(member, self._method, span, self._report, self._seen, run=self._folder)
            self._keepers.append(keeper)

    def _record(self, states: States, info: Info, first: int, count: int) -> None:
        """Keep the rows of a call, and a frame where one is due; give up what is past help."""
        now = first + count
        for index in self._active():
            small = self._small(states, index)
            rows = rows_of(jax.tree.map(lambda leaf, index=index: leaf[index], info), first, count)
            found = self._evaluated(small, now)
            try:
                cluster.agreed(partial(self._keep, index, now, rows, small, found))
            except InputError as trouble:
                if len(self._members) == 1:
                    raise
                self._give_up(self._members[index], trouble)

    def _keep(
        self,
        index: int,
        now: int,
        rows: list[dict[str, Any]],
        small: DistilledSet,
        found: Mapping[str, float],
    ) -> None:
        """Write what some steps of a member leave; the leading process alone."""
        self._keepers[index].keep_frame(now, small)
        self._keepers[index].record(rows, small, found)

    def _give_up(self, member: Member, trouble: InputError) -> None:
        self._report.warn(f"{member.name} is given up, the others go on: {trouble}")
        give_up(member, str(trouble))
        self._given_up[member.name] = str(trouble)
        if not self._active():
            raise InputError(_ALL_GIVEN_UP) from trouble

    def _evaluated(self, small: DistilledSet, now: int) -> dict[str, float]:
        if self._evaluate_fn is None or not self._every or now % self._every:
            return {}
        return self._evaluate_fn(small)

    def _active(self) -> list[int]:
        """The places of the members that go on."""
        names = [member.name for member in self._members]
        return [index for index, name in enumerate(names) if name not in self._given_up]

    def _small(self, states: States, index: int) -> DistilledSet:
        """The set of one member."""
        return self._method.distilled(jax.tree.map(lambda leaf: leaf[index], states))


def _took(began: float) -> float:
    """The seconds since then, by which processes of one job cut their steps into the same calls."""
    return cluster.agreed(lambda: time.perf_counter() - began)


class _Clock:
    """How long the steps take."""

    def __init__(self) -> None:
        self.seconds, self.pace = 0.0, math.inf
        self.saved = time.monotonic()

    def is_late(self) -> bool:
        """Whether the last checkpoint is long ago."""
        return time.monotonic() - self.saved > CHECKPOINT_SECONDS

    def record(self, seconds: float, count: int) -> None:
        """Take in a call of so many steps."""
        self.seconds += seconds
        self.pace = seconds / count


def calls(
    done: int, steps: int, every: int, most: int, clock: "_Clock", stops: Set[int] = frozenset()
) -> Iterator[tuple[int, int]]:
    """The first step of each call, and how many it makes: some seconds' worth.

    None goes past a checkpoint, an evaluation or one of the `stops`.
    """
    while done < steps:
        ends = [CHECKPOINT_EVERY - done % CHECKPOINT_EVERY, steps - done, most]
        ends += [every - done % every] if every else []
        ends += [stop - done for stop in stops if stop > done]
        count = min(*ends, max(1, int(_SECONDS_PER_CALL / clock.pace)))
        yield done, count
        done += count


def _shown(method: Method, info: Info, count: int) -> dict[str, float]:
    """What the progress shows of a call: its last step, the mean over the members."""
    found: dict[str, float] = {}
    for metric in method.metrics:
        values = info.metrics.get(metric.name)
        if isinstance(values, np.ndarray) and values.dtype.kind == "f":
            found[metric.name] = float(values[:, count - 1].mean())
    return dict(list(found.items())[:_METRICS_SHOWN])
