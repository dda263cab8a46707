"""Where a set comes from, and what a run's folder is for."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypedDict, get_type_hints

from ddpp_jax.configs import (
    CHOSEN,
    METHODS,
    AttackConfig,
    ChosenConfig,
    DataConfig,
    EvaluateConfig,
    ModelConfig,
    SearchConfig,
    SelectConfig,
    TeachConfig,
)
from ddpp_jax.errors import InputError
from ddpp_jax.storage import require_kind, require_type

_PARTS = {
    "data": DataConfig,
    "model": ModelConfig,
    "teaching": TeachConfig,
    "selection": SelectConfig,
    "evaluation": EvaluateConfig,
    "search": SearchConfig,
    "attack": AttackConfig,
}


class _Scale(TypedDict):
    kind: str
    low: float
    high: float


class _Origin(TypedDict, total=False):
    method: str
    ipc: int
    seed: int
    which: Literal["last", "best-held-out", "best-test"]
    step: int
    value: float
    test: str
    settings: dict[str, Any]
    indices: list[int]
    scale: _Scale


class _Settings(TypedDict, total=False):
    seed: int | None
    method: str
    baselines: bool
    random_draws: int
    real_rate: float
    architectures: str
    rate: float | None
    normalised: bool


def check_origin(path: Path, origin: Any) -> None:
    """Refuse what a set's file says of its origin where it makes no sense.

    Args:
        path: of the file, for the message.
        origin: what it says.

    Raises:
        InputError: it is no object, an entry is of another kind, or its settings are none.
    """
    try:
        require_type(origin, dict[str, Any])
        require_kind(origin, _Origin)
        if ("which" in origin) != ("step" in origin):
            raise ValueError("it has a which or a step, wanted both or neither")
        _check_settings(origin.get("settings", {}))
    except ValueError as error:
        raise InputError(f"{path} has an origin that makes no sense: {error}") from error


def check_identity(path: Path, identity: Mapping[str, Any]) -> None:
    """Refuse what a run's folder says that it is for, where that is no run.

    Args:
        path: of the file that says so, for the message.
        identity: what it says.

    Raises:
        InputError: it has no settings, or they make no sense.
    """
    try:
        settings = identity.get("config") or {}
        require_type(settings, dict[str, Any])
        _check_settings(settings)
        if "dataset" not in settings.get("data", {}):
            raise ValueError("it names no dataset")
        for name in ("version", "fingerprint"):
            require_type(identity.get(name, ""), str)
    except ValueError as error:
        raise InputError(f"{path} is not that of a run; wanted its settings: {error}") from error


def _check_settings(settings: Mapping[str, Any]) -> None:
    """Refuse settings whose entries are of other kinds, or beyond their ranges.

    Those of other versions may have more entries, or lack some.
    """
    require_kind(settings, _Settings)
    method = settings.get("method", "ddpp")
    kinds_by_method: dict[str, Any] = dict(METHODS)
    if "attack" in settings:  # Real images as they are may be audited, too.
        kinds_by_method |= dict.fromkeys(CHOSEN, ChosenConfig)
    if method not in kinds_by_method:
        raise ValueError(f"its method is {method!r}, wanted one of {', '.join(kinds_by_method)}")
    for part, kind in {**_PARTS, "distillation": kinds_by_method[method]}.items():
        values = settings.get(part, {})
        require_type(values, dict[str, Any])
        kinds = get_type_hints(kind)
        known = {name: value for name, value in values.items() if name in kinds}
        for name, value in known.items():
            try:
                require_type(value, kinds[name])
            except ValueError as error:
                raise ValueError(f"{part}.{name}: {error}") from error
        kind(**known)
