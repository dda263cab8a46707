"""A distillation from its first step to its file, with the checkpoints that it goes on from."""

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax.stages import Compiled

from ddpp_jax._types import Images, Labels, PRNGKey, Scalar
from ddpp_jax.configs import DistillConfig, DistillJob
from ddpp_jax.core import augment, named_key
from ddpp_jax.data import (
    Dataset,
    random_per_class,
    require_per_class,
    transform_arrays,
    undo,
)
from ddpp_jax.distill.best import Best
from ddpp_jax.distill.frames import History
from ddpp_jax.distill.metrics import LEAST_KEPT, Watch, rows_of
from ddpp_jax.distill.steps import State, advance, init, make_optimizer
from ddpp_jax.errors import InputError
from ddpp_jax.methods import draw_start
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report, read_metrics
from ddpp_jax.sets import (
    DistilledFile,
    iterate_path,
    origin_digest,
    read_distilled,
    write_distilled,
)
from ddpp_jax.storage import Checkpoints, FeedFn, Plan, append_row, write_rows

CHECKPOINT_EVERY = 50
"""Distillation steps between checkpoints."""

_MOST_STEPS_A_CALL = 25
_BYTES_A_CALL = 2**28
_SECONDS_A_CALL = 2.0

EvaluateFn: TypeAlias = Callable[[Images, Labels, Scalar], dict[str, float]]


class Outcome(NamedTuple):
    """What a distillation came to.

    Attributes:
        distilled: the set that the settings choose: the last, or one of the best.
        skipped: steps that were not finite and changed nothing.
        alpha_held: steps after which alpha would have fallen too far at once.
        few_kept: steps that kept less than `LEAST_KEPT` of the parameters.
        seconds: of this process, compilation and evaluation left out.
        waited: the seconds among them in which the steps waited for the teachers' parameters.
    """

    distilled: DistilledFile
    skipped: int
    alpha_held: int
    few_kept: int
    seconds: float
    waited: float


def check(config: DistillConfig, dataset: Dataset) -> None:
    """Refuse what the dataset cannot give, before anything starts.

    Raises:
        InputError: the student's minibatch does not divide the distilled set, or a class is too
            small.
    """
    count = config.ipc * dataset.classes
    if config.student_batch is not None and count % config.student_batch:
        below = min(config.student_batch, count)
        divisor = next(size for size in range(below, 0, -1) if count % size == 0)
        raise InputError(
            f"--student-batch {config.student_batch} does not divide the {count} distilled images; "
            f"give one that does, such as {divisor}"
        )
    require_per_class(dataset, config.ipc)


def read_finished(folder: Path, iterate: str = "last") -> DistilledFile:
    """A set that a distillation left in its folder.

    Args:
        folder: of the distillation.
        iterate: `last`, `held-out` or `max-test`.

    Raises:
        InputError: the file is damaged.
    """
    path = iterate_path(folder, iterate)
    return read_distilled(path, remedy="delete it, and the same command makes it again")


def plan(config: DistillJob, done: int = 0) -> Plan:
    """The teacher and the start epoch of every step after the first `done`."""
    settings, key = config.distillation, steps_key(config)
    one = partial(draw_start, num_teachers=config.teaching.teachers, config=settings)
    starts = jax.jit(jax.vmap(lambda index: one(jax.random.fold_in(key, index))))(
        jnp.arange(done, settings.steps)
    )
    return Plan(np.asarray(starts.teacher), np.asarray(starts.epoch), settings.target_epochs)


