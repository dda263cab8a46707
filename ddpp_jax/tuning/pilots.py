"""Pilots: short distillations that differ in what is searched, halved step by step.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): all pilots go some steps and are compared
by the accuracy of few networks on held-out images; the better half goes on for twice as many steps.
Of the last three the best is taken. The test set plays no part.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float, Int

from ddpp_jax import distill
from ddpp_jax.configs import DistillConfig
from ddpp_jax.methods import Method
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import Checkpoints, digest_of, read_sealed, write_json
from ddpp_jax.tuning.found import PILOTS, REMEDY, Trial


class Pilot(NamedTuple):
    """A short distillation: the values of what is searched, and all settings of the method."""

    values: Mapping[str, float]
    settings: DistillConfig


class Race(NamedTuple):
    """Every pilot at every comparison, the best of the last one, and the seconds of a step."""

    trials: list[Trial]
    best: Trial
    step: float


class Pieces(NamedTuple):
    """What pilots are made of.

    Attributes:
        make_fn: `make_fn(settings)`, the method, and the numbers in which pilots of one program
            may differ.
        start_fn: `start_fn(settings)`, the set to start from.
        score_fn: `score_fn(small)`, the accuracy of a set on held-out images, from 0 to 1.
        seed: of all draws.
        images: how many held-out images there are, which decides what an equal accuracy is.
        of: a digest of all else that decides what the pilots come to, such as their teachers.
    """

    make_fn: Callable[[DistillConfig], tuple[Method, Any]]
    start_fn: Callable[[DistillConfig], DistilledSet]
    score_fn: Callable[[DistilledSet], float]
    seed: int
    images: int
    of: str = ""


def race(
    pilots: Sequence[Pilot],
    pieces: Pieces,
    rungs_fn: Callable[[float], list[int]],
    folder: Path,
    report: Report,
) -> Race:
    """Compare pilots until one is taken; what was compared before an interruption is not repeated.

    Args:
        pilots: what to compare.
        pieces: what they are made of.
        rungs_fn: `rungs_fn(seconds of a step)`, the steps after which pilots are compared.
        folder: held by this process; what the pilots have shown is kept in it.
        report: told of every comparison.
    """
    groups = _groups(pilots, pieces, folder)
    path = folder / PILOTS
    of = digest_of({"of": pieces.of, "pilots": [asdict(pilot.settings) for pilot in pilots]})
    kept = read_sealed(path, remedy=REMEDY) if path.exists() else {}
    if kept.get("of") != of:
        for group in groups:
            group.close()  # States of an earlier race.
        step = groups[0].step_seconds()
        kept = {"of": of, "rungs": rungs_fn(step) or [1], "step": step, "trials": []}
        write_json(path, kept)
    going, trials = list(range(len(pilots))), list(kept["trials"])
    best, at, done, before = None, 0, 0, 0
    with report.progress("try settings", _total(len(pilots), kept["rungs"]), unit="step") as tick:
        for steps in kept["rungs"]:
            if at + len(going) > len(trials):
                shown = {} if at == 0 else {"best held-out accuracy": trials[at - 1]["accuracy"]}
                now = done
                for group in groups:
                    for made in group.advance(going, steps, report):
                        now += made
                        tick(now, shown)
                found = {n: trial for group in groups for n, trial in group.trials(going, steps)}
                trials = trials[:at] + [found[n] for n in going]
                write_json(path, kept | {"trials": trials})
            done, before = done + len(going) * (steps - before), steps
            ranked = sorted(
                zip(going, trials[at : at + len(going)], strict=True),
                key=lambda pair: (-pair[1]["accuracy"], _or_infinite(pair[1]["loss"])),
            )
            at += len(going)
            going = sorted(index for index, _ in ranked[: (len(going) + 1) // 2])
            best = _best(ranked, pilots, pieces.images)
    for group in groups:
        group.close()
    assert best is not None
    return Race(trials, best, float(kept["step"]))


def _or_infinite(loss: float | None) -> float:
    """The loss; infinity where it was not finite, so that it loses a tie."""
    return math.inf if loss is None else loss


def _best(ranked: Sequence[tuple[int, Trial]], pilots: Sequence[Pilot], images: int) -> Trial:
    """The first; or of those that are as good within a standard error, what gains with the steps.

    Args:
        ranked: numbers of pilots and their trials, the best first.
        pilots: all of them.
        images: how many the accuracies are over.
    """
    most = ranked[0][1]["accuracy"]
    error = (most * (1 - most) / images) ** 0.5
    equal = [(n, trial) for n, trial in ranked if trial["accuracy"] >= most - error]
    gaining = [one.name for one in pilots[0].settings.SEARCHED if one.gains]
    return max(equal, key=lambda one: [one[1]["values"].get(name, 0) for name in gaining])[1]


def _total(count: int, rungs: Sequence[int]) -> int:
    """The steps of all pilots, as many of which go on as `race` lets."""
    total, before = 0, 0
    for steps in rungs:
        total += count * (steps - before)
        count, before = (count + 1) // 2, steps
    return total


def _groups(pilots: Sequence[Pilot], pieces: Pieces, folder: Path) -> list["_Group"]:
    """Pilots that go through one program, group by group."""
    by_program: dict[tuple[Any, ...], list[int]] = {}
    for index, pilot in enumerate(pilots):
        free = {name.replace("-", "_") for name in pilot.settings.SWEPT} | {*pilot.settings.FED}
        same = tuple((name, v) for name, v in pilot.values.items() if name not in free)
        by_program.setdefault(same, []).append(index)
    return [
        _Group({index: pilots[index] for index in group}, pieces, folder / f"pilots-{number}")
        for number, group in enumerate(by_program.values())
    ]


class _Group:
    """Pilots that go through one program, and where they are."""

    def __init__(self, pilots: Mapping[int, Pilot], pieces: Pieces, place: Path) -> None:
        self._pilots, self._pieces = pilots, pieces
        made = {index: pieces.make_fn(pilot.settings) for index, pilot in pilots.items()}
        self._method = next(iter(made.values()))[0]
        # Pilots that read the same share what they read from.
        self._reads = [
            tuple(getattr(pilot.settings, name) for name in pilot.settings.FED)
            for pilot in pilots.values()
        ]
        feeds = (method.feed for method, _ in made.values())
        self._feeds = dict(zip(self._reads, feeds, strict=True))
        self._members = [
            distill.Member(str(n), pieces.seed, pieces.start_fn(pilots[n].settings), numbers, place)
            for n, (_, numbers) in made.items()
        ]
        begun = [distill.begin(self._method, member) for member in self._members]
        self._begun = jax.tree.map(lambda *leaves: jnp.stack(leaves), *begun)
        values = {str(n): dict(pilot.values) for n, pilot in pilots.items()}
        self._checkpoints = Checkpoints(place, of=digest_of(values))
        self._advance = distill.stepper(self._method)
        self._rows = distill.steps_per_call(self._method, len(pilots))
        self._now = (self._begun, jnp.zeros(len(pilots), jnp.float32))

    def step_seconds(self) -> float:
        """Seconds of a step of one pilot, where as many go side by side as there are."""
        states = self._begun
        take, close = self._open(0, np.arange(len(self._members)))
        batches = take(2)
        close()
        jax.block_until_ready(self._advance(self._members, states, 0, 0, batches))
        began = time.perf_counter()
        jax.block_until_ready(self._advance(self._members, states, 0, 2, batches))
        return (time.perf_counter() - began) / (2 * len(self._members))

    def advance(self, going: Sequence[int], steps: int, report: Report) -> Iterator[int]:
        """Bring the pilots in the race to so many steps; the steps made, call by call."""
        places = self._places(going)
        if not len(places):
            return
        begun = (self._begun, jnp.zeros(len(self._members), jnp.float32))
        (states, means), done = self._checkpoints.load_latest(begun, report.warn)
        own = jax.tree.map(lambda leaf: leaf[places], states)
        members = [self._members[n] for n in places]
        (take, close), losses = self._open(done, places), []
        while done < steps:
            count = min(self._rows, steps - done)
            own, info = self._advance(members, own, done, count, take(count))
            losses.append(np.asarray(info.metrics["loss"])[:, :count])
            done += count
            yield count * len(members)
        close()
        states = jax.tree.map(lambda leaf, part: leaf.at[places].set(part), states, own)
        if losses:
            means = means.at[places].set(_last_mean(losses))
        self._checkpoints.save(done, (states, means))
        self._now = (states, means)

    def trials(self, going: Sequence[int], steps: int) -> Iterator[tuple[int, Trial]]:
        """The pilots that are still in the race, after so many steps, by their numbers."""
        indices = list(self._pilots)
        for place in self._places(going):
            states, means = self._now
            small = self._method.distilled(jax.tree.map(lambda leaf, n=place: leaf[n], states))
            trial = Trial(
                values=dict(self._pilots[indices[place]].values),
                steps=steps,
                loss=_number(means[place]),
                accuracy=self._pieces.score_fn(small),
            )
            yield indices[place], trial

    def _places(self, going: Sequence[int]) -> Int[np.ndarray, " places"]:
        """Where in the group the pilots that are still in the race stand."""
        return np.flatnonzero([index in going for index in self._pilots])

    def _open(
        self, done: int, places: Int[np.ndarray, " places"]
    ) -> tuple[Callable[[int], list[Any]], Callable[[], None]]:
        """What gives the next so many steps of some pilots what they read, and what ends that."""
        needed = {self._reads[place] for place in places}
        feeds = {key: self._feeds[key](self._pieces.seed, done) for key in needed}

        def take(count: int) -> list[Any]:
            read = {key: feed.take(count, rows=self._rows) for key, feed in feeds.items()}
            return [read[self._reads[place]] for place in places]

        def close() -> None:
            for feed in feeds.values():
                feed.close()

        return take, close

    def close(self) -> None:
        """Delete the states."""
        self._checkpoints.remove()


def _last_mean(losses: list[Float[np.ndarray, "pilots _steps"]]) -> Float[np.ndarray, " pilots"]:
    """The mean loss over the last quarter of the steps."""
    whole = np.concatenate(losses, axis=1)
    return whole[:, -max(1, whole.shape[1] // 4) :].mean(axis=1)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
