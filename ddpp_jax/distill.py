"""Stage 2: distillation, Algorithm 1 of Li et al. (2024)."""

import math
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int

from ddpp_jax._types import (
    AugmentFn,
    Images,
    Labels,
    OptState,
    Params,
    PRNGKey,
    Scalar,
    ScalarLike,
    Vector,
)
from ddpp_jax.augment import augment
from ddpp_jax.configs import DistillConfig, DistillJob
from ddpp_jax.data import Dataset, random_per_class
from ddpp_jax.draws import Draws, draw
from ddpp_jax.errors import InputError
from ddpp_jax.keys import named_key
from ddpp_jax.matching import trajectory_loss
from ddpp_jax.models import Network
from ddpp_jax.pruning import kept_fraction, prune_mask
from ddpp_jax.report import Report
from ddpp_jax.results import (
    DistilledFile,
    append_row,
    read_distilled,
    read_rows,
    write_distilled,
    write_rows,
)
from ddpp_jax.storage import Checkpoints
from ddpp_jax.training import cross_entropy
from ddpp_jax.unroll import unroll
from ddpp_jax.vector import flatten_params

CHECKPOINT_EVERY = 50
"""Distillation steps between checkpoints."""


EvaluateFn: TypeAlias = Callable[[Images, Labels, Scalar], float]


class Distilled(NamedTuple):
    """What is learnt: the images, normalised, and the student's learning rate."""

    images: Images
    alpha: Scalar


class State(NamedTuple):
    """What the next distillation step needs."""

    distilled: Distilled
    opt_state: OptState


class Info(NamedTuple):
    """What a person wants to see of a distillation step.

    Attributes:
        loss: equation 8 before the update.
        kept_fraction: share of all parameters that the mask keeps.
        kept_by_layer: the same within each tensor, in the order of `Network.names`.
        sign_flips: share of the pruned parameters whose signs differ; 0 where none is pruned.
        numerator_removed: share of |student - target|^2 that lies on pruned parameters.
        denominator_removed: share of |start - target|^2 that lies there.
        student_loss: cross-entropy of the student at its last step, nats.
        alpha: the learning rate before the update.
        teacher: which teacher was drawn.
        start_epoch: which of its epochs.
    """

    loss: Scalar
    kept_fraction: Scalar
    kept_by_layer: Float[Array, " tensors"]
    sign_flips: Scalar
    numerator_removed: Scalar
    denominator_removed: Scalar
    student_loss: Scalar
    alpha: Scalar
    teacher: Int[Array, ""]
    start_epoch: Int[Array, ""]


def check(config: DistillConfig, dataset: Dataset) -> None:
    """Refuse what the dataset cannot give, before anything starts.

    Raises:
        InputError: the student's minibatch does not divide the distilled set, or a class is too
            small.
    """
    count = config.ipc * dataset.classes
    if config.student_batch is not None and count % config.student_batch:
        raise InputError(
            f"--student-batch {config.student_batch} does not divide the {count} distilled images"
        )
    random_per_class(jax.random.key(0), dataset, config.ipc)


def make_optimizer(config: DistillConfig) -> optax.GradientTransformation:
    """Momentum SGD with one rate for the pixels and one for alpha."""

    def descend(velocity: Any, _: Any) -> Distilled:
        return Distilled(-config.pixel_rate * velocity.images, -config.alpha_rate * velocity.alpha)

    return optax.chain(optax.trace(config.momentum), optax.stateless(descend))


def init(images: Images, *, alpha: ScalarLike, optimizer: optax.GradientTransformation) -> State:
    """The state before the first step, from real images and a learning rate."""
    distilled = Distilled(images, jnp.asarray(alpha, images.dtype))
    return State(distilled, optimizer.init(distilled))


