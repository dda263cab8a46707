"""Sets made from some of the training images alone, by any method that there is."""

import dataclasses
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jaxtyping import Int

from ddpp_jax import distill
from ddpp_jax.cli.demands import check, check_kernel, lighter
from ddpp_jax.cli.methods import Sources, make_method
from ddpp_jax.cli.runs import Run, example_of, made_of
from ddpp_jax.cli.select import indices_of
from ddpp_jax.cli.starts import starter
from ddpp_jax.configs import (
    AttackJob,
    DistillConfig,
    DistillJob,
    Places,
    RealConfig,
    SelectConfig,
    SelectJob,
    TeachersJob,
    TrajectoryConfig,
    members_of,
)
from ddpp_jax.core import named_key
from ddpp_jax.data import Dataset, require_per_class, restricted
from ddpp_jax.methods import Method
from ddpp_jax.networks import Network
from ddpp_jax.planning import trial
from ddpp_jax.planning.identities import origin_of
from ddpp_jax.planning.problem import Problem, problem_of, train_teachers
from ddpp_jax.planning.sizes import choose_reading
from ddpp_jax.progress import Report
from ddpp_jax.select import real_set
from ddpp_jax.sets import DistilledSet


class Shadow(NamedTuple):
    """Some of the training images, and what is made from them.

    Attributes:
        seed: decides every draw.
        problem: the images as they came, the network, and where teachers are kept.
        folder: of the shadow.
    """

    seed: int
    problem: Problem
    folder: Path


class Released(NamedTuple):
    """A set that was made from some of the training images.

    Attributes:
        small: the set, with its pixels.
        origins: which of these images it holds or set out from; None where it set out from noise.
    """

    small: DistilledSet
    origins: Int[np.ndarray, " origins"] | None


def restricted_problem(
    job: TeachersJob,
    places: Places,
    raw: Dataset,
    kept: Int[np.ndarray, " kept"],
    network: Network,
) -> Problem:
    """The problem that a job sets with some of the training images alone.

    Its teachers have a store of their own. The network is shared, so that what was compiled for one
    such problem serves others with as many images of each class.

    Args:
        job: what is asked for.
        places: where things are kept.
        raw: all images as they came.
        kept: which of the training images.
        network: for images of this shape.
    """
    found = problem_of(job, places, restricted(raw, kept))
    return dataclasses.replace(found, network=network)


def shadow_seed(seed: int, number: int) -> int:
    """The seed of a shadow: a draw of its own, so that shadows share nothing but images."""
    key = jax.random.fold_in(named_key(jax.random.key(seed), "shadows"), number)
    return int(jax.random.randint(key, (), 0, 2**31 - 1, np.int32))


