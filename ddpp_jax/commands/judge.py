"""Judging sets one by one, so that a run that is killed keeps the verdicts it has."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

import jax
import numpy as np

from ddpp_jax import evaluate
from ddpp_jax._types import FloatArray, IntArray, PRNGKey
from ddpp_jax.configs import DistillJob, EvaluateJob
from ddpp_jax.evaluate import Verdict
from ddpp_jax.files import read_json, write_json
from ddpp_jax.models import Network
from ddpp_jax.report import Report
from ddpp_jax.storage import Checkpoints

Tests: TypeAlias = Mapping[str, tuple[FloatArray, IntArray]]
"""Test sets by name: images and labels."""


class Judge:
    """Fresh networks on small sets, each set judged once."""

    def __init__(self, job: DistillJob | EvaluateJob, folder: Path, *, classes: int) -> None:
        """A judge whose verdicts are kept in `judged.json` of the folder.

        Args:
            job: how many networks, their schedule and their augmentation.
            folder: held by this process.
            classes: how many there are.
        """
        self._job, self._folder, self._classes = job, folder, classes

    def judge(
        self,
        network: Network,
        tests: Tests,
        images: Any,
        labels: Any,
        alpha: Any,
        report: Report,
        *,
        name: str = "",
        architecture: str = "convnet",
        key: PRNGKey,
    ) -> dict[str, Verdict]:
        """The verdict on a set by each test set; one that was judged before is not judged again.

        Args:
            network: the architecture.
            tests: what it is judged on.
            images: the set, as the networks see it.
            labels: classes, or rows of probabilities.
            alpha: the learning rate at first.
            report: told as it goes on.
            name: what the report calls the set.
            architecture: its name, under which the verdict is kept.
            key: of all draws.
        """
        content = hashlib.sha256(f"{architecture}{jax.random.key_data(key)}".encode())
        for values in (images, labels, alpha):
            content.update(np.asarray(values, np.float32).tobytes())
        place = content.hexdigest()[:16]
        return self._once(
            place,
            tests,
            lambda: evaluate.run(
                key,
                self._job.evaluation,
                tests,
                network,
                images,
                labels,
                alpha,
                report,
                classes=self._classes,
                operations=self._job.data.operations,
                name=f"judge {name}",
                checkpoints=Checkpoints(self._folder / f"judging-{place}"),
            ),
        )

    def close(self) -> None:
        """Delete the kept verdicts, once the results are written."""
        (self._folder / "judged.json").unlink(missing_ok=True)

    def _once(
        self, place: str, tests: Tests, compute: Callable[[], dict[str, Verdict]]
    ) -> dict[str, Verdict]:
        path = self._folder / "judged.json"
        kept = read_json(path) if path.exists() else {}
        if not tests.keys() <= kept.get(place, {}).keys():
            verdicts = compute()
            kept[place] = {test: _plain(verdict) for test, verdict in verdicts.items()}
            write_json(path, kept)
        return {test: _verdict(kept[place][test]) for test in tests}


def _plain(verdict: Verdict) -> dict[str, Any]:
    return {
        "accuracies": verdict.accuracies.tolist(),
        "confusion": verdict.confusion.tolist(),
        "diverged": verdict.diverged,
    }


def _verdict(values: Mapping[str, Any]) -> Verdict:
    return Verdict(
        np.asarray(values["accuracies"], np.float64),
        np.asarray(values["confusion"], np.int64),
        values["diverged"],
    )
