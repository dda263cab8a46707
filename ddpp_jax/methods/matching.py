"""The loss of trajectory matching: a student trained on the distilled set against its teacher."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Int

from ddpp_jax._types import (
    AugmentFn,
    BatchFn,
    DistanceFn,
    Images,
    Losses,
    LossFn,
    MaskFn,
    OptimizerFn,
    Params,
    PRNGKey,
    Scalar,
    ScalarLike,
    Targets,
    Vector,
)
from ddpp_jax.core import (
    Cut,
    flatten_params,
    kept_fraction,
    prune_mask,
    trajectory_loss,
    unroll,
    value_and_gradient,
)
from ddpp_jax.methods.draws import Draws
from ddpp_jax.methods.pairs import Pair
from ddpp_jax.networks import Network
from ddpp_jax.training import cross_entropy, cut_for_devices

LEAST_SHARE = 16
"""Images of a minibatch that a device has at the least: fewer take about as long as these."""


class Variables(NamedTuple):
    """What is trained.

    Attributes:
        images: normalised.
        alpha: the student's learning rate.
        weights: how much each parameter counts, from 0 to 1; None where that is not learned.
    """

    images: Images
    alpha: Scalar
    weights: Vector | None = None


def by_ratio(
    key: PRNGKey, student: Vector, target: Vector, threshold: ScalarLike
) -> Bool[Array, " parameters"]:
    """The paper's own mask, equations 5 to 7; the key is left unused."""
    del key
    return prune_mask(student, target, threshold=threshold)


def as_they_are(key: PRNGKey, images: Images) -> Images:
    """No augmentation."""
    del key
    return images


class Parts(NamedTuple):
    """What may be replaced in the method; each is the paper's own by default.

    Attributes:
        augment_fn: applied to each minibatch of the student.
        mask_fn: `mask_fn(key, student, target, threshold)`, True where a parameter is kept, or a
            weight for each, from 0 to 1.
        distance_fn: `distance_fn(student, target, start, *, mask)`, as `trajectory_loss` is one.
        optimizer_fn: `optimizer_fn(alpha)`, the student's optimiser; None is plain SGD.
        nearest: the student is compared as it is after that of its steps of SGD which leaves it
            nearest to the target, by the sum of absolute differences (ATT, ECCV 2024), in place of
            its last one.
    """

    augment_fn: AugmentFn = as_they_are
    mask_fn: MaskFn = by_ratio
    distance_fn: DistanceFn = trajectory_loss
    optimizer_fn: OptimizerFn | None = None
    nearest: bool = False

    @property
    def replaced(self) -> dict[str, str]:
        """What was put in place of the paper's own parts, but for what has settings."""
        own = self._field_defaults
        return {
            name: _qualified(part)
            for name, part in self._asdict().items()
            if name not in ("augment_fn", "nearest") and part is not own[name]
        }


PAPERS = Parts()
"""The paper's own parts, without augmentation."""


def cut_of(network: Network, batch: int) -> Cut:
    """How a minibatch is cut: into equal shares for the devices, and those into microbatches.

    Of a network that normalises over the batch it stays whole.

    Args:
        network: the architecture.
        batch: images of the minibatch.
    """
    if network.is_over_batch:
        return Cut(network.parts(batch))
    return cut_for_devices(batch, network.parts, least=LEAST_SHARE)


def _qualified(part: Any) -> str:
    """A function by its module and name."""
    return f"{getattr(part, '__module__', '')}.{getattr(part, '__qualname__', repr(part))}"


