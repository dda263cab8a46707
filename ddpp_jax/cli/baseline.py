"""Random real images, what a distilled set is first compared with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from ddpp_jax.configs import DistillJob
from ddpp_jax.core import named_key
from ddpp_jax.data import Dataset, random_per_class
from ddpp_jax.evaluate import Evaluations, Tests
from ddpp_jax.networks import Network
from ddpp_jax.planning.identities import plain
from ddpp_jax.planning.problem import evaluation_key
from ddpp_jax.progress import Report
from ddpp_jax.results import read_result, tables
from ddpp_jax.sets import DistilledSet

RANDOM = "random real images"
"""What tables call them."""

_DECIDES = ("data", "model", "evaluation", "seed", "random_draws", "real_rate")
"""The settings that decide which they are and how they are evaluated, beside their number."""


def random_of(folder: Path | None, job: DistillJob, raw: Dataset) -> dict[str, Any] | None:
    """The row of random real images that a run beside this one has, where it would be the same.

    Args:
        folder: of the other run; None where there is none.
        job: of this one.
        raw: its data.

    Raises:
        InputError: the other run's results are damaged.
    """
    if folder is None:
        return None
    found = read_result(folder / "result.json")
    own, other = plain(job, raw), found["config"]
    alike = all(own[name] == other.get(name) for name in _DECIDES)
    alike &= found["fingerprint"] == raw.fingerprint
    alike &= own["distillation"]["ipc"] == other["distillation"]["ipc"]
    rows = [row for row in found["rows"] if row["method"] == RANDOM]
    return rows[0] if rows and alike else None


def evaluate_random(
    job: DistillJob,
    evaluations: Evaluations,
    network: Network,
    dataset: Dataset,
    tests: Tests,
    report: Report,
    soft: str | None = None,
    labelled_fn: Callable[[DistilledSet], DistilledSet] = lambda small: small,
) -> dict[str, Any]:
    """The row of random real images: several draws, each with networks of its own.

    Args:
        job: what is asked for.
        evaluations: how sets are evaluated, and where that is kept.
        network: the architecture.
        dataset: the real data.
        tests: sets that networks are tested on; `test` is the one that counts.
        report: told as it goes on.
        soft: the words for labels that are not the true ones.
        labelled_fn: gives them to the images, which come class by class.
    """
    name = RANDOM if soft is None else f"{RANDOM}, {soft}"
    draws, ipc = job.random_draws, job.distillation.ipc
    draws_key = named_key(jax.random.key(job.seed), "random images")
    found = []
    with report.progress(f"evaluate {name}", draws, unit="draw") as tick:
        for number in range(draws):
            key = jax.random.fold_in(draws_key, number)
            images, labels = random_per_class(key, dataset, ipc)
            own = jax.random.fold_in(evaluation_key(job.seed), number)
            small = labelled_fn(DistilledSet(images, labels, job.real_rate))
            one = evaluations.evaluate(network, small, tests, Report(None), key=own)["test"]
            found.append(one)
            tick(number + 1, {"accuracy": one.mean})
    return tables.evaluated_row(name, ipc * dataset.classes, found, seed=job.seed, ipc=ipc)