def run(
    config: DistillJob,
    dataset: Dataset,
    network: Network,
    feed_fn: FeedFn,
    folder: Path,
    report: Report,
    *,
    origin: Mapping[str, Any] = MappingProxyType({}),
    name: str = "distill",
    evaluate_fn: EvaluateFn | None = None,
    seams: Mapping[str, Any] = MappingProxyType({}),
) -> Outcome:
    """Distil, and leave `distilled.safetensors` and `metrics.jsonl` in the folder.

    Beside the last set, those that did best when they were evaluated are left there, each in a file
    of its own (`iterate_path`). A folder that holds the last and the chosen one already is done;
    one that holds checkpoints is gone on with, and ends with the same bits as a run that was never
    interrupted.

    Args:
        config: what to distil and how; every draw follows from its seed and the step's number.
        dataset: whose images the distilled ones start from.
        network: the architecture of the teachers.
        feed_fn: gives the teachers' parameters that the steps need.
        folder: this run's own.
        report: told of every step.
        origin: what the file says of where the set comes from; its iterate and step are added.
        name: what the report calls it.
        evaluate_fn: `evaluate_fn(images, labels, alpha)`, the `accuracy` and, where training images
            were kept apart, the `held_out_accuracy`, from 0 to 1, and maybe the deviation of each
            (`accuracy_std`); called every `eval_every` steps. What it gives becomes part of the
            metrics. It has no influence on the steps.
        seams: other parts of the method in place of the paper's: `mask_fn`, `distance_fn`,
            `optimizer_fn` and `augment_fn`, as `step` takes them. A folder cannot tell which it was
            made with, so give each its own.

    Raises:
        InputError: `MOST_SKIPPED` steps in a row were not finite; what was kept before stays.
        OSError: the disk is full or may not be written to; likewise.
    """
    settings, chosen = config.distillation, config.evaluation.iterate
    path, metrics = iterate_path(folder, "last"), folder / "metrics.jsonl"
    of = origin_digest(origin)
    checkpoints = Checkpoints(folder / "checkpoints", of=of)
    if path.exists() and iterate_path(folder, chosen).exists():
        checkpoints.remove()
        rows = read_metrics(metrics, of=of, steps=settings.steps, warn_fn=report.warn)
        return outcome(read_finished(folder, chosen), rows)
    state, labels = begin(config, dataset)
    state, done = checkpoints.load_latest(state, report.warn)
    rows = kept_rows(metrics, done, report, of=of)
    plan_ahead, targets = plan(config, done), jnp.asarray(labels)
    watch = Watch(rows, report)
    every = settings.eval_every if evaluate_fn is not None else 0

    best = Best(folder, rows, report)
    history = History(folder, dataset, labels, settings.steps, of=of)

    def write(path: Path, iterate: str, value: float | None = None, *, step: int) -> None:
        about = {"iterate": iterate, "step": step} | ({} if value is None else {"value": value})
        write_state(path, state, labels, dataset, {**origin, **about})

    def evaluated(now: int) -> dict[str, float]:
        if evaluate_fn is None or not every or now % every:
            return {}
        values = evaluate_fn(state.distilled.images, targets, state.distilled.alpha)
        best.saw(values, partial(write, step=now))
        return values

    feed = feed_fn(plan_ahead)
    try:
        program = compiled(config, network, state, targets, **seams)
        with (
            report.progress(name, settings.steps, unit="step", done=done) as tick,
            metrics.open("a") as file,
        ):
            if done == 0:
                append_row(file, {"step": 0, "of": of, **evaluated(0)})
                history.saw(0, state.distilled.images)
            for first, count in calls(
                done,
                settings.steps,
                every,
                most=steps_a_call(network),
                pace=lambda: watch.pace,
                stops=history.steps,
            ):
                began = time.perf_counter()
                pairs = feed.take(count, rows=steps_a_call(network))
                state, info = program(state, targets, jnp.int32(first), jnp.int32(count), *pairs)
                found = rows_of(info, first, count, plan_ahead, done, network)
                watch.took(time.perf_counter() - began, count)
                now = first + count
                for row in found:
                    watch.saw(row)
                    append_row(file, row | (evaluated(now) if row["step"] == now else {}))
                history.saw(now, state.distilled.images)
                if now % CHECKPOINT_EVERY == 0:
                    checkpoints.save(now, state)
                tick(now, watch.shown)
    finally:
        feed.close()
    watch.require_progress()
    write(path, "last", step=settings.steps)
    checkpoints.remove()
    distilled = read_finished(folder, chosen)
    rows = read_metrics(metrics, of=of, steps=settings.steps, warn_fn=lambda _: None)  # Told above.
    return outcome(distilled, rows, seconds=watch.seconds, waited=feed.waited)


def compiled(
    config: DistillJob, network: Network, state: Any, labels: Any, **seams: Any
) -> Compiled:
    """Many distillation steps as one program, compiled for arrays, or shapes, like these."""
    settings = config.distillation
    many = partial(
        advance,
        steps_key(config),
        network=network,
        optimizer=make_optimizer(settings),
        config=settings,
        **{"augment_fn": partial(augment, operations=config.data.operations), **seams},
    )
    pairs = jax.ShapeDtypeStruct((steps_a_call(network), network.num_params), jnp.float32)
    number = jax.ShapeDtypeStruct((), jnp.int32)
    program = jax.jit(many, donate_argnums=0)
    return program.lower(state, labels, number, number, pairs, pairs).compile()


