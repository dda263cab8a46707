"""Random real images, the plainest rival of a distilled set."""

from typing import Any

import jax

from ddpp_jax.cli.judge import Judge, Tests
from ddpp_jax.configs import DistillJob
from ddpp_jax.core import named_key
from ddpp_jax.data import Dataset, random_per_class
from ddpp_jax.networks import Network
from ddpp_jax.planning.problem import evaluation_key
from ddpp_jax.progress import Report
from ddpp_jax.results import tables


def judge_random(
    job: DistillJob,
    judge: Judge,
    tests: Tests,
    network: Network,
    dataset: Dataset,
    report: Report,
) -> dict[str, Any]:
    """The row of random real images: several draws, each with networks of its own."""
    draws, ipc = job.random_draws, job.distillation.ipc
    draws_key = named_key(jax.random.key(job.seed), "random images")
    name = "random real images"
    verdicts = []
    with report.progress(f"judge {name}", draws, unit="draw") as tick:
        for number in range(draws):
            key = jax.random.fold_in(draws_key, number)
            images, labels = random_per_class(key, dataset, ipc)
            own = jax.random.fold_in(evaluation_key(job.seed), number)
            rate = job.real_rate
            found = judge.judge(network, tests, images, labels, rate, Report(None), key=own)
            verdicts.append(found["test"])
            tick(number + 1, {"accuracy": verdicts[-1].mean})
    return tables.judged_row(name, ipc * dataset.classes, verdicts, seed=job.seed, ipc=ipc)
