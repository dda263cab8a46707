"""Names for the shapes and callables that the public functions speak of."""

from collections.abc import Callable
from typing import Any, Literal, Protocol, TypeAlias, get_args, runtime_checkable

import numpy as np
from jaxtyping import Array, Bool, Float, Int, Key, PyTree

FloatArray: TypeAlias = Float[Array, "..."] | Float[np.ndarray, "..."]
BoolArray: TypeAlias = Bool[Array, "..."] | Bool[np.ndarray, "..."]
IntArray: TypeAlias = Int[Array, "..."] | Int[np.ndarray, "..."]

Params: TypeAlias = PyTree[FloatArray]
"""Network parameters: one array, a flat vector, or any pytree of arrays."""

Mask: TypeAlias = PyTree[BoolArray]
"""A pytree shaped like the parameters; True where a parameter is kept."""

Weights: TypeAlias = PyTree[FloatArray]
"""A pytree shaped like the parameters; how much each counts, from 0 to 1."""

OptState: TypeAlias = PyTree
"""The state of an optax transformation."""

Vector: TypeAlias = Float[Array, " parameters"]
Losses: TypeAlias = Float[Array, " steps"]
Scalar: TypeAlias = Float[Array, ""]
ScalarLike: TypeAlias = float | int | Float[Array, ""] | Float[np.ndarray, ""] | np.floating

Images: TypeAlias = Float[Array, "images height width channels"]
Labels: TypeAlias = Int[Array, " images"]
Targets: TypeAlias = Int[Array, " images"] | Float[Array, "images _classes"]
"""What a network learns: a class for each image, or a probability for each class."""

Logits: TypeAlias = Float[Array, "images classes"]
PRNGKey: TypeAlias = Key[Array, ""]
PRNGKeys: TypeAlias = Key[Array, " networks"]

LossFn: TypeAlias = Callable[[Params, PyTree], Scalar]
"""`loss_fn(params, x)`: the loss of one student step on the entry `x` of `xs`."""

BatchFn: TypeAlias = Callable[[PyTree], PyTree]
"""`batch_fn(x)`: the minibatch of one student step, made from the entry `x` of `xs`."""

MapFn: TypeAlias = Callable[..., PyTree]
"""`map_fn(fn, xs, batch_size=None)`, as `jax.lax.map`."""

ApplyFn: TypeAlias = Callable[[Params, Images], Logits]
"""`apply_fn(params, images)`: the logits of a network."""

AugmentFn: TypeAlias = Callable[[PRNGKey, Images], Images]
"""`augment_fn(key, images)`: the images, augmented by draws from the key."""

MaskFn: TypeAlias = Callable[[PRNGKey, Vector, Vector, ScalarLike], Array]
"""`mask_fn(key, student, target, threshold)`: True where a parameter is kept, or its weight."""

DistanceFn: TypeAlias = Callable[..., Scalar]
"""`distance_fn(student, target, start, *, mask)`, as `trajectory_loss` is one."""


@runtime_checkable
class Optimizer(Protocol):
    """An inner optimiser: a pair of pure functions, such as an optax transformation."""

    @property
    def init(self) -> Callable[..., Any]:
        """`init(params) -> state`."""
        ...

    @property
    def update(self) -> Callable[..., Any]:
        """`update(gradient, state, params) -> (what is added to the parameters, state)`."""
        ...


OptimizerFn: TypeAlias = Callable[[Scalar], Optimizer]
"""`optimizer_fn(lr)`: the student's optimiser at a learning rate."""

Precision = Literal["default", "highest", "bfloat16"]
"""How a network multiplies."""

Operation = Literal["color", "crop", "cutout", "flip", "scale", "rotate"]
"""An operation of DSA; `color` is brightness, then saturation, then contrast."""

OPERATIONS: tuple[Operation, ...] = get_args(Operation)

Placement = Literal["fixed", "random", "adaptive"]
"""Where the window of truncated unrolling lies in a network's training.

`fixed`: at its end. `random`: anywhere, with equal chances (RaT-BPTT). `adaptive`: it begins at a
step with a chance that grows with the length of the network's gradient there, by softmax, as in the
first stage of AT-BPTT.
"""

MaskName = Literal[
    "ratio",
    "ratio-magnitude",
    "signs",
    "difference-largest",
    "difference-smallest",
    "depth",
    "random",
    "learned",
    "none",
]
"""How parameters are chosen.

`ratio`: equations 5 to 7 of Li et al. (2024). `ratio-magnitude`: the same without signs. `signs`:
those whose signs differ, and no others. `difference-largest`: those that differ most (DPD, ACML
2025). `difference-smallest`: those that differ least (the code of PAD and EDF). `depth`: the first
ones from the input on (PAD's paper, its equation 4). `random`: any, as many of each tensor as
`ratio` prunes. `learned`: none are pruned; each has a weight that is trained with the images (IADD,
Neural Networks 172:106154). `none`: all are matched (MTT).
"""

MASKS: tuple[MaskName, ...] = get_args(MaskName)
