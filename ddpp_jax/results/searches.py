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
    full = search["full"]
    shown = Table(caption="rank correlations of test accuracies; accuracies in %", min_width=60)
    shown.add_column("proxy", overflow="fold", min_width=8)
    tops = [one["top"] for one in search["proxies"][0]["correlations"]]
    for top in tops:
        shown.add_column(f"all {full['networks']}" if top is None else f"best {top}", min_width=5)
    shown.add_column("network chosen", overflow="fold", min_width=16)
    shown.add_column("reaches", justify="right")
    shown.add_column("s", justify="right")
    shown.add_column("images", justify="right")
    for one in search["proxies"]:
        values = [found["value"] for found in one["correlations"]]
        shown.add_row(
            one["name"],
            *("-" if value is None else f"{value:.2f}" for value in values),
            one["chosen"],
            f"{100 * one['chosen_accuracy']:.1f}",
            f"{one['seconds']:,.0f}",
            f"{one['images']:,}",
        )
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
    said = []
    for one in search["proxies"]:
        words = correlation_words(one["correlations"][0])
        said.append(
            f"{one['name']}: Spearman's correlation over all is {words}, by a bootstrap over "
            "networks at 95 %"
        )
    said.append(
        "Networks are chosen by held-out training images, and reach that accuracy on the test set "
        f"after the full data. The test set chose nothing; on it {full['best_on_test']} is best "
        f"with {100 * full['best_on_test_accuracy']:.1f} %, and the mean of the "
        f"{full['networks']} networks is {100 * full['mean_accuracy']:.1f} %"
    )
    lost = sum(one["diverged"] for one in search["networks"])
    if lost:
        said.append(f"{lost} trainings diverged, and count with the accuracy that they ended with")
    return said
