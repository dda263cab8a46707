"""Several distillations that differ in one number, side by side."""

import time
from collections.abc import Callable, Mapping, Set
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from ddpp_jax._types import Labels
from ddpp_jax.configs import DistillJob
from ddpp_jax.core import augment
from ddpp_jax.data import Dataset
from ddpp_jax.distill.frames import History
from ddpp_jax.distill.metrics import Watch, rows_of
from ddpp_jax.distill.run import (
    CHECKPOINT_EVERY,
    Outcome,
    begin,
    calls,
    kept_rows,
    outcome,
    plan,
    read_finished,
    steps_a_call,
    steps_key,
    write_state,
)
from ddpp_jax.distill.steps import Info, State, advance_all, varied
from ddpp_jax.errors import InputError
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report, read_metrics
from ddpp_jax.sets import iterate_path, origin_digest
from ddpp_jax.storage import Checkpoints, FeedFn, append_row, digest_of, read_sealed, write_json


class Member(NamedTuple):
    """One of several distillations.

    Attributes:
        job: its settings; those of all members differ in one number alone.
        feed_fn: gives its teachers' parameters.
        folder: its own, where it leaves what a distillation alone leaves.
        origin: what the file of its set says of where the set comes from.
    """

    job: DistillJob
    feed_fn: FeedFn
    folder: Path
    origin: Mapping[str, Any]


def run_sweep(
    members: Mapping[str, Member],
    dataset: Dataset,
    network: Network,
    folder: Path,
    report: Report,
) -> dict[str, Outcome]:
    """Distil all members, and leave each one's `distilled.safetensors` and `metrics.jsonl`.

    Each goes through the steps that it would go through alone: the same draws, teachers and
    numbers, to the bit on the CPU, where they take turns within the program, and to rounding
    elsewhere. A sweep that was interrupted goes on.

    Args:
        members: by the name that the report calls them.
        dataset: whose images the distilled ones start from.
        network: the architecture.
        folder: of the sweep, for its checkpoints.
        report: told as it goes on.

    Returns:
        What each member came to; those that were given up, since steps in a row were not finite,
        are warned of and left out.

    Raises:
        InputError: all members were given up.
        OSError: the disk is full or may not be written to.
    """
    own = {name: origin_digest(member.origin) for name, member in members.items()}
    checkpoints = Checkpoints(folder / "checkpoints", of=digest_of(own))
    jobs = {name: member.job for name, member in members.items()}
    places = {name: iterate_path(member.folder, "last") for name, member in members.items()}
    given_up = {name for name, member in members.items() if _was_given_up(member)}
    left = members.keys() - given_up
    if all(places[name].exists() for name in left):
        checkpoints.remove()
        return {name: _finished(members[name], report) for name in members if name in _some(left)}
    settings = next(iter(jobs.values())).distillation
    begun = {name: begin(job, dataset) for name, job in jobs.items()}
    labels = next(iter(begun.values()))[1]
    states = jax.tree.map(lambda *x: jnp.stack(x), *(state for state, _ in begun.values()))
    states, done = checkpoints.load_latest(states, report.warn)
    plans = {name: plan(job, done) for name, job in jobs.items()}
    kept = {name: _kept_rows(member, done, report) for name, member in members.items()}
    watches = {name: Watch(kept[name], report) for name in members}
    feeds = {name: member.feed_fn(plans[name]) for name, member in members.items()}
    clock = Watch([], report)
    histories = [
        History(member.folder, dataset, labels, settings.steps, of=own[name])
        for name, member in members.items()
    ]

    def keep_frames(step: int) -> None:
        for index, history in enumerate(histories):
            if step in history.steps:
                history.saw(step, states.distilled.images[index])

    most = steps_a_call(network, len(members))
    advance = _advance(list(jobs.values()), network, states, jnp.asarray(labels), most)
    try:
        with report.progress("distil the sweep", settings.steps, unit="step", done=done) as tick:
            if done == 0:
                keep_frames(0)
            for first, count in calls(
                done,
                settings.steps,
                0,
                most=most,
                pace=lambda: clock.pace,
                stops=histories[0].steps,
            ):
                began = time.perf_counter()
                pairs = [feed.take(count, rows=most) for feed in feeds.values()]
                starts, targets = (jnp.stack(side) for side in zip(*pairs, strict=True))
                states, info = advance(states, first, count, starts, targets)
                host = jax.device_get(info)
                clock.took(time.perf_counter() - began, count)
                for index, (name, member) in enumerate(members.items()):
                    own = jax.tree.map(lambda leaf, index=index: leaf[index], host)
                    rows = rows_of(own, first, count, plans[name], done, network)
                    with (member.folder / "metrics.jsonl").open("a") as file:
                        for row in rows:
                            append_row(file, row)
                    if name in given_up:
                        continue
                    trouble = _trouble(watches[name], rows, settings.steps)
                    if trouble is not None:
                        report.warn(f"{name} is given up, the others go on: {trouble}")
                        write_json(_given_up(member), {"why": trouble})
                        given_up.add(name)
                        _some(members.keys() - given_up)
                now = first + count
                keep_frames(now)
                if now % CHECKPOINT_EVERY == 0:
                    checkpoints.save(now, states)
                tick(now, {"loss": float(host.match.loss[:, count - 1].mean())})
    finally:
        for feed in feeds.values():
            feed.close()
    for index, (name, member) in enumerate(members.items()):
        if name not in given_up:
            state: State = jax.tree.map(lambda leaf, index=index: leaf[index], states)
            about = {"iterate": "last", "step": settings.steps}
            write_state(places[name], state, labels, dataset, {**member.origin, **about})
    checkpoints.remove()
    return {
        name: _finished(member, report, clock.seconds / len(members))
        for name, member in members.items()
        if name not in given_up
    }