def memory(config: DistillJob, network: Network, shape: Sequence[int]) -> int | None:
    """Bytes that the compiled distillation steps take; None where the platform does not say.

    The teachers' parameters come on top.

    Args:
        config: of the steps.
        network: the architecture.
        shape: of the distilled images.
    """
    images = jax.ShapeDtypeStruct(tuple(shape), jnp.float32)
    settings = config.distillation
    state = jax.eval_shape(
        partial(init, alpha=settings.alpha, optimizer=make_optimizer(settings)), images
    )
    labels = jax.ShapeDtypeStruct(images.shape[:1], jnp.int32)
    needed = compiled(config, network, state, labels).memory_analysis()
    if needed is None:
        return None
    given = needed.argument_size_in_bytes - needed.alias_size_in_bytes
    return needed.temp_size_in_bytes + given + needed.output_size_in_bytes


def steps_a_call(network: Network, members: int = 1) -> int:
    """The most steps in one call, whose starts and targets are in memory together."""
    row = 2 * 4 * network.num_params * members
    return max(1, min(_MOST_STEPS_A_CALL, _BYTES_A_CALL // row))


def calls(
    done: int,
    steps: int,
    every: int,
    *,
    most: int,
    pace: Callable[[], float],
    stops: Set[int] = frozenset(),
) -> Iterator[tuple[int, int]]:
    """The first step of each call, and how many it makes: some seconds' worth.

    None goes past a checkpoint, an evaluation or one of the `stops`.
    """
    while done < steps:
        ends = [CHECKPOINT_EVERY - done % CHECKPOINT_EVERY, steps - done, most]
        ends += [every - done % every] if every else []
        ends += [stop - done for stop in stops if stop > done]
        count = min(*ends, max(1, int(_SECONDS_A_CALL / pace())))
        yield done, count
        done += count


def outcome(
    distilled: DistilledFile,
    rows: Iterable[Mapping[str, Any]],
    *,
    seconds: float = 0.0,
    waited: float = 0.0,
) -> Outcome:
    """What a distillation came to, by the rows of its metrics."""
    steps = [row for row in rows if "loss" in row]
    return Outcome(
        distilled,
        skipped=sum("skipped" in row for row in steps),
        alpha_held=sum("alpha_held" in row for row in steps),
        few_kept=sum("skipped" not in row and row["kept_fraction"] < LEAST_KEPT for row in steps),
        seconds=seconds,
        waited=waited,
    )


def begin(config: DistillJob, dataset: Dataset) -> tuple[State, np.ndarray]:
    """The state before the first step, from real images of the dataset, and their labels."""
    key = named_key(jax.random.key(config.seed), "start images")
    images, labels = random_per_class(key, dataset, config.distillation.ipc)
    optimizer = make_optimizer(config.distillation)
    return init(jnp.asarray(images), alpha=config.distillation.alpha, optimizer=optimizer), labels


def kept_rows(metrics: Path, done: int, report: Report, *, of: str | None) -> list[dict[str, Any]]:
    """The rows of the steps that need not be made again; the file is cut to them."""

    def lost(line: str) -> None:
        report.warn(f"{line}, and the images are not affected")

    rows = read_metrics(metrics, of=of, steps=done, warn_fn=lost) if done else []
    if done and not metrics.exists():
        lost(f"{metrics} is missing")
    write_rows(metrics, rows)
    return rows


def write_state(
    path: Path, state: State, labels: np.ndarray, dataset: Dataset, origin: Mapping[str, Any]
) -> None:
    """Leave the distilled set of a state in a file."""
    images = np.asarray(state.distilled.images)
    distilled = DistilledFile(
        images=images,
        pixels=undo(dataset.transform, images),
        labels=labels,
        alpha=float(state.distilled.alpha),
        class_names=dataset.class_names,
        transform=transform_arrays(dataset.transform),
        origin=dict(origin),
    )
    write_distilled(path, distilled)


def steps_key(config: DistillJob) -> PRNGKey:
    """The key of all steps of a distillation."""
    return named_key(jax.random.key(config.seed), "distillation")
