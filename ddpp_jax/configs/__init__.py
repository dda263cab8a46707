"""Every setting: of each stage and method, of whole jobs, and the published ones by name."""

from ddpp_jax.configs.audits import (
    ATTACKS,
    CHOSEN,
    SELECTIONS,
    AttackConfig,
    AttackJob,
    ChosenConfig,
    CopiesJob,
    check_audited,
)
from ddpp_jax.configs.checks import ARCHITECTURES, check_architecture
from ddpp_jax.configs.continual import ContinualConfig
from ddpp_jax.configs.distillation import DistillConfig, Searched, TrajectoryConfig
from ddpp_jax.configs.jobs import (
    DistillJob,
    EvaluateJob,
    Places,
    Reading,
    SelectJob,
    TeachersJob,
    digest,
    evaluate_job,
    job_of,
)
from ddpp_jax.configs.members import MemberJob, differences_of, members_of, swept_name
from ddpp_jax.configs.methods import METHODS, check_method
from ddpp_jax.configs.published import provenance
from ddpp_jax.configs.real import (
    AlignmentConfig,
    AugmentedConfig,
    DistributionConfig,
    GradientConfig,
    KernelConfig,
    NetworkConfig,
    RealConfig,
    UnrolledConfig,
)
from ddpp_jax.configs.searches import (
    ACTIVATIONS,
    NORMS,
    POOLINGS,
    SearchConfig,
    SearchJob,
    numbers,
)
from ddpp_jax.configs.settings import DIGITS, SETTINGS, named_settings, setting, untuned
from ddpp_jax.configs.stages import (
    DECIDE_IMAGES,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    SelectConfig,
    TeachConfig,
)

__all__ = [
    "ACTIVATIONS",
    "ARCHITECTURES",
    "ATTACKS",
    "CHOSEN",
    "DECIDE_IMAGES",
    "DIGITS",
    "METHODS",
    "NORMS",
    "POOLINGS",
    "SELECTIONS",
    "SETTINGS",
    "AlignmentConfig",
    "AttackConfig",
    "AttackJob",
    "AugmentedConfig",
    "ChosenConfig",
    "ContinualConfig",
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
    "Reading",
    "RealConfig",
    "SearchConfig",
    "SearchJob",
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
    "named_settings",
    "numbers",
    "provenance",
    "setting",
    "swept_name",
    "untuned",
]
