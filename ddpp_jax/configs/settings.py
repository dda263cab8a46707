"""Settings by name: each column of the paper's tables, and some that suit a CPU.

J, K, I+, student batches and rates are MTT's (Cazenavette et al., CVPR 2022), which the paper
follows without printing its own; ZCA whitening for all of CIFAR is the paper's. MTT's printed pixel
rate of 1e5 for CIFAR-10 at 10 images per class is a misprint for 100, as its author confirmed. For
the chest X-rays neither gives any, and the values here are a start for one's own search.

Those of Tiny ImageNet and of the ImageNet subsets of ten classes are MTT's too, which the paper
does not run: by the published commands, without ZCA, with 100 teachers. Of the subsets one command
is printed, for ImageFruit at one image per class; at ten images a student sees 20 a step.

`cifar10-ipc1-cpu` is the paper's first cell for two CPU cores. Students start at epochs 0 and 1 and
are compared with epochs 2 and 3, so three epochs of a teacher are all that is ever read; all else
is as published but for the numbers of teachers and steps, which are what some 100 minutes hold
on two slow cores.

`digits` and the small family are this project's own: real data, and settings picked by hand so that
two CPU cores see the whole pipeline in minutes.
"""

import difflib
from dataclasses import replace
from typing import TypeAlias

from ddpp_jax.configs.best import BEST
from ddpp_jax.configs.distillation import TrajectoryConfig
from ddpp_jax.configs.jobs import DistillJob
from ddpp_jax.configs.methods import check_method
from ddpp_jax.configs.published import settings_of, smaller
from ddpp_jax.configs.stages import (
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    TeachConfig,
)
from ddpp_jax.errors import InputError

_Job: TypeAlias = DistillJob[TrajectoryConfig]

DIGITS = DistillJob(
    data=DataConfig(dataset="digits", augment="crop,scale,rotate"),
    model=ModelConfig(width=32, depth=2),
    teaching=TeachConfig(teachers=10, epochs=20, teacher_rate=0.1),
    distillation=TrajectoryConfig(
        student_steps=20,
        max_start_epoch=10,
        pixel_rate=10.0,
        alpha=0.04,
        alpha_rate=1e-4,
        steps=1000,
    ),
    real_rate=0.04,
)
"""The main job: 1,797 handwritten digits of 8x8 pixels, one distilled image per class."""

_CIFAR10 = DistillJob(data=DataConfig(dataset="cifar10", zca=True))
_CIFAR100 = DistillJob(data=DataConfig(dataset="cifar100", zca=True))
_TINY = DistillJob(
    data=DataConfig(dataset="tiny-imagenet-200"),
    model=ModelConfig(depth=4),
    teaching=TeachConfig(teachers=100),
    distillation=TrajectoryConfig(
        student_steps=20, max_start_epoch=40, pixel_rate=10_000.0, alpha_rate=1e-4
    ),
)
_IMAGENET = DistillJob(
    data=DataConfig(dataset="imagenette", image_size=128, crop=True),
    model=ModelConfig(depth=5),
    teaching=TeachConfig(teachers=100),
    distillation=TrajectoryConfig(
        student_steps=20, max_start_epoch=10, pixel_rate=1000.0, alpha_rate=1e-6
    ),
)
_SUBSETS = ("imagenette", "imagewoof", "imagefruit", "imagemeow", "imagesquawk", "imageyellow")
"""Ten classes of ImageNet each, as MTT chose them."""

_CXR = DistillJob(
    data=DataConfig(dataset="chest_xray", image_size=112, channels=1),
    model=ModelConfig(depth=5),
    teaching=TeachConfig(teachers=100),
    distillation=TrajectoryConfig(
        student_steps=20, max_start_epoch=10, pixel_rate=1000.0, alpha_rate=1e-6
    ),
)
_SMALL = DistillJob(
    data=DataConfig(dataset="cifar10", zca=True, per_class=1000, augment="none"),
    model=ModelConfig(width=32),
    teaching=TeachConfig(teachers=5, epochs=8, teacher_rate=0.02, teacher_batch=64),
    distillation=TrajectoryConfig(
        student_steps=20, pixel_rate=3000.0, alpha=0.1, alpha_rate=1e-4, steps=200, eval_every=100
    ),
    evaluation=EvaluateConfig(eval_epochs=300),
    random_draws=3,
    real_rate=0.1,
)
_CXR_SMALL = replace(
    _SMALL,
    data=DataConfig(dataset="chest_xray", image_size=32, channels=1, zca=True, augment="none"),
)


def _vary(base: _Job, **changes: int | float | None) -> _Job:
    return replace(base, distillation=replace(base.distillation, **changes))


def _subset(name: str, **changes: int) -> _Job:
    job = _vary(_IMAGENET, **changes)
    return replace(job, data=replace(job.data, dataset=name))


