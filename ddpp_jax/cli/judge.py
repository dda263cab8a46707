"""Judging sets one by one, so that a run that is killed keeps the verdicts it has."""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias, TypedDict

import jax
import numpy as np

from ddpp_jax import evaluate
from ddpp_jax._types import FloatArray, IntArray, PRNGKey
from ddpp_jax.configs import DistillJob, EvaluateJob
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Verdict
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report
from ddpp_jax.storage import Checkpoints, read_sealed, require_kind, write_json

Tests: TypeAlias = Mapping[str, tuple[FloatArray, IntArray]]
"""Test sets by name: images and labels."""


_REMEDY = "delete it, and the same command judges its sets again"


class _Kept(TypedDict):
    """A verdict in `judged.json`."""

    accuracies: list[float]
    confusion: list[list[int]]
    diverged: int


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
                checkpoints=Checkpoints(self._folder / f"judging-{place}", of=place),
            ),
        )

    def close(self) -> None:
        """Delete the kept verdicts, once the results are written."""
        (self._folder / "judged.json").unlink(missing_ok=True)

    def _once(
        self, place: str, tests: Tests, compute: Callable[[], dict[str, Verdict]]
    ) -> dict[str, Verdict]:
        path = self._folder / "judged.json"
        kept = self._kept(path) if path.exists() else {}
        if not tests.keys() <= kept.get(place, {}).keys():
            verdicts = compute()
            kept[place] = {test: _plain(verdict) for test, verdict in verdicts.items()}
            write_json(path, kept)
        return {test: _verdict(kept[place][test]) for test in tests}

    def _kept(self, path: Path) -> dict[str, Any]:
        """The verdicts of an earlier process."""
        found = read_sealed(path, remedy=_REMEDY)
        shape = (self._classes, self._classes)
        try:
            for verdict in (verdict for tests in found.values() for verdict in tests.values()):
                require_kind(verdict, _Kept)
                accuracies, confusion = (verdict[name] for name in ("accuracies", "confusion"))
                if len(accuracies) != self._job.evaluation.networks:
                    raise ValueError(f"it has accuracies of {len(accuracies)} networks")
                if np.shape(confusion) != shape:
                    raise ValueError(f"it has a confusion matrix of {np.shape(confusion)}")
        except (ValueError, AttributeError) as error:
            raise InputError(f"{path} is damaged: {error}; {_REMEDY}") from error
        return found


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
