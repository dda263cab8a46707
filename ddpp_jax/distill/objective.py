"""The matching loss of a student trained on the distilled set (Algorithm 1, lines 5 to 12)."""

from collections.abc import Callable
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float

from ddpp_jax._types import AugmentFn, Images, Labels, Params, PRNGKey, Scalar, ScalarLike, Vector
from ddpp_jax.core import (
    Optimizer,
    flatten_params,
    kept_fraction,
    prune_mask,
    trajectory_loss,
    unroll,
)
from ddpp_jax.methods import Draws
from ddpp_jax.networks import Network
from ddpp_jax.training import cross_entropy

MaskFn: TypeAlias = Callable[[Vector, Vector], Bool[Array, " parameters"]]
"""`mask_fn(student, target)`, True where a parameter is kept."""

DistanceFn: TypeAlias = Callable[..., Scalar]
"""`distance_fn(student, target, start, *, mask)`, as `trajectory_loss` is one.

The mask is None where nothing is pruned (MTT)."""

OptimizerFn: TypeAlias = Callable[[Scalar], Optimizer]
"""`optimizer_fn(alpha)`, the optimiser of the student, as `unroll` takes it."""


class Distilled(NamedTuple):
    """What is learnt: the images, normalised, and the student's learning rate."""

    images: Images
    alpha: Scalar


class Match(NamedTuple):
    """How a student and its target compare.

    Attributes:
        loss: equation 8, or another distance that was asked for.
        kept_fraction: share of all parameters that the mask keeps.
        kept_by_layer: the same within each tensor, in the order of `Network.names`.
        sign_flips: share of the pruned parameters whose signs differ; 0 where none is pruned.
        numerator_removed: share of |student - target|^2 that lies on pruned parameters.
        denominator_removed: share of |start - target|^2 that lies there.
        student_loss: cross-entropy of the student at its last step, nats.
    """

    loss: Scalar
    kept_fraction: Scalar
    kept_by_layer: Float[Array, " tensors"]
    sign_flips: Scalar
    numerator_removed: Scalar
    denominator_removed: Scalar
    student_loss: Scalar


def objective(
    distilled: Distilled,
    labels: Labels,
    start: Vector,
    target: Vector,
    draws: Draws,
    *,
    network: Network,
    threshold: ScalarLike | None,
    augment_fn: AugmentFn,
    mask_fn: MaskFn | None = None,
    distance_fn: DistanceFn = trajectory_loss,
    optimizer_fn: OptimizerFn | None = None,
) -> tuple[Scalar, Match]:
    """Lines 5 to 12 of Algorithm 1: the matching loss of a student trained on the distilled set.

    Args:
        distilled: what to differentiate.
        labels: one for each distilled image, fixed.
        start: the teacher's parameters that the student starts from.
        target: the teacher's parameters some epochs later.
        draws: the minibatches and the augmentation.
        network: the architecture.
        threshold: the pruning ratio; None prunes nothing (MTT), and so does 0 where it is
            part of a compiled program.
        augment_fn: applied to each minibatch of the student.
        mask_fn: another mask in place of that of the threshold.
        distance_fn: another distance in place of equation 8, over what the mask keeps.
        optimizer_fn: another inner optimiser in place of plain SGD.

    Raises:
        ValueError: `mask_fn` does not give a boolean for each parameter.
    """

    def batch_fn(x: tuple[Array, PRNGKey]) -> tuple[Images, Labels]:
        batch, key = x
        with jax.named_scope("augmentation"):
            return augment_fn(key, distilled.images[batch]), labels[batch]

    def loss_fn(params: Params, batch: tuple[Images, Labels]) -> Scalar:
        inputs, targets = batch
        return cross_entropy(network.apply_fn(params, inputs), targets).mean()

    params, student_losses = unroll(
        loss_fn,
        network.unflatten(start),
        (draws.batches, draws.augment_keys),
        lr=distilled.alpha,
        batch_fn=batch_fn,
        optimizer_fn=optimizer_fn,
        parts=network.parts(draws.batches.shape[1]),
    )
    student, _ = flatten_params(params)
    mask = None
    if mask_fn is not None:
        mask = mask_fn(student, target)
        if mask.dtype != bool or mask.shape != student.shape:
            raise ValueError(
                f"mask_fn gave {mask.dtype} of shape {mask.shape}; wanted a boolean for each of "
                f"{student.size} parameters, True where it is kept"
            )
    elif threshold is not None:
        mask = prune_mask(student, target, threshold=threshold) | (threshold == 0)
    loss = distance_fn(student, target, start, mask=mask)
    kept = jnp.ones(student.shape, bool) if mask is None else mask
    to_target, from_start = jnp.square(student - target), jnp.square(start - target)
    flipped = jnp.sign(student) * jnp.sign(target) < 0
    by_layer = jax.tree.leaves(network.unflatten(kept.astype(student.dtype)))
    match = Match(
        loss=loss,
        kept_fraction=kept_fraction(kept),
        kept_by_layer=jnp.stack([leaf.mean() for leaf in by_layer]),
        sign_flips=_share(flipped & ~kept, of=~kept),
        numerator_removed=_share(jnp.where(kept, 0, to_target), of=to_target),
        denominator_removed=_share(jnp.where(kept, 0, from_start), of=from_start),
        student_loss=student_losses[-1],
    )
    return loss, match


def _share(part: Array, *, of: Array) -> Scalar:
    total = of.sum(dtype=jnp.float32)
    return part.sum(dtype=jnp.float32) / jnp.where(total > 0, total, 1)
