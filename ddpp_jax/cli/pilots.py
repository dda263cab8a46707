"""The pilots of a search for settings: what they are made of, and how they are compared."""

import dataclasses
import itertools
import time
from functools import partial
from typing import Any

import jax
import numpy as np

from ddpp_jax import evaluate
from ddpp_jax.cli.methods import Sources, make_method
from ddpp_jax.cli.search import Search
from ddpp_jax.cli.starts import starter
from ddpp_jax.configs import (
    DistillConfig,
    DistillJob,
    EvaluateConfig,
    TrajectoryConfig,
    digest,
)
from ddpp_jax.core import named_key
from ddpp_jax.data import Dataset, random_per_class
from ddpp_jax.errors import InputError
from ddpp_jax.planning.problem import Problem
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.tuning import Pieces, Pilot

_FEW, _MANY = (3, 200), (2, 100)
"""Networks and epochs by which pilots of few and of many images are evaluated."""

_FEW_IMAGES = 50
_REAL_RATES = (0.003, 0.01, 0.03, 0.1)
_MOST_HELD_OUT = 1000
_MOST_STEPS = 10_000


def pilots_of(search: Search, job: DistillJob, unit: int = 1) -> list[Pilot]:
    """All combinations of the values that the method wants tried; epochs are counted in units."""
    settings, bounds = job.distillation, dict[str, float]()
    if isinstance(settings, TrajectoryConfig):
        bounds["max_start_epoch"] = (job.teaching.last_kept + 1 - settings.target_epochs) // unit
    searched = [one for one in settings.SEARCHED if one.name not in search.fixed]
    if settings.optimizer != "adam":
        raise InputError(
            "--optimizer sgd has rates that depend on the data, which are not searched; leave "
            "it out, or name settings by --settings"
        )
    grids = [
        [
            (one.name, v * (unit if one.name in bounds else 1))
            for v in one.values(bounds.get(one.name))
        ]
        for one in searched
    ]
    settings = dataclasses.replace(settings, steps=_MOST_STEPS)
    return [
        Pilot(dict(values), dataclasses.replace(settings, **dict(values)))
        for values in itertools.product(*grids)
    ]


def pieces_of(
    job: DistillJob, problem: Problem, dataset: Dataset, quick: "Quick", *, stream: bool
) -> Pieces:
    """What the pilots of a job are made of; `stream` says that teachers are read from disk."""
    start_fn = starter(job, Sources({job.seed: problem}), dataset)
    values = dataclasses.asdict(job)
    if not job.data.contrast:  # Searches that began before there was such a setting go on.
        del values["data"]["contrast"]
    return Pieces(
        partial(_made, job, problem, dataset, stream),
        lambda settings: start_fn(settings, job.seed),
        quick.score,
        job.seed,
        quick.images,
        of=digest(problem.manifest | {"job": values}),
    )


def _made(
    job: DistillJob, problem: Problem, dataset: Dataset, stream: bool, settings: DistillConfig
) -> tuple[Any, Any]:
    own = dataclasses.replace(job, distillation=settings)
    made = make_method(own, Sources({job.seed: problem}, dataset, stream))
    return made.method, made.hparams_fn(settings)


class Quick:
    """Quick evaluations on held-out images: few networks and few epochs."""

    def __init__(self, job: DistillJob, problem: Problem, dataset: Dataset) -> None:
        """Prepare them.

        Args:
            job: how sets are evaluated.
            problem: the network.
            dataset: the data, with some held out.
        """
        images = job.distillation.ipc * dataset.classes
        networks, epochs = _FEW if images <= _FEW_IMAGES else _MANY
        self.config = EvaluateConfig(
            networks=networks, eval_epochs=epochs, eval_batch=job.evaluation.eval_batch
        )
        self._procedure = evaluate.Procedure(self.config, job.data.operations, dataset.classes)
        self._job, self._network, self._dataset = job, problem.network, dataset
        self._key = named_key(jax.random.key(job.seed), "pilots")
        order = np.random.default_rng(job.seed).permutation(len(dataset.y_held))[:_MOST_HELD_OUT]
        self._tests = {"held-out": (dataset.x_held[order], dataset.y_held[order])}

    @property
    def images(self) -> int:
        """How many held-out images there are."""
        return len(self._tests["held-out"][1])

    def score(self, small: DistilledSet) -> float:
        """The accuracy of a set."""
        found = evaluate.run(
            self._key, self._procedure, self._network, small, self._tests, Report(None)
        )
        return found["held-out"].mean

    def best_rate_on_real_images(self, report: Report) -> tuple[float, float]:
        """The learning rate with the best accuracy on random real images; seconds of a score."""
        found, ipc, seconds = dict[float, float](), self._job.distillation.ipc, []
        with report.progress("try rates on real images", len(_REAL_RATES), unit="rate") as tick:
            for number, rate in enumerate(_REAL_RATES):
                images, labels = random_per_class(self._key, self._dataset, ipc)
                began = time.monotonic()
                found[rate] = self.score(DistilledSet(images, labels, rate))
                seconds.append(time.monotonic() - began)
                tick(number + 1, {"rate": rate, "held-out accuracy": found[rate]})
        return max(found, key=lambda rate: found[rate]), min(seconds)
