"""Pilots: short distillations that differ in what is searched, halved step by step.

Successive halving (Jamieson and Talwalkar, AISTATS 2016): all pilots go some steps and are compared
by the accuracy of few networks on held-out images; the better half goes on for twice as many steps.
Of the last three the best is taken. The test set plays no part.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

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
    """

    make_fn: Callable[[DistillConfig], tuple[Method, Any]]
    start_fn: Callable[[DistillConfig], DistilledSet]
    score_fn: Callable[[DistilledSet], float]
    seed: int


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
    kept = read_sealed(path, remedy=REMEDY) if path.exists() else {}
    if not kept:
        step = groups[0].step_seconds()
        kept = {"rungs": rungs_fn(step) or [1], "step": step, "trials": []}
        write_json(path, kept)
    going, trials = list(range(len(pilots))), list(kept["trials"])
    best = None
    total = sum(-(-len(pilots) // 2**rung) for rung in range(len(kept["rungs"])))
    with report.progress("try settings", total, unit="pilot", done=min(total, len(trials))) as tick:
        at = 0
        for steps in kept["rungs"]:
            if at + len(going) > len(trials):
                del trials[at:]
                for group in groups:
                    trials += group.compared(going, steps, report)
                    tick(min(total, len(trials)), _shown(trials))
                order = {index: place for place, index in enumerate(going)}
                trials[at:] = sorted(trials[at:], key=lambda one: order[_index(pilots, one)])
                write_json(path, kept | {"trials": trials})
            rung = trials[at : at + len(going)]
            at += len(going)
            ranked = sorted(
                zip(going, rung, strict=True),
                key=lambda pair: (-pair[1]["accuracy"], pair[1]["loss"] or 0.0),
            )
            going = sorted(index for index, _ in ranked[: (len(going) + 1) // 2])
            best = ranked[0][1]
    for group in groups:
        group.close()
    assert best is not None
    return Race(trials, best, float(kept["step"]))


def _index(pilots: Sequence[Pilot], trial: Trial) -> int:
    return next(n for n, pilot in enumerate(pilots) if dict(pilot.values) == trial["values"])


def _shown(trials: Sequence[Trial]) -> dict[str, float]:
    return {"best held-out accuracy": max(trial["accuracy"] for trial in trials)}


def _groups(pilots: Sequence[Pilot], pieces: Pieces, folder: Path) -> list["_Group"]:
    """Pilots that go through one program, group by group."""
    by_program: dict[tuple[Any, ...], list[int]] = {}
    for index, pilot in enumerate(pilots):
        swept = {name.replace("-", "_") for name in pilot.settings.SWEPT}
        same = tuple((name, v) for name, v in pilot.values.items() if name not in swept)
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

    def step_seconds(self) -> float:
        """Seconds of a step of one pilot, where as many go side by side as there are."""
        states = self._begun
        feed = self._method.feed(self._pieces.seed, 0)
        batches = [feed.take(2, rows=self._rows)] * len(self._members)
        feed.close()
        jax.block_until_ready(self._advance(self._members, states, 0, 0, batches))
        began = time.perf_counter()
        jax.block_until_ready(self._advance(self._members, states, 0, 2, batches))
        return (time.perf_counter() - began) / (2 * len(self._members))

    def compared(self, going: Sequence[int], steps: int, report: Report) -> list[Trial]:
        """The pilots that are still in the race, after so many steps."""
        places = [n for n, index in enumerate(self._pilots) if index in going]
        if not places:
            return []
        begun = (self._begun, jnp.zeros(len(self._members), jnp.float32))
        (states, means), done = self._checkpoints.load_latest(begun, report.warn)
        own = jax.tree.map(lambda leaf: leaf[np.asarray(places)], states)
        members = [self._members[n] for n in places]
        feed, losses = self._method.feed(self._pieces.seed, done), []
        while done < steps:
            count = min(self._rows, steps - done)
            batches = [feed.take(count, rows=self._rows)] * len(places)
            own, info = self._advance(members, own, done, count, batches)
            losses.append(np.asarray(info.metrics["loss"])[:, :count])
            done += count
        feed.close()
        states = jax.tree.map(lambda leaf, part: leaf.at[np.asarray(places)].set(part), states, own)
        if losses:
            means = means.at[np.asarray(places)].set(_last_mean(losses))
        self._checkpoints.save(done, (states, means))
        indices = list(self._pilots)
        return [
            Trial(
                values=dict(self._pilots[indices[n]].values),
                steps=steps,
                loss=_number(means[n]),
                accuracy=self._pieces.score_fn(
                    self._method.distilled(jax.tree.map(lambda leaf, row=row: leaf[row], own))
                ),
            )
            for row, n in enumerate(places)
        ]

    def close(self) -> None:
        """Delete the states."""
        self._checkpoints.remove()


def _last_mean(losses: list[Float[np.ndarray, "pilots _steps"]]) -> Float[np.ndarray, " pilots"]:
    """The mean loss over the last quarter of the steps."""
    whole = np.concatenate(losses, axis=1)
    return whole[:, -max(1, whole.shape[1] // 4) :].mean(axis=1)


def _number(value: Any) -> float | None:
    return float(value) if np.isfinite(value) else None
