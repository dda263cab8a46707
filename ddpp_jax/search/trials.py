"""Every network of a grid trained on every set, each once, however often the process is killed."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

import jax
import numpy as np
from jaxtyping import Float

from ddpp_jax.core import named_key
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import Tests
from ddpp_jax.progress import Report
from ddpp_jax.search.architectures import Architecture
from ddpp_jax.search.training import Manner, Trained, TrainingSet, train
from ddpp_jax.storage import append_row, cut_torn_row, plain_file, read_rows, require_kind
from ddpp_jax.training import side_by_side, workers

TRIALS = "networks.jsonl"
"""The file of a search that has a row for every training."""

_AT_ONCE = 32
"""Networks after which compiled programs are dropped, which would fill the memory."""

_REMEDY = "delete it, and the same command trains its networks again"


class Trial(TypedDict):
    """A network trained on a set: a row of the file."""

    network: str
    set: str
    test: list[float]
    held_out: list[float]
    seconds: float
    compiling: float
    diverged: int


class Trials:
    """The trainings that are done, in memory and on disk."""

    def __init__(self, path: Path, networks: int, warn_fn: Callable[[str], None]) -> None:
        """Take what an earlier process left.

        Args:
            path: of the file, in a folder that this process holds; it need not exist.
            networks: initialisations of each network.
            warn_fn: told of damaged rows, whose networks are trained again.

        Raises:
            InputError: a row is none of such a search.
        """
        self._path, self._lock = path, threading.Lock()
        self._rows: dict[tuple[str, str], Trial] = {}
        cut_torn_row(path)
        rows = read_rows(
            path,
            lambda line, why: warn_fn(
                f"{path}, line {line} is damaged: {why}; its network is trained again"
            ),
        )
        for row in rows:
            try:
                require_kind(row, Trial)
                if {len(row["test"]), len(row["held_out"])} != {networks}:
                    raise ValueError(f"a network has not {networks} accuracies")
            except ValueError as error:
                raise InputError(f"{path} is damaged: {error}; {_REMEDY}") from error
            self._keep(Trial(**row))

    def has(self, architecture: Architecture, name: str) -> bool:
        """Whether a network was trained on the set of that name."""
        return (architecture.name, name) in self._rows

    def of(self, architecture: Architecture, name: str) -> Trial:
        """What became of a network on the set of that name."""
        return self._rows[architecture.name, name]

    def add(self, architecture: Architecture, name: str, found: Trained) -> Trial:
        """Keep a training, from any thread."""
        trial = Trial(
            network=architecture.name,
            set=name,
            test=found.accuracies["test"].tolist(),
            held_out=found.accuracies["held-out"].tolist(),
            seconds=found.seconds,
            compiling=found.compiling,
            diverged=found.diverged,
        )
        with self._lock:
            # Opened anew: a file that was deleted meanwhile is not written to unseen.
            path = plain_file(self._path) if self._path.exists() else self._path
            with path.open("a", encoding="utf-8") as file:
                append_row(file, trial)
            self._keep(trial)
        return trial

    def means(
        self, architectures: Sequence[Architecture], name: str, test: str
    ) -> Float[np.ndarray, " networks"]:
        """The mean accuracy of each network on a set, over its initialisations.

        Args:
            architectures: that were trained on it.
            name: of the set.
            test: `test` or `held_out`.
        """
        return np.asarray([np.mean(self.of(one, name)[test]) for one in architectures], np.float64)

    def _keep(self, trial: Trial) -> None:
        self._rows[trial["network"], trial["set"]] = trial


class Grid(NamedTuple):
    """What all networks of a search have in common.

    Attributes:
        manner: how they are trained.
        seed: decides every draw. A network begins the same on every set, and what it comes to
            depends on no other.
        tests_fn: `tests_fn(name)`, what the networks that a set of that name trained are tested on:
            `test` and `held-out`, seen as they see their images.
    """

    manner: Manner
    seed: int
    tests_fn: Callable[[str], Tests]

    def train(self, architecture: Architecture, given: TrainingSet) -> Trained:
        """What becomes of a network on a set."""
        key = named_key(named_key(jax.random.key(self.seed), "search"), architecture.name)
        return train(key, architecture, given, self.tests_fn(given.name), self.manner)


def train_all(
    architectures: Sequence[Architecture],
    sets: Sequence[TrainingSet],
    grid: Grid,
    trials: Trials,
    report: Report,
    *,
    stage: str,
) -> None:
    """Train every network on every set, but for what is done.

    On the CPU as many programs at a time as there are cores, in threads: XLA's convolution over
    several kernels at once is slower there than one after another. Elsewhere one after another,
    with the initialisations of each network through one program at once.

    Args:
        architectures: to train.
        sets: to train them on.
        grid: what they have in common.
        trials: what is done.
        report: told as it goes on.
        stage: what the report calls it.
    """
    # Those that share a program go one after another, so that it is compiled once.
    todo: dict[Architecture, list[tuple[Architecture, TrainingSet]]] = {}
    for one in architectures:
        lacking = [(one, given) for given in sets if not trials.has(one, given.name)]
        if lacking:
            todo.setdefault(one.program, []).extend(lacking)
    groups, total = list(todo.values()), len(architectures) * len(sets)
    done, lock = total - sum(map(len, groups)), threading.Lock()
    with report.progress(stage, total, unit="training", done=done) as tick:

        def advance(group: list[tuple[Architecture, TrainingSet]], _: None) -> Any:
            nonlocal done
            for one, given in group:
                trial = trials.add(one, given.name, grid.train(one, given))
                with lock:
                    done += 1
                    tick(done, {"accuracy": float(np.mean(trial["test"]))})
            return group

        for low in range(0, len(groups), _AT_ONCE):
            side_by_side(advance, groups[low : low + _AT_ONCE], [None], at_a_time=at_a_time())
            if low + _AT_ONCE < len(groups):
                jax.clear_caches()


def at_a_time() -> int:
    """How many networks of a large grid are trained at a time."""
    return workers(_AT_ONCE) if jax.default_backend() == "cpu" else 1
