"""What tells teachers, runs and sets from others: their settings, data and version."""

import dataclasses
import json
from typing import Any, TypeAlias

import ddpp_jax
from ddpp_jax.configs import EvaluateJob, SearchJob, SelectJob, TeachersJob
from ddpp_jax.data import Dataset, test_fingerprint
from ddpp_jax.planning.programs import compiler_flags
from ddpp_jax.progress import Report

Job: TypeAlias = TeachersJob | EvaluateJob | SearchJob

_LATER = (
    ("data", "range", None),
    ("data", "crop", False),
    ("data", "contrast", False),
    ("teaching", "imported", None),
    ("teaching", "balance", False),
    ("teaching", "teacher_seed", None),
    ("teaching", "teacher_optimizer", "sgd"),
    ("teaching", "sam_rho", 0.01),
    ("teaching", "sam_adaptive", True),
    ("teaching", "gsam_alpha", 0.3),
    ("distillation", "optimizer", "sgd"),
)
"""Settings that stores and runs, whose names come from settings, did not have at first."""

_LATER_OF_TRAJECTORIES = (
    ("distillation", "mask", "ratio"),
    ("distillation", "prune_share", None),
    ("distillation", "weight_rate", 0.01),
    ("distillation", "min_start_epoch", 0),
    ("distillation", "early_start_epoch", None),
    ("distillation", "growth_steps", 1000),
    ("distillation", "learn_labels", False),
    ("distillation", "label_rate", 2.0),
    ("distillation", "match", "last"),
    ("distillation", "image_average", 0.0),
    ("distillation", "segments", 1),
    ("distillation", "start_images", "any"),
    ("distillation", "skip_above", None),
)
"""The same of trajectory matching; other methods had some of these from the first."""

_SEEN_BY = ("dataset", "zca", "contrast")
"""Settings of the data that tell what imported teachers were trained on."""


def manifest_of(job: TeachersJob, raw: Dataset) -> dict[str, Any]:
    """What a store of teachers must hold: those that a job trains, or that were imported for it."""
    settings = plain(job, raw)
    common = {"version": ddpp_jax.__version__, "fingerprint": raw.fingerprint}
    if job.teaching.imported is not None:
        # What they were trained by is not known; they are what they are.
        return common | {
            "imported": job.teaching.imported,
            "data": {n: settings["data"][n] for n in _SEEN_BY if n in settings["data"]},
            "model": {"width": job.model.width, "depth": job.model.depth},
        }
    others = ("teachers", "teacher_seed", *job.teaching.unused)
    return common | {
        "data": settings["data"],
        "model": settings["model"],
        "teaching": {k: v for k, v in settings["teaching"].items() if k not in others},
        "seed": job.teaching_seed,
        **_compiled_otherwise(),
    }


def plain(job: Job, raw: Dataset) -> dict[str, Any]:
    """The job as plain values, without where on this machine the data lie."""
    settings = dataclasses.asdict(job)
    del settings["data"]["data_dir"]
    settings["data"]["dataset"] = raw.name
    trajectory = settings.get("method") in ("ddpp", "mtt")
    for stage, name, value in _LATER + (_LATER_OF_TRAJECTORIES if trajectory else ()):
        if stage in settings and settings[stage].get(name) == value:
            settings[stage].pop(name, None)
    return settings


def say_settings(job: Job, raw: Dataset, report: Report) -> None:
    """Show all settings of a job."""
    for line in f"Settings: {json.dumps(plain(job, raw), indent=2)}".splitlines():
        report.say(line)


def identity_of(job: Job, raw: Dataset) -> dict[str, Any]:
    """What a run's folder is claimed for, and named by."""
    return {
        "version": ddpp_jax.__version__,
        "fingerprint": raw.fingerprint,
        "config": plain(job, raw),
        **_compiled_otherwise(),
    }


def _compiled_otherwise() -> dict[str, Any]:
    """What names results beside the settings where XLA was told to compile otherwise."""
    flags = compiler_flags()
    return {"xla_flags": flags} if flags else {}


def origin_of(
    method: str, job: TeachersJob | SelectJob | SearchJob, raw: Dataset, *, ipc: int
) -> dict[str, Any]:
    """What a set's file says of where it comes from."""
    scale = {} if raw.scale is None else {"scale": raw.scale._asdict()}
    return {
        "method": method,
        "ipc": ipc,
        "seed": job.seed,
        "test": test_fingerprint(raw),
        "settings": plain(job, raw),
        **scale,
    }
