"""Every setting: of each stage and method, of whole jobs, and the published ones by name."""

from ddpp_jax.configs.checks import ARCHITECTURES, check_architecture
from ddpp_jax.configs.distillation import (
    METHODS,
    DistillConfig,
    DistributionConfig,
    TrajectoryConfig,
)
from ddpp_jax.configs.jobs import (
    DistillJob,
    EvaluateJob,
    Places,
    SelectJob,
    TeachersJob,
    digest,
    evaluate_job,
)
from ddpp_jax.configs.members import MemberJob, differences_of, members_of, swept_name
from ddpp_jax.configs.settings import DIGITS, SETTINGS, setting
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
    "SelectConfig",
    "SelectJob",
    "TeachConfig",
    "TeachersJob",
    "TrajectoryConfig",
    "check_architecture",
    "differences_of",
    "digest",
    "evaluate_job",
    "members_of",
    "setting",
    "swept_name",
]
