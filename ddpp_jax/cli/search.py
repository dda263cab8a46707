"""What a search for settings is asked for, and what it found before."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ddpp_jax.cli.arguments import flag_names, named
from ddpp_jax.configs import (
    SETTINGS,
    AugmentedConfig,
    DistillJob,
    KernelConfig,
    digest,
    job_of,
    untuned,
)
from ddpp_jax.data import Dataset, load_raw, side_for
from ddpp_jax.errors import InputError
from ddpp_jax.networks import Infinite
from ddpp_jax.planning.identities import identity_of
from ddpp_jax.progress import Report
from ddpp_jax.tuning import (
    GIVEN,
    SHARE,
    TUNING,
    held_out_for,
    read_tuning,
    settings_for,
    student_batch_for,
)

_SECONDS_OF_AN_ENTRY = {True: 1e-7, False: 1e-9}
"""What an entry of the covariance of two images takes with its gradient, on a CPU or elsewhere."""
_STEPS_OF_A_SEARCH = 60
_LONGER = {"steps", "teachers", "epochs", "segments", "student_steps"}
"""Settings that, given by hand, make a run as long as they will."""

_LEAST_KERNEL_BATCH, _MOST_KERNEL_BATCH = 2, 500


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search for settings is asked for.

    Attributes:
        asked: the job, with the flags that were given by hand.
        fixed: the settings that these flags name, which stay as they are.
        seconds: that the trials may take.
        members: how many distillations the run will hold.
        sweep: whether these are a sweep, which is evaluated at its end alone.
    """

    asked: DistillJob
    fixed: frozenset[str]
    seconds: float
    members: int = 1
    sweep: bool = False

    def with_found(self, job: DistillJob, found: Mapping[str, Any]) -> DistillJob:
        """The job with what was found, but for what is fixed."""
        free = {name: value for name, value in found.items() if name not in self.fixed}
        changed: dict[str, Any] = {}
        for stage in dataclasses.fields(job):
            value = getattr(job, stage.name)
            if stage.name in free:
                changed[stage.name] = free[stage.name]
            elif dataclasses.is_dataclass(value):
                own = {field.name for field in dataclasses.fields(value)} & free.keys()
                picked = {name: free[name] for name in own}
                changed[stage.name] = dataclasses.replace(value, **picked)  # pyright: ignore
        return dataclasses.replace(job, **changed)


def search_from(kept: DistillJob | None, method: str | None) -> tuple[DistillJob, frozenset[str]]:
    """What a search sets out from, and what of it is fixed.

    Args:
        kept: a named setting, of which the data, the network, the number of images, the evaluation
            and what real and distilled images are augmented by alike stay; None where none is
            named.
        method: of distillation, where one is asked for.
    """
    if kept is None:
        return untuned(method or "ddpp"), frozenset()
    job = untuned(method or kept.method)
    stages = (kept.data, kept.model, kept.evaluation)
    fixed = {field.name for stage in stages for field in dataclasses.fields(stage)} - {"held_out"}
    data = dataclasses.replace(kept.data, held_out=kept.data.held_out or job.data.held_out)
    settings = dataclasses.replace(job.distillation, ipc=kept.distillation.ipc)
    if isinstance(settings, AugmentedConfig) and settings.siamese != "none":
        settings = dataclasses.replace(settings, siamese=_siamese(kept, settings))
    job = dataclasses.replace(
        job,
        data=data,
        model=kept.model,
        evaluation=kept.evaluation,
        random_draws=kept.random_draws,
        baselines=kept.baselines,
        seed=kept.seed,
        distillation=settings,
    )
    return job, frozenset(fixed)


def _siamese(kept: DistillJob, settings: AugmentedConfig) -> str:
    """What a method augments by: as a method does that is kept, and never by nothing."""
    own = kept.distillation
    if isinstance(own, AugmentedConfig) and own.operations(kept.data.operations):
        return own.siamese
    return settings.siamese if kept.data.operations else "all"


def wants_search(name: str | None, flags: Sequence[str]) -> bool:
    """Whether settings are to be found: on demand, or where a dataset has no named ones."""
    asked = [flag for flag in flags if flag in ("--auto", "--no-auto")]
    return asked[-1] == "--auto" if asked else name is None and is_untuned(flags)


def given_names(job: DistillJob, flags: Sequence[str]) -> frozenset[str]:
    """The settings of a job that some flags name."""
    names = {field.name for field in dataclasses.fields(job)}
    for stage in (getattr(job, name) for name in tuple(names)):
        names |= (
            {one.name for one in dataclasses.fields(stage)}
            if dataclasses.is_dataclass(stage)
            else set()
        )
    return flag_names(flags) & names


def is_untuned(flags: Sequence[str]) -> bool:
    """Whether some flags name a dataset for which there are no named settings."""
    return named("--dataset", flags) not in (None, "digits") and published_name(flags) is None


def published_name(flags: Sequence[str]) -> str | None:
    """The named setting of the dataset and the number of images that some flags name, if any."""
    dataset = named("--dataset", flags)
    name = f"{dataset}-ipc{named('--ipc', flags) or 1}"
    return name if name in SETTINGS and SETTINGS[name].data.dataset == dataset else None


class Sized(NamedTuple):
    """A search and what follows from its data alone.

    Attributes:
        folder: of the search.
        identity: what the folder is claimed for.
        job: what is asked for, with sizes that suit the data.
    """

    folder: Path
    identity: dict[str, Any]
    job: DistillJob

    @property
    def is_over(self) -> bool:
        """Whether settings were found."""
        return (self.folder / TUNING).exists()


