"""Every setting: of each stage and method, of whole jobs, and the published ones by name."""

from ddpp_jax.configs.checks import ARCHITECTURES, check_architecture
from ddpp_jax.configs.distillation import (
    METHODS,
    DistillConfig,
    DistributionConfig,
    Searched,
    TrajectoryConfig,
    check_method,
)
from ddpp_jax.configs.jobs import (
    DistillJob,
    EvaluateJob,
    Places,
    SelectJob,
    TeachersJob,
    digest,
    evaluate_job,
    job_of,
)
from ddpp_jax.configs.members import MemberJob, differences_of, members_of, swept_name
from ddpp_jax.configs.settings import DIGITS, SETTINGS, setting, untuned
from ddpp_jax.configs.stages import (
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    SelectConfig,
    TeachConfig,
)

__all__ = [
    "ARCHITECTURES",
    "DIGITS",
    "METHODS",
    "SETTINGS",
    "DataConfig",
    "DistillConfig",
    "DistillJob",
    "DistributionConfig",
    "EvaluateConfig",
    "EvaluateJob",
    "MemberJob",
    "ModelConfig",
    "Places",
    "Searched",
    "SelectConfig",
    "SelectJob",
    "TeachConfig",
    "TeachersJob",
    "TrajectoryConfig",
    "check_architecture",
    "check_method",
    "differences_of",
    "digest",
    "evaluate_job",
    "job_of",
    "members_of",
    "setting",
    "swept_name",
    "untuned",
]
