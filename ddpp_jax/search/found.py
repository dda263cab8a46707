"""What a search found: correlations, choices, time and storage of each proxy."""

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ddpp_jax.core import named_key
from ddpp_jax.results import FULL
from ddpp_jax.results.tables import row
from ddpp_jax.search.architectures import Architecture
from ddpp_jax.search.ranking import Correlation, best, correlation
from ddpp_jax.search.trials import Trials
from ddpp_jax.storage import Replacement

TOPS = (None, 5, 10, 20)
"""Among how many of the best by full accuracy ranks are compared; None for all."""


class Proxy(NamedTuple):
    """A small set, or a short training, in place of the full data.

    Attributes:
        name: what tables call it.
        images: how many are stored for it.
        selecting: seconds that its making took here; None where it came made.
    """

    name: str
    images: int
    selecting: float | None = None


def chosen_by(architectures: Sequence[Architecture], trials: Trials, name: str) -> Architecture:
    """The network with the best accuracy on held-out images; of equal ones the first of the grid.

    Args:
        architectures: that were trained on the set.
        trials: what became of them.
        name: of the set.
    """
    held = trials.means(architectures, name, "held_out")
    return architectures[int(best(held, 1)[0])]


def for_full_training(
    architectures: Sequence[Architecture],
    proxies: Sequence[str],
    trials: Trials,
    count: int | None,
    *,
    seed: int,
) -> list[Architecture]:
    """The networks that are trained on the full data, in the order of the grid.

    Args:
        architectures: the whole grid.
        proxies: names of the sets that all of them were trained on.
        trials: what became of them.
        count: so many with the best held-out accuracy by each proxy, and as many drawn at random
            of all; None takes all.
        seed: decides that draw.
    """
    if count is None:
        return list(architectures)
    taken = set[int]()
    for name in proxies:
        taken |= set(best(trials.means(architectures, name, "held_out"), count).tolist())
    key = named_key(jax.random.key(seed), "drawn for full training")
    taken |= set(np.asarray(jax.random.permutation(key, len(architectures)))[:count].tolist())
    return [architectures[place] for place in sorted(taken)]


def findings(
    architectures: Sequence[Architecture],
    full: Sequence[Architecture],
    proxies: Sequence[Proxy],
    trials: Trials,
    parameters: Mapping[Architecture, int],
    *,
    seed: int,
) -> dict[str, Any]:
    """What `search` of the result file holds.

    Correlations are of test accuracies, as published ones are. Networks are chosen by accuracy on
    held-out training images; the test set chooses nothing but `best_on_test`, which says so.

    Args:
        architectures: the whole grid.
        full: those of them that were trained on the full data.
        proxies: that the grid was trained on.
        trials: what became of the networks.
        parameters: how many each network has.
        seed: decides the bootstrap.
    """
    key = named_key(jax.random.key(seed), "bootstrap")
    accuracy = dict(zip(full, trials.means(full, FULL, "test"), strict=True))
    names = [proxy.name for proxy in proxies]
    found = []
    for proxy in proxies:
        ours, theirs = trials.means(full, proxy.name, "test"), np.asarray(list(accuracy.values()))
        correlations = [
            _plain(top, correlation(named_key(key, f"{proxy.name} {top}"), ours, theirs, top=top))
            for top in TOPS
            if top is None or top < len(full)
        ]
        chosen = chosen_by(architectures, trials, proxy.name)
        found.append(
            proxy._asdict()
            | _times(architectures, trials, proxy.name)
            | {
                "correlations": correlations,
                "chosen": chosen.name,
                "chosen_accuracy": float(accuracy[chosen]),
                "chosen_accuracies": trials.of(chosen, FULL)["test"],
            }
        )
    best_one = chosen_by(full, trials, FULL)
    on_test = max(accuracy, key=lambda one: accuracy[one])
    return {
        "networks": [
            _network(one, parameters[one], [*names, *([FULL] if one in accuracy else [])], trials)
            for one in architectures
        ],
        "proxies": found,
        "full": {"networks": len(full)}
        | _times(full, trials, FULL)
        | {
            "chosen": best_one.name,
            "chosen_accuracy": float(accuracy[best_one]),
            "chosen_accuracies": trials.of(best_one, FULL)["test"],
            "best_on_test": on_test.name,
            "best_on_test_accuracy": float(accuracy[on_test]),
            "mean_accuracy": float(np.mean(list(accuracy.values()))),
        },
    }


def rows(search: Mapping[str, Any], full_images: int) -> list[dict[str, Any]]:
    """Rows of the result: what the network of each choice reaches, trained on the full data.

    Args:
        search: what `findings` gives.
        full_images: how many the full data have.
    """
    chosen = [
        row(f"chosen by {one['name']}", one["images"], [np.asarray(one["chosen_accuracies"])])
        for one in search["proxies"]
    ]
    own = np.asarray(search["full"]["chosen_accuracies"])
    return [*chosen, row(f"chosen by {FULL}", full_images, [own])]


def write_table(path: Path, search: Mapping[str, Any]) -> None:
    """Write every network with its accuracies, from 0 to 1, as CSV.

    A network that was not trained on the full data has no figure there.

    Args:
        path: of the file.
        search: what `findings` gives.
    """
    names = [*(one["name"] for one in search["proxies"]), FULL]
    columns = [f"{name}, {test}" for name in names for test in ("test", "held-out")]
    about = ["network", *Architecture._fields, "parameters"]
    with Replacement(path) as temporary, temporary.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow([*about, *columns])
        for network in search["networks"]:
            figures = [
                network[test].get(name, "") for name in names for test in ("test", "held_out")
            ]
            writer.writerow([*(network[name] for name in about), *figures])


def _network(
    architecture: Architecture, parameters: int, names: Sequence[str], trials: Trials
) -> dict[str, Any]:
    kept = {name: trials.of(architecture, name) for name in names}
    return {
        "network": architecture.name,
        **architecture._asdict(),
        "parameters": parameters,
        "test": {name: float(np.mean(trial["test"])) for name, trial in kept.items()},
        "held_out": {name: float(np.mean(trial["held_out"])) for name, trial in kept.items()},
        "diverged": sum(trial["diverged"] for trial in kept.values()),
    }


def _times(architectures: Sequence[Architecture], trials: Trials, name: str) -> dict[str, float]:
    kept = [trials.of(one, name) for one in architectures]
    return {
        "seconds": sum(trial["seconds"] for trial in kept),
        "compiling": sum(trial["compiling"] for trial in kept),
    }


def _plain(top: int | None, found: Correlation) -> dict[str, Any]:
    values = {n: None if math.isnan(x) else x for n, x in found._asdict().items()}
    return {"top": top, **values}