class Makers:
    """Makes sets of any method, from one shadow after another, with programs that they share."""

    def __init__(self, job: AttackJob[Any], places: Places) -> None:
        """Make nothing yet.

        Args:
            job: what is asked for.
            places: where teachers and whitening are kept.
        """
        self._job, self._places = job, places
        self._first: Method | None = None

    def released(self, method: str, shadow: Shadow, dataset: Dataset, report: Report) -> Released:
        """The set that a method makes of a shadow's images.

        Args:
            method: of the job, or a way to release real images.
            shadow: the images as they came.
            dataset: the same, normalised.
            report: told as it goes on.
        """
        settings = self._job.distillation
        if method == self._job.method and isinstance(settings, DistillConfig):
            return self._distilled(shadow, dataset, report)
        chosen = np.arange(len(dataset.y_train))
        if method != "real":
            chosen = self._chosen(method, shadow, dataset, report)
        raw = shadow.problem.raw
        return Released(real_set(chosen, raw, dataset, alpha=self._job.real_rate), chosen)

    def require(self, raw: Dataset) -> None:
        """Refuse what some of the images cannot give.

        Args:
            raw: the images of a shadow, as they came.

        Raises:
            InputError: a class has too few, or the settings do not suit them.
        """
        settings = self._job.distillation
        require_per_class(raw, settings.ipc)
        if isinstance(settings, DistillConfig):
            check(settings, raw)
            check_kernel(distill_job(self._job, 0), raw)

    def seconds(self, shadow: Shadow) -> float:
        """What a distillation takes, without its teachers, by a short trial."""
        settings = self._job.distillation
        if not isinstance(settings, DistillConfig):
            return 0.0
        job = distill_job(self._job, shadow.seed)
        run = Run(
            job=job,
            members=members_of(job),
            sweep=None,
            problems={shadow.seed: shadow.problem},
            folder=shadow.folder,
            proven=True,
            identity={},
        )
        small, quick = example_of(run, lighter)
        times = made_of(run).method.operations / quick.method.operations
        return settings.steps * times * trial.step_seconds(quick.method, [small], needed=None)

    def needs_teachers(self) -> bool:
        """Whether networks are trained on a shadow's images before its set is made."""
        settings = self._job.distillation
        if isinstance(settings, DistillConfig):
            return settings.last_epoch is not None
        return self._job.method not in ("random", "real")

    def teaching_job(self, seed: int) -> TeachersJob:
        """The job of the teachers of the shadow with this seed."""
        job = self._job
        teaching = dataclasses.replace(job.teaching, teacher_seed=None)
        if not isinstance(job.distillation, DistillConfig):
            teaching = dataclasses.replace(teaching, teachers=1)
        return TeachersJob(data=job.data, model=job.model, teaching=teaching, seed=seed)

    def _chosen(
        self, method: str, shadow: Shadow, dataset: Dataset, report: Report
    ) -> Int[np.ndarray, " chosen"]:
        job = self._job
        select_job = SelectJob(
            data=job.data,
            model=job.model,
            teaching=self.teaching_job(shadow.seed).teaching,
            selection=SelectConfig(method=method, ipc=job.distillation.ipc),  # pyright: ignore[reportArgumentType] - of CHOSEN
            real_rate=job.real_rate,
            seed=shadow.seed,
        )
        return indices_of(select_job, shadow.problem, dataset, report)

    def _distilled(self, shadow: Shadow, dataset: Dataset, report: Report) -> Released:
        job = distill_job(self._job, shadow.seed)
        settings, problem = job.distillation, shadow.problem
        stream = False
        if settings.last_epoch is not None:
            train_teachers(job, problem, dataset, report)
            stream = choose_reading(job, problem, self._places.read, Report(None))
        sources = Sources({shadow.seed: problem}, dataset, stream)
        members = members_of(job)
        made = make_method(job, sources, members=members)
        # The steps of all shadows are one function, so that it is compiled once.
        self._first = self._first or made.method
        method = made.method._replace(step=self._first.step)
        member = distill.Member(
            name=settings.title,
            seed=shadow.seed,
            start=starter(job, sources, dataset)(settings, shadow.seed),
            hparams=made.hparams_fn(settings),
            folder=shadow.folder,
            origin=origin_of(settings.title, job, problem.raw, ipc=settings.ipc),
        )
        pace = distill.Pace(settings.steps)
        seen = distill.pictured(dataset)
        found = distill.run(method, [member], pace, shadow.folder, report, seen=seen)
        chosen = isinstance(settings, TrajectoryConfig) and settings.start_images != "any"
        noise = isinstance(settings, RealConfig) and settings.start == "noise"
        origins = None
        if not noise and not chosen:
            origins = distill.start_indices(dataset, ipc=settings.ipc, seed=shadow.seed)
        return Released(found[settings.title].distilled, origins)


def distill_job(job: AttackJob[Any], seed: int) -> DistillJob[Any]:
    """The distillation of one shadow of an attack."""
    teaching = dataclasses.replace(job.teaching, teacher_seed=None)
    return DistillJob(
        data=job.data,
        model=job.model,
        teaching=teaching,
        seed=seed,
        method=job.method,
        distillation=dataclasses.replace(job.distillation, eval_every=0),
        evaluation=job.evaluation,
        baselines=False,
        real_rate=job.real_rate,
    )