def objective(
    distilled: Distilled,
    labels: Labels,
    start: Vector,
    target: Vector,
    draws: Draws,
    *,
    network: Network,
    threshold: float | None,
    augment_fn: AugmentFn,
) -> tuple[Scalar, Info]:
    """Lines 5 to 12 of Algorithm 1: the matching loss of a student trained on the distilled set.

    Args:
        distilled: what to differentiate.
        labels: one for each distilled image, fixed.
        start: the teacher's parameters that the student starts from.
        target: the teacher's parameters some epochs later.
        draws: the minibatches and the augmentation.
        network: the architecture.
        threshold: the pruning ratio; None prunes nothing (MTT).
        augment_fn: applied to each minibatch of the student.
    """

    def loss_fn(params: Params, x: tuple[Array, PRNGKey]) -> Scalar:
        batch, key = x
        inputs = augment_fn(key, distilled.images[batch])
        return cross_entropy(network.apply_fn(params, inputs), labels[batch]).mean()

    xs = (draws.batches, draws.augment_keys)
    params, student_losses = unroll(loss_fn, network.unflatten(start), xs, lr=distilled.alpha)
    student, _ = flatten_params(params)
    mask = None if threshold is None else prune_mask(student, target, threshold=threshold)
    loss = trajectory_loss(student, target, start, mask=mask)
    kept = jnp.ones(student.shape, bool) if mask is None else mask
    to_target, from_start = jnp.square(student - target), jnp.square(start - target)
    flipped = jnp.sign(student) * jnp.sign(target) < 0
    by_layer = jax.tree.leaves(network.unflatten(kept.astype(student.dtype)))
    info = Info(
        loss=loss,
        kept_fraction=kept_fraction(kept),
        kept_by_layer=jnp.stack([leaf.mean() for leaf in by_layer]),
        sign_flips=_share(flipped & ~kept, of=~kept),
        numerator_removed=_share(jnp.where(kept, 0, to_target), of=to_target),
        denominator_removed=_share(jnp.where(kept, 0, from_start), of=from_start),
        student_loss=student_losses[-1],
        alpha=distilled.alpha,
        teacher=draws.teacher,
        start_epoch=draws.start_epoch,
    )
    return loss, info


def step(
    key: PRNGKey,
    state: State,
    labels: Labels,
    trajectories: Float[Array, "teachers snapshots parameters"],
    *,
    network: Network,
    optimizer: optax.GradientTransformation,
    config: DistillConfig,
    augment_fn: AugmentFn,
) -> tuple[State, Info]:
    """One pass through the loop of Algorithm 1, sampling of teacher and start epoch included.

    Args:
        key: this step's own.
        state: the distilled set before it.
        labels: one for each distilled image.
        trajectories: every teacher's parameters after every epoch.
        network: the architecture.
        optimizer: for pixels and alpha, as `make_optimizer` returns it.
        config: J, K, I+ and the threshold.
        augment_fn: applied to each minibatch of the student.
    """
    draws = draw(key, num_teachers=trajectories.shape[0], num_images=labels.shape[0], config=config)
    start = trajectories[draws.teacher, draws.start_epoch]
    target = trajectories[draws.teacher, draws.start_epoch + config.target_epochs]
    gradient, info = jax.grad(objective, has_aux=True)(
        state.distilled,
        labels,
        start,
        target,
        draws,
        network=network,
        threshold=config.threshold,
        augment_fn=augment_fn,
    )
    return update(state, gradient, optimizer=optimizer), info


def update(state: State, gradient: Distilled, *, optimizer: optax.GradientTransformation) -> State:
    """The state after a step of momentum SGD on the pixels and on alpha."""
    updates, opt_state = optimizer.update(gradient, state.opt_state, state.distilled)
    distilled = cast(Distilled, optax.apply_updates(cast(optax.Params, state.distilled), updates))
    return State(distilled, opt_state)


