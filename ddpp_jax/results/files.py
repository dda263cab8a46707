"""`result.json`: what a run found."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NotRequired, TypedDict

from ddpp_jax.errors import InputError
from ddpp_jax.results.audits import check_audit
from ddpp_jax.results.searches import SearchFound
from ddpp_jax.sets.belonging import require_own
from ddpp_jax.storage import read_sealed, require_kind

REMEDY = "delete it, and the same command makes it again"


class _Data(TypedDict):
    training_images: int
    test_images: int
    held_out_images: int
    shape: list[int]


class _Figure(TypedDict):
    mean: float
    over_orders: float | None
    error: float | None
    over_networks: float
    std: float


class _Method(TypedDict):
    accuracies: list[list[list[float]]]
    steps: list[_Figure]
    average: _Figure


class _Paired(TypedDict):
    method: str
    less: str
    quantity: str
    paired_over: str
    which: None
    architecture: None
    ipc: None
    seeds: int
    mean: float
    error: float
    low: float
    high: float
    stands: bool


class _Continual(TypedDict):
    """Of classes that arrive in steps."""

    class_steps: int
    ipc: int | None
    seen: list[int]
    orders: list[list[list[int]]]
    images: dict[str, list[list[int]]]
    folders: dict[str, str]
    methods: dict[str, _Method]
    comparisons: list[_Paired]


class _Result(TypedDict):
    dataset: str
    seed: int | None
    rows: list[dict[str, Any]]
    class_names: list[str]
    data: _Data
    config: dict[str, Any]
    fingerprint: str
    versions: dict[str, str]
    device: str
    ipc: NotRequired[int]
    sweep: NotRequired[str]
    doubts: NotRequired[list[str]]
    search: NotRequired[SearchFound]
    distillation: NotRequired[dict[str, dict[str, float]]]
    continual: NotRequired[_Continual]
    copies: NotRequired[list[dict[str, Any]]]
    attack: NotRequired[dict[str, Any]]


class _Row(TypedDict):
    method: str
    images: int
    sets: int
    networks: int
    mean: float
    std: float
    set_means: list[float]
    accuracies: list[float]
    diverged: NotRequired[int]
    per_class: NotRequired[list[float | None]]
    confusion: NotRequired[list[list[int]]]
    ipc: NotRequired[int]
    seed: NotRequired[int]
    which: NotRequired[Literal["last", "best-held-out", "best-test"]]
    step: NotRequired[int]
    file: NotRequired[str]
    architecture: NotRequired[str]
    rate: NotRequired[float]
    settings: NotRequired[str]
    value: NotRequired[str]
    means: NotRequired[dict[str, float]]
    held_out_mean: NotRequired[float]


class _Spread(TypedDict):
    method: str
    which: str | None
    architecture: str | None
    ipc: int | None
    seeds: int
    mean: float
    over_seeds: float
    over_networks: float
    error: float


class _Comparison(TypedDict):
    method: str
    less: str
    which: str | None
    architecture: str | None
    ipc: int | None
    seeds: int
    mean: float
    error: float
    low: float
    high: float
    stands: bool


def read_result(path: Path) -> dict[str, Any]:
    """What a run found, as `result.json` of its folder says.

    Raises:
        InputError: the file is damaged, was edited, or is none of a run.
        OSError: it cannot be read.
    """
    found = read_sealed(path, remedy=REMEDY)
    try:
        require_kind(found, _Result)
        check_audit(found)
        for row in found["rows"]:
            _check_row(row, len(found["class_names"]))
            if "sweep" in found and not ("value" in row and "means" in row):
                raise ValueError("a row of a sweep has no value or no means")
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; {REMEDY}") from error
    try:
        require_own(path, found["config"])
    except InputError as error:
        raise InputError(f"{error}; {REMEDY}") from error
    return found


def check_evaluation(path: Path, found: Mapping[str, Any]) -> None:
    """Refuse a result that is no evaluation's.

    Args:
        path: of its file, for the message.
        found: what the file says.

    Raises:
        InputError: it lacks what an evaluation leaves.
    """
    try:
        for name, kind in (("over_seeds", _Spread), ("comparisons", _Comparison)):
            if not isinstance(found.get(name), list):
                raise ValueError(f"it has no list {name}")
            for entry in found[name]:
                require_kind(entry, kind)
        if not all("confusion" in row and "architecture" in row for row in found["rows"]):
            raise ValueError("a row has no confusion matrix or no architecture")
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is damaged: {error}; {REMEDY}") from error


def _check_row(row: Mapping[str, Any], classes: int) -> None:
    require_kind(row, _Row)
    if ("which" in row) != ("step" in row):
        raise ValueError("a row has a which or a step, wanted both or neither")
    if ("per_class" in row) != ("confusion" in row):
        raise ValueError("a row has accuracies by class or a confusion matrix, wanted both")
    lengths = {len(line) for line in row.get("confusion", [])}
    counts = {len(row[name]) for name in ("per_class", "confusion") if name in row} | lengths
    if counts - {classes}:
        raise ValueError(f"a row has figures of {min(counts - {classes})} classes, not {classes}")
    if not row["accuracies"] or len(row["accuracies"]) != row["networks"]:
        raise ValueError("a row has not one accuracy for each network")
    means = (row["mean"], row.get("held_out_mean", 0))
    if not all(0 <= accuracy <= 1 for accuracy in (*means, *row["accuracies"])):
        raise ValueError("a row has an accuracy that is not from 0 to 1")
