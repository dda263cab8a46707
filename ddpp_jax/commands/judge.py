"""Judging what a run made, row by row, so that a run that is killed keeps the rows it has."""

import hashlib
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jaxtyping import Float

from ddpp_jax import evaluate, tables
from ddpp_jax.commands.problem import evaluation_key
from ddpp_jax.configs import DistillJob
from ddpp_jax.data import Dataset, random_per_class
from ddpp_jax.files import read_json, write_json
from ddpp_jax.keys import named_key
from ddpp_jax.models import Network
from ddpp_jax.report import Report
from ddpp_jax.results import DistilledFile
from ddpp_jax.storage import Checkpoints

Accuracies = Float[np.ndarray, " networks"]


class Judge:
    """Fresh networks on the sets of one run, each judged once."""

    def __init__(
        self, job: DistillJob, dataset: Dataset, network: Network, folder: Path, report: Report
    ) -> None:
        """A judge whose verdicts are kept in `judged.json` of the folder."""
        self._job, self._dataset, self._report = job, dataset, report
        self._folder, self._path = folder, folder / "judged.json"
        self._run = partial(
            evaluate.run,
            config=job.evaluation,
            test=(dataset.x_test, dataset.y_test),
            network=network,
            operations=job.data.operations,
        )
        self._key = evaluation_key(job.seed)

    def accuracy(self, images: Any, labels: Any, alpha: Any) -> float:
        """The mean accuracy of an unfinished set, for the curve."""
        return float(self._judge("the curve", images, labels, alpha, Report(None)).mean())

    def distilled(self, name: str, distilled: DistilledFile) -> dict[str, Any]:
        """The row of a distilled set."""
        found = self._judge(name, distilled.images, distilled.labels, distilled.alpha, self._report)
        return tables.row(name, len(distilled.labels), [found])

    def random(self) -> dict[str, Any]:
        """The row of random real images, trained on at the alpha that distillation starts from."""
        draws, ipc = self._job.evaluation.random_draws, self._job.distillation.ipc
        draws_key = named_key(jax.random.key(self._job.seed), "random images")
        name = "random real images"

        def one(number: int) -> Accuracies:
            key = jax.random.fold_in(draws_key, number)
            images, labels = random_per_class(key, self._dataset, ipc)
            return self._run(
                jax.random.fold_in(self._key, number),
                images=images,
                labels=labels,
                alpha=self._job.distillation.alpha,
                report=Report(None),
            )

        found = []
        with self._report.progress(f"judge {name}", draws, unit="draw") as tick:
            for number in range(draws):
                found.append(self._once(f"{name} {number}", partial(one, number)))
                tick(number + 1, {"accuracy": float(found[-1].mean())})
        return tables.row(name, ipc * self._dataset.classes, found)

    def close(self) -> None:
        """Delete the kept verdicts, once the results are written."""
        self._path.unlink(missing_ok=True)

    def _judge(self, name: str, images: Any, labels: Any, alpha: Any, report: Report) -> Accuracies:
        """The accuracies of a set; one that was judged before is not judged again."""
        content = [np.asarray(x, np.float32).tobytes() for x in (images, labels, alpha)]
        key = hashlib.sha256(b"".join(content)).hexdigest()[:16]
        return self._once(
            f"set {key}",
            lambda: self._run(
                self._key,
                images=images,
                labels=labels,
                alpha=alpha,
                report=report,
                name=f"judge {name}",
                checkpoints=Checkpoints(self._folder / f"judging-{key}"),
            ),
        )

    def _once(self, name: str, compute: Callable[[], Accuracies]) -> Accuracies:
        kept: Mapping[str, list[float]] = read_json(self._path) if self._path.exists() else {}
        if name not in kept:
            kept = {**kept, name: compute().tolist()}
            write_json(self._path, kept)
        return np.asarray(kept[name], np.float32)
