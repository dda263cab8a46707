"""What a search among architectures found, as its result file holds it and a person reads it."""

from collections.abc import Mapping
from typing import Any, TypedDict

from rich.table import Table

FULL = "full data"
"""What the full data are called among the sets of a search."""


class _Correlation(TypedDict):
    top: int | None
    networks: int
    value: float | None
    low: float | None
    high: float | None


class _Proxy(TypedDict):
    name: str
    images: int
    selecting: float | None
    seconds: float
    compiling: float
    correlations: list[_Correlation]
    chosen: str
    chosen_accuracy: float
    chosen_accuracies: list[float]


class _FullData(TypedDict):
    networks: int
    seconds: float
    compiling: float
    chosen: str
    chosen_accuracy: float
    chosen_accuracies: list[float]
    best_on_test: str
    best_on_test_accuracy: float
    mean_accuracy: float


class _Network(TypedDict):
    network: str
    width: int
    depth: int
    activation: str
    pooling: str
    norm: str
    parameters: int
    test: dict[str, float]
    held_out: dict[str, float]
    diverged: int


class SearchFound(TypedDict):
    """What `search` of the result file of a search among architectures holds."""

    networks: list[_Network]
    proxies: list[_Proxy]
    full: _FullData


def proxies_table(search: Mapping[str, Any], full_images: int) -> Table:
    """A row for each proxy, and one for the full data.

    Args:
        search: of the result file.
        full_images: how many the full data have.
    """
    shown = Table()
    shown.add_column("proxy", overflow="fold", min_width=10)
    tops = [one["top"] for one in search["proxies"][0]["correlations"]]
    for top in tops:
        name = f"all {search['full']['networks']}" if top is None else f"best {top}"
        shown.add_column(f"rank correlation, {name}", justify="right")
    shown.add_column("network chosen", overflow="fold", min_width=14)
    shown.add_column("its test accuracy, full data, %", justify="right")
    shown.add_column("training, s", justify="right")
    shown.add_column("images", justify="right")
    for one in search["proxies"]:
        shown.add_row(
            one["name"],
            *(correlation_words(found) for found in one["correlations"]),
            one["chosen"],
            f"{100 * one['chosen_accuracy']:.1f}",
            f"{one['seconds']:,.0f}",
            f"{one['images']:,}",
        )
    full = search["full"]
    shown.add_row(
        FULL,
        *("" for _ in tops),
        full["chosen"],
        f"{100 * full['chosen_accuracy']:.1f}",
        f"{full['seconds']:,.0f}",
        f"{full_images:,}",
    )
    return shown


def correlation_words(found: Mapping[str, Any]) -> str:
    """A correlation and its interval; a dash where there is none to speak of."""
    if found["value"] is None:
        return "-"
    return f"{found['value']:.2f} ({found['low']:.2f} to {found['high']:.2f})"


def closing_words(search: Mapping[str, Any]) -> list[str]:
    """What the table does not say, as lines."""
    full = search["full"]
    said = [
        "Rank correlations (Spearman) are of test accuracies, with 95 % intervals of a bootstrap "
        "over networks; networks are chosen by held-out training images.",
        f"Best on the test set, which nothing here was chosen by: {full['best_on_test']}, "
        f"{100 * full['best_on_test_accuracy']:.1f} %; the mean of the {full['networks']} "
        f"networks is {100 * full['mean_accuracy']:.1f} %",
    ]
    lost = sum(one["diverged"] for one in search["networks"])
    if lost:
        said.append(f"{lost} trainings diverged, and count with the accuracy that they ended with")
    return said
