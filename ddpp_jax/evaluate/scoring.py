"""Evaluation as one call, for other people's code."""

import jax
import numpy as np

from ddpp_jax._types import OPERATIONS, FloatArray, IntArray
from ddpp_jax.configs import EvaluateConfig, ModelConfig
from ddpp_jax.configs.checks import above_zero, check_seed
from ddpp_jax.data import (
    checked_labels,
    given_images,
    given_labels,
    require_learnable,
    shape_words,
)
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate.evaluation import Evaluation
from ddpp_jax.evaluate.networks import Procedure, run
from ddpp_jax.networks import make_model, make_network
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet


def score(
    small: DistilledSet,
    x_test: FloatArray,
    y_test: IntArray,
    *,
    architecture: str = "convnet",
    model: ModelConfig | None = None,
    config: EvaluateConfig | None = None,
    operations: tuple[str, ...] = OPERATIONS,
    seed: int = 0,
) -> Evaluation:
    """How good a small set is: fresh networks trained on it by the published schedule, and tested.

    Args:
        small: `DistilledSet(images, labels, alpha)`: images (n, size, size, channels), normalised
            as the test images are; a class for each, or a row with the probability of each class;
            the learning rate at first. Its class names, where it has them, say how many classes
            there are; otherwise the test labels do.
        x_test: test images.
        y_test: their classes, 0 to classes - 1.
        architecture: convnet (also with a depth, convnet5), alexnet, vgg11, resnet18, resnet18-ap.
        model: width, and depth of the ConvNet; by default 128 and 3.
        config: how many networks, and their schedule; by default five and 1,000 epochs.
        operations: of DSA; by default all.
        seed: decides every draw.

    Raises:
        InputError: there is no such architecture, or it cannot take such images; images or labels
            are not as said, or are all of one class.
    """
    images = given_images(np.asarray(small.images), "the set's images", normalised=True)
    labels = given_labels(np.asarray(small.labels), images, "the set's labels")
    x_test = given_images(np.asarray(x_test), "the test images", normalised=True)
    y_test = checked_labels(np.asarray(y_test), x_test, "the test labels")
    if x_test.shape[1:] != images.shape[1:]:
        raise InputError(
            f"the set's images are {shape_words(images.shape[1:])}, the test images "
            f"{shape_words(x_test.shape[1:])}; wanted one shape"
        )
    classes = len(small.class_names) or 1 + int(y_test.max())
    require_learnable(labels, classes, "the set")
    alpha = float(small.alpha)
    above_zero(alpha=alpha)
    check_seed(seed=seed)
    unknown = [name for name in operations if name not in OPERATIONS]
    if unknown:
        raise InputError(f"no augmentation is called {unknown[0]!r}; wanted {list(OPERATIONS)}")
    _, size, _, channels = images.shape
    model = model or ModelConfig()
    net = make_network(
        make_model(architecture, model, classes=classes, image_size=size, channels=channels),
        images.shape[1:],
        precision=model.precision,
    )
    found = run(
        jax.random.key(seed),
        Procedure(config or EvaluateConfig(), operations, classes),
        net,
        DistilledSet(images, labels, alpha),
        {"test": (x_test, y_test)},
        Report(None),
    )
    return found["test"]
