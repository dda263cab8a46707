"""Every setting: of each stage, of whole jobs, and the published ones by name."""

from ddpp_jax.configs.jobs import DistillJob, EvaluateJob, TeachersJob, digest
from ddpp_jax.configs.places import Places
from ddpp_jax.configs.settings import DIGITS, SETTINGS, setting
from ddpp_jax.configs.stages import (
    DataConfig,
    DistillConfig,
    EvaluateConfig,
    ModelConfig,
    TeachConfig,
)

__all__ = [
    "DIGITS",
    "SETTINGS",
    "DataConfig",
    "DistillConfig",
    "DistillJob",
    "EvaluateConfig",
    "EvaluateJob",
    "ModelConfig",
    "Places",
    "TeachConfig",
    "TeachersJob",
    "digest",
    "setting",
]