def _finished(member: Member, report: Report, seconds: float = 0.0) -> Outcome:
    steps = member.job.distillation.steps
    metrics, of = member.folder / "metrics.jsonl", origin_digest(member.origin)
    rows = read_metrics(metrics, of=of, steps=steps, warn_fn=report.warn)
    return outcome(read_finished(member.folder), rows, seconds=seconds)


def _kept_rows(member: Member, done: int, report: Report) -> list[dict[str, Any]]:
    member.folder.mkdir(parents=True, exist_ok=True)
    metrics = member.folder / "metrics.jsonl"
    of = origin_digest(member.origin)
    rows = kept_rows(metrics, done, report, of=of)
    if not done:
        with metrics.open("a") as file:
            append_row(file, {"step": 0, "of": of})
    return rows


def _given_up(member: Member) -> Path:
    """The file that says why a member was given up."""
    return member.folder / "given-up.json"


def _was_given_up(member: Member) -> bool:
    path = _given_up(member)
    if not path.exists():
        return False
    read_sealed(path, remedy="delete it, and the same command distils this member again")
    return True


def _some(names: Set[str]) -> Set[str]:
    """The names of the members that are left, of which there must be some."""
    if not names:
        raise InputError(
            "all members of the sweep were given up, since their steps were not finite; "
            "given-up.json in each one's folder says more"
        )
    return names


def _trouble(watch: Watch, rows: list[dict[str, Any]], steps: int) -> str | None:
    """Why a member cannot go on; None where it can."""
    try:
        for row in rows:
            watch.saw(row)
            if row["step"] == steps:
                watch.require_progress()
    except InputError as error:
        return str(error)
    return None


def _advance(
    jobs: list[DistillJob], network: Network, states: State, labels: Labels, rows: int
) -> Callable[..., tuple[State, Info]]:
    """Some steps of all members, compiled for states like these."""
    settings = {
        "config": jobs[0].distillation,
        "network": network,
        "augment_fn": partial(augment, operations=jobs[0].data.operations),
    }
    differing = jax.tree.map(
        lambda *numbers: jnp.asarray(numbers, jnp.float32),
        *(varied(member.distillation) for member in jobs),
    )

    def advance(
        states: State, first: int, count: int, starts: Array, targets: Array
    ) -> tuple[State, Info]:
        keys = jnp.stack([steps_key(member) for member in jobs])
        members = (keys, states, differing, (starts, targets))
        piece = (labels, jnp.int32(first), jnp.int32(count))
        return advance_all(members, [piece], **settings)

    pairs = jnp.zeros((len(jobs), rows, network.num_params), jnp.float32)
    advance(states, 0, 0, pairs, pairs)  # Compiles, and makes no step.
    return advance


def kept_fractions(folder: Path) -> np.ndarray:
    """The share of parameters kept at each step of a distillation, from its metrics.

    Raises:
        InputError: they are lost.
    """
    path = folder / "metrics.jsonl"
    rows = read_metrics(path, warn_fn=lambda _: None)  # Whoever took the outcome was told.
    found = [row["kept_fraction"] for row in rows if row.get("kept_fraction") is not None]
    if not found:
        raise InputError(
            f"{path} has no share of kept parameters; delete distilled.safetensors beside it, and "
            "the same command makes both again"
        )
    return np.asarray(found, np.float64)
