"""Every setting: of each stage and method, of whole jobs, and the published ones by name."""

from ddpp_jax.configs.audits import (
    ATTACKS,
    CHOSEN,
    AttackConfig,
    AttackJob,
    ChosenConfig,
    CopiesJob,
    check_audited,
)
from ddpp_jax.configs.checks import ARCHITECTURES, check_architecture
from ddpp_jax.configs.distillation import DistillConfig, Searched, TrajectoryConfig
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
from ddpp_jax.configs.methods import (
    METHODS,
    AlignmentConfig,
    AugmentedConfig,
    DistributionConfig,
    GradientConfig,
    KernelConfig,
    NetworkConfig,
    RealConfig,
    UnrolledConfig,
    check_method,
)
from ddpp_jax.configs.published import provenance
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
    "ATTACKS",
    "CHOSEN",
    "DIGITS",
    "METHODS",
    "SETTINGS",
    "AlignmentConfig",
    "AttackConfig",
    "AttackJob",
    "AugmentedConfig",
    "ChosenConfig",
    "CopiesJob",
    "DataConfig",
    "DistillConfig",
    "DistillJob",
    "DistributionConfig",
    "EvaluateConfig",
    "EvaluateJob",
    "GradientConfig",
    "KernelConfig",
    "MemberJob",
    "ModelConfig",
    "NetworkConfig",
    "Places",
    "RealConfig",
    "Searched",
    "SelectConfig",
    "SelectJob",
    "TeachConfig",
    "TeachersJob",
    "TrajectoryConfig",
    "UnrolledConfig",
    "check_architecture",
    "check_audited",
    "check_method",
    "differences_of",
    "digest",
    "evaluate_job",
    "job_of",
    "members_of",
    "provenance",
    "setting",
    "swept_name",
    "untuned",
]