SETTINGS: dict[str, _Job] = {
    "digits": DIGITS,
    "cifar10-ipc1": _CIFAR10,
    "cifar10-ipc1-cpu": replace(
        _vary(_CIFAR10, steps=200, eval_every=100),
        teaching=TeachConfig(teachers=10, epochs=3),
    ),
    "cifar10-ipc10": _vary(
        _CIFAR10, ipc=10, student_steps=30, max_start_epoch=20, alpha=0.001, alpha_rate=1e-5
    ),
    "cifar10-ipc50": _vary(
        _CIFAR10,
        ipc=50,
        student_steps=30,
        max_start_epoch=40,
        pixel_rate=1000.0,
        alpha=0.001,
        alpha_rate=1e-5,
    ),
    "cifar100-ipc1": _vary(
        _CIFAR100,
        student_steps=20,
        target_epochs=3,
        max_start_epoch=20,
        pixel_rate=1000.0,
        alpha_rate=1e-5,
    ),
    "cifar100-ipc10": _vary(
        _CIFAR100,
        ipc=10,
        student_steps=20,
        max_start_epoch=20,
        pixel_rate=1000.0,
        alpha_rate=1e-5,
    ),
    "cifar100-ipc50": _vary(
        _CIFAR100,
        ipc=50,
        student_steps=80,
        max_start_epoch=40,
        student_batch=125,
        pixel_rate=1000.0,
        alpha_rate=1e-5,
    ),
    "tiny-imagenet-200-ipc1": _vary(_TINY, student_steps=10, max_start_epoch=10),
    "tiny-imagenet-200-ipc10": _vary(_TINY, ipc=10, student_batch=200),
    "tiny-imagenet-200-ipc50": _vary(_TINY, ipc=50, student_batch=300),
    **{f"{name}-ipc1": _subset(name) for name in _SUBSETS},
    **{f"{name}-ipc10": _subset(name, ipc=10, student_batch=20) for name in _SUBSETS},
    "cxr-ipc1": _CXR,
    "cxr-ipc5": _vary(_CXR, ipc=5),
    "cxr-ipc10": _vary(_CXR, ipc=10),
    "cxr-ipc20": _vary(_CXR, ipc=20),
    "cifar10-small-ipc1": _SMALL,
    "cifar10-small-ipc10": _vary(_SMALL, ipc=10, max_start_epoch=4, student_batch=20),
    "cxr-small-ipc1": _CXR_SMALL,
    "cxr-small-ipc5": _vary(_CXR_SMALL, ipc=5),
}
"""Every named setting: the main job, the paper's columns, larger images, the small ones."""


UNTUNED = DistillJob(
    data=DataConfig(augment="crop,scale,rotate", held_out=0.1),
    model=ModelConfig(width=32),
    teaching=TeachConfig(teachers=10),
    distillation=TrajectoryConfig(
        optimizer="adam",
        student_steps=20,
        max_start_epoch=1,
        pixel_rate=0.1,
        alpha_rate=0.03,
        steps=400,
        eval_every=100,
    ),
    evaluation=EvaluateConfig(eval_epochs=300),
    random_draws=3,
)
"""What a search sets out from; most of it is replaced by what it finds."""


def untuned(method: str = "ddpp") -> DistillJob:
    """What a search for settings sets out from, for a method of distillation.

    Adam takes the place of SGD, since its rates do not depend on the scale of the data.
    """
    check_method(method)
    if method == "mtt":
        return replace(_vary(UNTUNED, threshold=None), method="mtt")
    if method == "ddpp":
        return UNTUNED
    settings = settings_of(method, "", UNTUNED.distillation.ipc, alpha=UNTUNED.real_rate)
    settings = replace(settings, optimizer="adam", pixel_rate=0.03, steps=400, eval_every=100)
    return replace(UNTUNED, method=method, distillation=settings)


def named_settings() -> list[str]:
    """The names of all settings, in the order in which they are shown."""
    return [*SETTINGS, *BEST]


def setting(name: str, method: str | None = None) -> DistillJob:
    """The setting of that name, for a method of distillation.

    Args:
        name: of the setting.
        method: None takes the setting's own, which is DDPP unless it is one of `BEST`.

    Raises:
        InputError: there is none, and the message names those that come close; or it is of another
            method.
    """
    if name in BEST:
        best = BEST[name]
        if method not in (None, best.method):
            raise InputError(f"{name} is by {best.method} alone; for {method} give {best.base}")
        return _vary(setting(best.base, best.method), **best.changes)
    method = check_method(method or "ddpp")
    if name not in SETTINGS:
        names = named_settings()
        close = difflib.get_close_matches(name, names, n=3) or names
        raise InputError(f"there is no setting {name!r}; wanted one such as {', '.join(close)}")
    job = SETTINGS[name]
    if method == "mtt":
        return replace(_vary(job, threshold=None), method="mtt")
    if method == "ddpp":
        return job
    ipc = job.distillation.ipc
    settings = settings_of(method, job.data.dataset, ipc, alpha=job.real_rate)
    return replace(job, method=method, distillation=smaller(settings, name, method))
