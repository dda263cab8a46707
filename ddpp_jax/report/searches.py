"""What is drawn and shown of a search among architectures."""

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes

from ddpp_jax.report.drawings import COLOURS, Rows, as_words
from ddpp_jax.results import FULL
from ddpp_jax.results.searches import correlation_words
from ddpp_jax.text import shortened

_LONGEST_NAME = 40
_MARKS = "osD^v"


def draw_proxy(ax: Axes, networks: Rows, name: str) -> None:
    """Draw the accuracy of every network on a proxy against that on the full data.

    Those that were not trained on the full data are left out. Norms differ in their colours.

    Args:
        ax: where.
        networks: of a search, with `norm` and, by the name of the set, `test`.
        name: of the proxy.
    """
    shown = [one for one in networks if FULL in one["test"]]
    for place, norm in enumerate(dict.fromkeys(one["norm"] for one in networks)):
        own = [one["test"] for one in shown if one["norm"] == norm]
        ax.plot(
            [100 * test[name] for test in own],
            [100 * test[FULL] for test in own],
            _MARKS[place % len(_MARKS)],
            markersize=3.5,
            alpha=0.7,
            color=COLOURS[place % len(COLOURS)],
            label="no norm" if norm == "none" else f"{norm} norm",
        )
    ax.set(
        xlabel=as_words(f"test accuracy after {shortened(name, _LONGEST_NAME)}, %"),
        ylabel="test accuracy after the full data, %",
    )
    ax.grid(alpha=0.25)
    ax.legend(fontsize=7)


def search_values(search: Mapping[str, Any], full_images: int) -> dict[str, Any]:
    """What the page of a search shows in its tables.

    Args:
        search: of the result file.
        full_images: how many the full data have.
    """
    full = search["full"]
    tops = [one["top"] for one in search["proxies"][0]["correlations"]]
    names = [one["name"] for one in search["proxies"]]
    proxies = [
        {
            "name": one["name"],
            "correlations": [correlation_words(found) for found in one["correlations"]],
            "chosen": one["chosen"],
            "accuracy": 100 * one["chosen_accuracy"],
            "seconds": one["seconds"],
            "images": one["images"],
        }
        for one in search["proxies"]
    ]
    own = {
        "name": FULL,
        "correlations": ["" for _ in tops],
        "chosen": full["chosen"],
        "accuracy": 100 * full["chosen_accuracy"],
        "seconds": full["seconds"],
        "images": full_images,
    }
    ranked = sorted(search["networks"], key=lambda one: -one["test"].get(FULL, -1.0))
    return {
        "tops": [f"all {full['networks']}" if top is None else f"best {top}" for top in tops],
        "proxies": [*proxies, own],
        "names": [*names, FULL],
        "networks": [
            {
                "network": one["network"],
                "parameters": one["parameters"],
                "figures": [one["test"].get(name) for name in [*names, FULL]],
            }
            for one in ranked
        ],
        "best": full["best_on_test"],
        "best_accuracy": 100 * full["best_on_test_accuracy"],
        "mean_accuracy": 100 * full["mean_accuracy"],
    }
