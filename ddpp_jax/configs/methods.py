"""Every method of distillation by its name, and the settings that it takes."""

from ddpp_jax.configs.distillation import DistillConfig, TrajectoryConfig
from ddpp_jax.configs.real import (
    AlignmentConfig,
    DistributionConfig,
    GradientConfig,
    KernelConfig,
    PlainGradientConfig,
    UnrolledConfig,
)
from ddpp_jax.errors import InputError

METHODS: dict[str, type[DistillConfig]] = {
    "ddpp": TrajectoryConfig,
    "mtt": TrajectoryConfig,
    "dc": PlainGradientConfig,
    "dsa": GradientConfig,
    "dm": DistributionConfig,
    "cafe": AlignmentConfig,
    "kip": KernelConfig,
    "bptt": UnrolledConfig,
}
"""Every method by name, and the settings that it takes."""


def check_method(name: str) -> str:
    """The name of a method, where there is one of that name.

    Raises:
        InputError: there is none.
    """
    if name not in METHODS:
        raise InputError(f"--method is {name!r}; wanted one of {', '.join(METHODS)}")
    return name


def check_settings(method: str, settings: DistillConfig, augment: tuple[str, ...]) -> None:
    """Refuse settings that are not of the method.

    Args:
        method: of distillation.
        settings: its own.
        augment: the operations of `--augment`.

    Raises:
        InputError: they are another method's, or make it another one.
    """
    if not isinstance(settings, METHODS[check_method(method)]):
        raise InputError(f"the settings are of another method than {method}")
    if method == "mtt" and isinstance(settings, TrajectoryConfig) and settings.prunes:
        raise InputError(
            f"--threshold is {settings.threshold:g}, but --method mtt prunes nothing; give one of "
            "them"
        )
    if method == "dsa" and isinstance(settings, PlainGradientConfig):
        raise InputError("the settings are of another method than dsa")
    augmented = not isinstance(settings, GradientConfig) or settings.operations(augment)
    if method == "dsa" and not augmented:
        raise InputError(
            "--method dsa augments by nothing; give --siamese all, or --augment, or --method dc"
        )
