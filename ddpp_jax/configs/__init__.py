"""Every setting: of each stage, of whole jobs, and the published ones by name."""

from ddpp_jax.configs.architectures import ARCHITECTURES, check_architecture
from ddpp_jax.configs.jobs import (
    DistillJob,
    EvaluateJob,
    SelectJob,
    TeachersJob,
    digest,
    evaluate_job,
)
from ddpp_jax.configs.places import Places
from ddpp_jax.configs.settings import DIGITS, SETTINGS, setting
from ddpp_jax.configs.stages import (
    DataConfig,
    DistillConfig,
    EvaluateConfig,
    ModelConfig,
    SelectConfig,
    TeachConfig,
)
from ddpp_jax.configs.sweeps import SWEPT, sweep_jobs

__all__ = [
    "ARCHITECTURES",
    "DIGITS",
    "SETTINGS",
    "SWEPT",
    "DataConfig",
    "DistillConfig",
    "DistillJob",
    "EvaluateConfig",
    "EvaluateJob",
    "ModelConfig",
    "Places",
    "SelectConfig",
    "SelectJob",
    "TeachConfig",
    "TeachersJob",
    "check_architecture",
    "digest",
    "evaluate_job",
    "setting",
    "sweep_jobs",
]
