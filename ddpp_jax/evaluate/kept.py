"""Evaluations that a run which is killed keeps."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypedDict

import jax
import numpy as np

from ddpp_jax import cluster
from ddpp_jax._types import PRNGKey
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate.evaluation import Evaluation
from ddpp_jax.evaluate.networks import Procedure, Tests, run
from ddpp_jax.networks import Network
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import Checkpoints, read_sealed, require_kind, write_json

_REMEDY = "delete it, and the same command evaluates its sets again"


class _Kept(TypedDict):
    """An evaluation in `evaluations.json`."""

    accuracies: list[float]
    confusion: list[list[int]]
    diverged: int


class Evaluations:
    """Fresh networks on small sets, each set evaluated once."""

    def __init__(self, procedure: Procedure, folder: Path) -> None:
        """Evaluations that are kept in `evaluations.json` of the folder.

        Args:
            procedure: how many networks, their schedule and their augmentation.
            folder: held by this process.
        """
        self._procedure, self._folder = procedure, folder

    def evaluate(
        self,
        network: Network,
        small: DistilledSet,
        tests: Tests,
        report: Report,
        *,
        key: PRNGKey,
        name: str = "",
        architecture: str = "convnet",
    ) -> dict[str, Evaluation]:
        """The evaluation of a set by each test set; what was evaluated before is not repeated.

        Args:
            network: the architecture.
            small: the set, as the networks see it.
            tests: what the networks are tested on.
            report: told as it goes on.
            key: of all draws.
            name: what the report calls the set.
            architecture: its name, under which the evaluation is kept.
        """
        content = hashlib.sha256(f"{architecture}{jax.random.key_data(key)}".encode())
        for values in (small.images, small.labels, small.alpha):
            content.update(np.asarray(values, np.float32).tobytes())
        place = content.hexdigest()[:16]
        path = self._folder / "evaluations.json"
        kept = cluster.agreed(lambda: self._kept(path) if path.exists() else {})
        if not tests.keys() <= kept.get(place, {}).keys():
            checkpoints = Checkpoints(self._folder / f"evaluation-{place}", of=place)
            found = run(
                key,
                self._procedure,
                network,
                small,
                tests,
                report,
                name=f"evaluate {name}",
                checkpoints=checkpoints,
            )
            kept[place] = {test: _plain(evaluation) for test, evaluation in found.items()}
            write_json(path, kept)
        return {test: _evaluation(kept[place][test]) for test in tests}

    def close(self) -> None:
        """Delete what is kept, once the results are written."""
        if cluster.leads():
            (self._folder / "evaluations.json").unlink(missing_ok=True)

    def _kept(self, path: Path) -> dict[str, Any]:
        """The evaluations of an earlier process."""
        found = read_sealed(path, remedy=_REMEDY)
        shape = (self._procedure.classes,) * 2
        try:
            for evaluation in (one for tests in found.values() for one in tests.values()):
                require_kind(evaluation, _Kept)
                accuracies, confusion = (evaluation[name] for name in ("accuracies", "confusion"))
                if len(accuracies) != self._procedure.config.networks:
                    raise ValueError(f"it has accuracies of {len(accuracies)} networks")
                if np.shape(confusion) != shape:
                    raise ValueError(f"it has a confusion matrix of {np.shape(confusion)}")
        except (ValueError, AttributeError) as error:
            raise InputError(f"{path} is damaged: {error}; {_REMEDY}") from error
        return found


def _plain(evaluation: Evaluation) -> dict[str, Any]:
    return {
        "accuracies": evaluation.accuracies.tolist(),
        "confusion": evaluation.confusion.tolist(),
        "diverged": evaluation.diverged,
    }


def _evaluation(values: Mapping[str, Any]) -> Evaluation:
    return Evaluation(
        np.asarray(values["accuracies"], np.float64),
        np.asarray(values["confusion"], np.int64),
        values["diverged"],
    )