def objective(
    variables: Variables,
    labels: Targets,
    pair: Pair,
    draws: Draws,
    threshold: ScalarLike,
    *,
    network: Network,
    mask_key: PRNGKey,
    parts: Parts,
) -> tuple[Scalar, dict[str, Any]]:
    """Lines 5 to 12 of Algorithm 1: the matching loss of a student trained on the distilled set.

    Args:
        variables: what to differentiate.
        labels: one for each distilled image, fixed.
        pair: the teacher's parameters that the student starts from, and those some epochs later.
        draws: the minibatches and the augmentation.
        threshold: the pruning ratio; 0 prunes nothing.
        network: the architecture.
        mask_key: for a mask that is drawn.
        parts: the parts of the method.

    Returns:
        The loss, and the metrics: `loss`, equation 8 or another distance; `kept_fraction`, the
        share of all parameters that the mask keeps, and `kept_by_layer`, the same within each
        tensor; `sign_flips`, the share of the pruned parameters whose signs differ;
        `numerator_removed` and `denominator_removed`, the shares of |student - target|^2 and
        |start - target|^2 that lie on pruned parameters; `student_loss`, the cross-entropy of the
        student at its last step, nats; with `nearest`, `matched_step`, after how many steps it is
        compared.

    Raises:
        ValueError: `nearest` with another inner optimiser than SGD; or the mask has not a boolean
            or a weight for each parameter.
    """

    def batch_fn(x: tuple[Array, PRNGKey]) -> tuple[Images, Targets]:
        batch, key = x
        with jax.named_scope("augmentation"):
            return parts.augment_fn(key, variables.images[batch]), labels[batch]

    def loss_fn(params: Params, batch: tuple[Images, Targets]) -> Scalar:
        inputs, targets = batch
        return cross_entropy(network.apply_fn(params, inputs), targets).mean()

    student_fn = _Student(loss_fn, batch_fn, cut_of(network, draws.batches.shape[1]))
    xs, told = (draws.batches, draws.augment_keys), {}
    if parts.nearest:
        params, losses, steps = _until_nearest(
            student_fn, network.unflatten(pair.start), xs, pair.target, variables.alpha, parts
        )
        told = {"matched_step": steps}
    else:
        params, losses = unroll(
            loss_fn,
            network.unflatten(pair.start),
            xs,
            lr=variables.alpha,
            batch_fn=batch_fn,
            optimizer_fn=parts.optimizer_fn,
            parts=student_fn.cut,
        )
    student, _ = flatten_params(params)
    mask = jax.lax.stop_gradient(parts.mask_fn(mask_key, student, pair.target, threshold))
    if mask.dtype not in (bool, student.dtype) or mask.shape != student.shape:
        raise ValueError(
            f"mask_fn gave {mask.dtype} of shape {mask.shape}; wanted a boolean for each of "
            f"{student.size} parameters, True where it is kept, or a weight from 0 to 1"
        )
    if variables.weights is not None:
        mask = mask.astype(student.dtype) * variables.weights
    loss = parts.distance_fn(student, pair.target, pair.start, mask=mask)
    return loss, {"loss": loss} | _shares(student, pair, mask, network) | {
        "student_loss": losses[-1]
    } | told


class _Student(NamedTuple):
    """What a student minimises.

    Attributes:
        loss_fn: `loss_fn(params, batch)`.
        batch_fn: `batch_fn(x)`, the minibatch of a step.
        cut: how a minibatch is cut.
    """

    loss_fn: LossFn
    batch_fn: BatchFn
    cut: Cut


def _until_nearest(
    student: _Student, start: Params, xs: Any, target: Vector, alpha: Scalar, parts: Parts
) -> tuple[Params, Losses, Int[Array, ""]]:
    """The student after the step that leaves it nearest to the target; of equal ones the last.

    A first run tells which step that is; in a second one the steps after it count for nothing.
    """
    if parts.optimizer_fn is not None:
        raise ValueError("nearest goes with plain SGD alone; leave optimizer_fn out")

    def turn(params: Params, x: Any) -> tuple[Params, Scalar]:
        batch = student.batch_fn(x)
        _, gradient = value_and_gradient(student.loss_fn, params, batch, parts=student.cut)
        params = jax.tree.map(lambda p, g: p - alpha.astype(p.dtype) * g, params, gradient)
        return params, jnp.abs(flatten_params(params)[0] - target).sum()

    _, distances = jax.lax.stop_gradient(jax.lax.scan(turn, start, xs))
    distances = jnp.where(jnp.isnan(distances), jnp.inf, distances)  # argmin would take a NaN.
    count = len(distances)
    steps = count - jnp.argmin(distances[::-1])

    def batch_fn(x: tuple[Any, Scalar]) -> tuple[Any, Array]:
        batch = student.batch_fn(x[0])
        return batch, jnp.full(len(jax.tree.leaves(batch)[0]), x[1])

    def loss_fn(params: Params, batch: tuple[Any, Array]) -> Scalar:
        own, counts = batch
        return student.loss_fn(params, own) * counts[0]

    taken = (jnp.arange(count) < steps).astype(target.dtype)
    params, losses = unroll(
        loss_fn, start, (xs, taken), lr=alpha, batch_fn=batch_fn, parts=student.cut
    )
    return params, losses.at[-1].set(losses[steps - 1]), steps


def _shares(student: Vector, pair: Pair, mask: Array, network: Network) -> dict[str, Any]:
    """What the mask keeps, and what it takes out of the loss."""
    kept = jax.lax.stop_gradient(mask.astype(student.dtype))
    pruned, unmatched = 1 - kept, 1 - jnp.square(kept)
    to_target, from_start = jnp.square(student - pair.target), jnp.square(pair.start - pair.target)
    flipped = jnp.sign(student) * jnp.sign(pair.target) < 0
    by_layer = jax.tree.leaves(network.unflatten(kept))
    return {
        "kept_fraction": kept_fraction(mask),
        "sign_flips": _share(jnp.where(flipped, pruned, 0), of=pruned),
        "numerator_removed": _share(_times(unmatched, to_target), of=to_target),
        "denominator_removed": _share(_times(unmatched, from_start), of=from_start),
        "kept_by_layer": {
            name: leaf.mean() for name, leaf in zip(network.names, by_layer, strict=True)
        },
    }


def _times(share: Array, squares: Array) -> Array:
    return jnp.where(share == 0, 0, share * squares)


def _share(part: Array, *, of: Array) -> Scalar:
    total = of.sum(dtype=jnp.float32)
    return part.sum(dtype=jnp.float32) / jnp.where(total > 0, total, 1)
