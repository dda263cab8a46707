"""Evaluation by kernel regression: the infinitely wide network in place of finite ones."""

import jax
import jax.numpy as jnp
import numpy as np

from ddpp_jax.evaluate.evaluation import Evaluation, evaluation_of
from ddpp_jax.evaluate.networks import Tests
from ddpp_jax.methods import centred_labels, fit, predict
from ddpp_jax.networks import Infinite
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet

_IMAGES_PER_CALL = 200


def evaluate_by_kernel(
    network: Infinite,
    small: DistilledSet,
    tests: Tests,
    report: Report,
    *,
    ridge: float,
    classes: int,
    name: str,
) -> dict[str, Evaluation]:
    """What ridge regression on a small set makes of each test set; there is nothing to draw.

    Args:
        network: whose neural tangent kernel is taken.
        small: the set.
        tests: images and labels by name.
        report: told as it goes on.
        ridge: what is added to the kernel's diagonal, as a share of its mean.
        classes: how many there are.
        name: what the progress calls it.
    """
    labels = centred_labels(jnp.asarray(small.labels), classes)
    fit_fn = jax.jit(lambda images: fit(network, images, labels, ridge=ridge))
    fitted = fit_fn(jnp.asarray(small.images))
    predict_fn = jax.jit(lambda fitted, unknown: predict(network, fitted, unknown))
    total, done, found = sum(len(images) for images, _ in tests.values()), 0, {}
    with report.progress(name, total, unit="image") as tick:
        for test, (images, truth) in tests.items():
            guesses = []
            for first in range(0, len(images), _IMAGES_PER_CALL):
                part = images[first : first + _IMAGES_PER_CALL]
                padded = np.zeros((_IMAGES_PER_CALL, *part.shape[1:]), np.float32)
                padded[: len(part)] = part
                guesses.append(np.asarray(predict_fn(fitted, jnp.asarray(padded)))[: len(part)])
                done += len(part)
                tick(done, {})
            every = np.concatenate(guesses)
            found[test] = evaluation_of(
                every.argmax(axis=1)[None],
                np.asarray(truth),
                classes,
                diverged=int(not np.isfinite(every).all()),
            )
    return found