def run(
    config: DistillJob,
    dataset: Dataset,
    network: Network,
    trajectories: Float[Array, "teachers snapshots parameters"],
    folder: Path,
    report: Report,
    *,
    name: str = "distill",
    evaluate_fn: EvaluateFn | None = None,
) -> DistilledFile:
    """Distil, and leave `distilled.safetensors` and `metrics.jsonl` in the folder.

    A folder that holds the file already is done; one that holds checkpoints is gone on with, and
    ends with the same bits as a run that was never interrupted.

    Args:
        config: what to distil and how; every draw follows from its seed and the step's number.
        dataset: whose images the distilled ones start from.
        network: the architecture of the teachers.
        trajectories: every teacher's parameters after every epoch.
        folder: this run's own.
        report: told of every step.
        name: what the report calls it.
        evaluate_fn: `evaluate_fn(images, labels, alpha)`, the accuracy from 0 to 1, called every
            `eval_every` steps for the curve; it has no influence on what is distilled.

    Raises:
        InputError: loss, pixels or alpha are not finite any more; what was kept before stays.
    """
    path = folder / "distilled.safetensors"
    if path.exists():
        return read_distilled(path)
    settings, root = config.distillation, jax.random.key(config.seed)
    images, labels = random_per_class(named_key(root, "start images"), dataset, settings.ipc)
    optimizer = make_optimizer(settings)
    state = init(jnp.asarray(images), alpha=settings.alpha, optimizer=optimizer)
    checkpoints = Checkpoints(folder / "checkpoints")
    done = checkpoints.latest() or 0
    if done:
        state = jax.tree.map(jnp.asarray, checkpoints.load(done, state))
    metrics = folder / "metrics.jsonl"
    write_rows(metrics, (row for row in read_rows(metrics) if done and row["step"] <= done))
    one_step = jax.jit(
        partial(
            step,
            network=network,
            optimizer=optimizer,
            config=settings,
            augment_fn=partial(augment, operations=config.data.operations),
        )
    )
    targets = jnp.asarray(labels)
    steps_key = named_key(root, "distillation")
    every = config.evaluation.eval_every

    def accuracy(now: int) -> dict[str, float]:
        if evaluate_fn is None or not every or now % every:
            return {}
        return {"accuracy": evaluate_fn(state.distilled.images, targets, state.distilled.alpha)}

    with (
        report.progress(name, settings.steps, unit="step", done=done) as tick,
        metrics.open("a") as file,
    ):
        if done == 0:
            append_row(file, {"step": 0, **accuracy(0)})
        for index in range(done, settings.steps):
            key = jax.random.fold_in(steps_key, index)
            state, info = one_step(key, state, targets, trajectories)
            row = _row(info, network)
            _require_finite(index + 1, row, state)
            append_row(file, {"step": index + 1, **row, **accuracy(index + 1)})
            if (index + 1) % CHECKPOINT_EVERY == 0:
                checkpoints.save(index + 1, state)
            tick(index + 1, {n: row[n] for n in ("loss", "kept_fraction", "alpha")})
    distilled = DistilledFile(
        images=np.asarray(state.distilled.images),
        labels=labels,
        alpha=float(state.distilled.alpha),
        class_names=dataset.class_names,
        mean=dataset.mean,
        std=dataset.std,
    )
    write_distilled(path, distilled)
    checkpoints.remove()
    return distilled


def _require_finite(number: int, row: Mapping[str, Any], state: State) -> None:
    """Stop a diverged run before its state is kept."""
    distilled = jax.device_get(state.distilled)
    if math.isfinite(row["loss"]) and all(np.isfinite(leaf).all() for leaf in distilled):
        return
    raise InputError(
        f"step {number} diverged: loss {row['loss']:g}, alpha {row['alpha']:g}, kept fraction "
        f"{row['kept_fraction']:g}; lower --pixel-rate, --alpha-rate or --alpha"
    )


def _row(info: Info, network: Network) -> dict[str, Any]:
    host = jax.device_get(info)
    row: dict[str, Any] = {
        name: value.item() for name, value in host._asdict().items() if value.ndim == 0
    }
    return row | {
        "kept_by_layer": dict(zip(network.names, host.kept_by_layer.tolist(), strict=True))
    }


def _share(part: Array, *, of: Array) -> Scalar:
    total = of.sum(dtype=jnp.float32)
    return part.sum(dtype=jnp.float32) / jnp.where(total > 0, total, 1)


if __name__ == "__main__":
    from ddpp_jax import cli

    cli.distill()
