"""Learning on a memory alone (GDumb), as distillation's papers compare methods by it.

Prabhu, Torr and Dokania (ECCV 2020) train a fresh network on the memory after every step. Zhao and
Bilen (WACV 2023) condense each step's classes to a fixed number of images per class, augment by DSA
whatever the method, and test on the classes seen so far.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import NamedTuple, TypeAlias

import jax
import numpy as np
from jaxtyping import Float32, Int32

from ddpp_jax._types import OPERATIONS, PRNGKey
from ddpp_jax.configs import EvaluateConfig, ModelConfig
from ddpp_jax.continual.arrival import Task, arrivals, draw_seed
from ddpp_jax.continual.memory import joined, labelled_as_whole
from ddpp_jax.core import named_key
from ddpp_jax.data import Dataset, of_classes
from ddpp_jax.evaluate import Evaluation, Procedure
from ddpp_jax.evaluate import run as evaluate
from ddpp_jax.networks import Network, make_model, make_network
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet

Seen: TypeAlias = tuple[
    Float32[np.ndarray, "seen height width channels"], Int32[np.ndarray, " seen"]
]
"""Test images of the classes seen so far, and their labels in the whole data."""

CondenseFn: TypeAlias = Callable[[Task, Dataset], DistilledSet]
"""`condense_fn(task, dataset)`: a small set of a step's classes, from the data of these alone. Both
have the labels 0, 1, ... in the order of the step's classes."""

EvaluateFn: TypeAlias = Callable[[Task, DistilledSet, Seen], Evaluation]
"""`evaluate_fn(task, memory, seen)`: what networks that are trained on the memory make of them."""


class Learned(NamedTuple):
    """What stands after a step.

    Attributes:
        task: the step.
        memory: all that is kept of the classes so far, labelled as the whole data are.
        evaluation: of fresh networks, trained on it.
    """

    task: Task
    memory: DistilledSet
    evaluation: Evaluation


def seen_tests(dataset: Dataset, task: Task) -> Seen:
    """The test images of the classes seen so far, and their labels in the whole data."""
    there = np.isin(dataset.y_test, task.seen)
    return dataset.x_test[there], dataset.y_test[there]


def evaluation_key(seed: int, task: Task) -> PRNGKey:
    """The key of the networks of a step, the same for every method."""
    return named_key(jax.random.key(draw_seed(seed, task)), "evaluation")


def run(
    tasks: Iterable[Task], dataset: Dataset, condense_fn: CondenseFn, evaluate_fn: EvaluateFn
) -> Iterator[Learned]:
    """What stands after each step in turn.

    Args:
        tasks: the steps of one order.
        dataset: all classes, normalised by numbers of all of them, as published.
        condense_fn: makes the small set of a step.
        evaluate_fn: evaluates the memory.

    Raises:
        InputError: a small set has other labels than the step.
    """
    kept: list[DistilledSet] = []
    for task in tasks:
        small = condense_fn(task, of_classes(dataset, task.classes))
        kept.append(labelled_as_whole(small, task, dataset.class_names))
        memory = joined(kept)
        yield Learned(task, memory, evaluate_fn(task, memory, seen_tests(dataset, task)))


def learn(
    dataset: Dataset,
    condense_fn: CondenseFn,
    *,
    steps: int = 5,
    order: int = 0,
    seed: int = 0,
    config: EvaluateConfig | None = None,
    model: ModelConfig | None = None,
    operations: tuple[str, ...] = OPERATIONS,
) -> Iterator[Learned]:
    """Class-incremental learning of a dataset by any method, as one call.

    Args:
        dataset: all classes, normalised.
        condense_fn: makes the small set of a step.
        steps: in which the classes arrive.
        order: the seed of their order.
        seed: of all other draws.
        config: how many networks, and their schedule; by default five and 1,000 epochs.
        model: of the ConvNets; by default width 128 and depth 3.
        operations: of DSA, by which all images in memory are augmented; by default all.

    Raises:
        InputError: there are more steps than classes, or a small set has other labels than its
            step.
    """
    model = model or ModelConfig()
    size, _, channels = dataset.x_test.shape[1:]
    made = make_model("convnet", model, classes=dataset.classes, image_size=size, channels=channels)
    network = make_network(made, dataset.x_test.shape[1:], precision=model.precision)
    procedure = Procedure(config or EvaluateConfig(), operations, dataset.classes)
    evaluate_fn = partial(_evaluated, network=network, procedure=procedure, seed=seed)
    return run(arrivals(order, dataset.classes, steps), dataset, condense_fn, evaluate_fn)


def _evaluated(
    task: Task,
    memory: DistilledSet,
    seen: Seen,
    *,
    network: Network,
    procedure: Procedure,
    seed: int,
) -> Evaluation:
    key = evaluation_key(seed, task)
    return evaluate(key, procedure, network, memory, {"test": seen}, Report(None))["test"]