def say_search(search: Search, sized: Sized, report: Report) -> None:
    """Say that settings are searched, or that they were found."""
    data, time = search.asked.data.dataset, f"{search.seconds / 60:.3g} min"
    if sized.is_over:
        report.say(f"Settings for {data}: as found before")
        return
    whole = f"; the whole run takes about {SHARE} times that"
    if search.sweep or search.fixed & _LONGER:  # That may take any time.
        whole = ""
    report.say(
        f"Settings for {data}: found by trying, in about {time}{whole}. --settings NAME, or any "
        "flag, fixes what it names"
    )


def settings_found(search: Search) -> DistillJob:
    """The settings that a search found.

    Raises:
        InputError: it is not over.
    """
    sized = size_up(search)
    if not sized.is_over:
        raise InputError(
            "the settings for these data are not found yet; the same command without "
            "--print-settings finds them"
        )
    return found_in(search, sized.folder / TUNING)


def found_in(search: Search, path: Path) -> DistillJob:
    """The job that a file of a search holds, for the place where the data lie now."""
    job = job_of(read_tuning(path)["settings"])
    # Where the data lie is no setting.
    data = dataclasses.replace(
        job.data, dataset=search.asked.data.dataset, data_dir=search.asked.data.data_dir
    )
    return dataclasses.replace(job, data=data)


def size_up(search: Search) -> Sized:
    """What follows from the data of a search, which are read for it."""
    asked = search.asked
    plain, free = dataclasses.replace(asked.data, held_out=None), "image_size" not in search.fixed
    side = side_for(plain) if free and plain.image_size is None else None
    raw = load_raw(plain if side is None else dataclasses.replace(plain, image_size=side))
    counts = np.bincount(raw.y_train)
    if counts.min() < 2:
        remedy = "leave the class out" if plain.per_class is None else "give a larger --per-class"
        raise InputError(
            f"class {raw.class_names[int(counts.argmin())]} has one training image, and none can "
            f"be held out to choose settings by; {remedy}, or give --settings"
        )
    size, _, channels = raw.x_train.shape[1:]
    images = asked.distillation.ipc * raw.classes
    found = settings_for(size, channels, counts.tolist(), resize=free)
    found |= {} if side is None else {"image_size": side}
    found |= {
        "held_out": held_out_for(len(raw.y_train)),
        "student_batch": student_batch_for(images, raw.classes),
    }
    if isinstance(asked.distillation, KernelConfig) and "real_batch" not in search.fixed:
        found["real_batch"] = _kernel_batch(search, raw, found)
    identity = identity_of(asked, raw) | {
        "fixed": sorted(search.fixed),
        "seconds": search.seconds,
        "members": search.members,
        "device": jax.default_backend(),
    }
    if search.sweep:  # Whose sets are evaluated at the end alone, which leaves time for steps.
        identity["sweep"] = True
    name = f"{raw.name}-ipc{asked.distillation.ipc}-{digest(identity)}"
    return Sized(Path("runs/tuning") / name, identity, search.with_found(asked, found))


def said_of(search: Search, job: DistillJob) -> list[tuple[str, Any, str]]:
    """What follows from the data alone, and why."""
    why = {
        "image_size": "as they come, 128 at most; 64 at most of a folder of unequal ones",
        "depth": "blocks until the map is about 4 pixels wide",
        "width": "32 on the CPU, the published 128 elsewhere",
        "balance": "where a class has over three times the images of another",
        "zca": "whitening for colour images up to 32x32",
        "held_out": "kept apart to choose by",
        "teacher_batch": "an epoch of some 20 steps or more",
        "student_batch": "all images, or about one of each class",
    }
    if isinstance(job.distillation, KernelConfig):
        why["real_batch"] = "targets of each class that the time allows"
    values = {
        field.name: getattr(stage, field.name)
        for stage in (job.data, job.model, job.teaching, job.distillation)
        for field in dataclasses.fields(stage)
    }
    return [
        (name, values[name], GIVEN if name in search.fixed else reason)
        for name, reason in why.items()
        if name in values
    ]


def _kernel_batch(search: Search, raw: Dataset, found: Mapping[str, Any]) -> int:
    """Real images of each class in a step of KIP that the time of a search allows.

    Raises:
        InputError: it allows fewer than two.
    """
    asked = search.asked
    size = found["image_size"] or raw.x_train.shape[1]
    depth = asked.model.depth if "depth" in search.fixed else found["depth"]
    front = asked.distillation.front if isinstance(asked.distillation, KernelConfig) else False
    entries = Infinite(depth, front=front).entries(size)
    pair = entries * _SECONDS_OF_AN_ENTRY[jax.default_backend() == "cpu"]
    step = search.seconds / _STEPS_OF_A_SEARCH
    batch = int(step / (pair * asked.distillation.ipc * raw.classes**2))
    if batch < _LEAST_KERNEL_BATCH:
        raise InputError(
            f"--method kip takes about {pair:.2g} s for a pair of {size}x{size} images at depth "
            f"{depth}, and a search of {search.seconds:.0f} s has no time for its steps; give "
            "--image-size 16 or less, a longer --budget, or the settings by --settings"
        )
    return min(batch, _MOST_KERNEL_BATCH)
