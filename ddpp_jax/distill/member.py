"""One of the distillations that go through a program side by side: what it is, and its files."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np

from ddpp_jax.data import (
    Dataset,
    ImageArray,
    undo,
)
from ddpp_jax.distill.best import Best
from ddpp_jax.distill.frames import Frames
from ddpp_jax.distill.health import Health, troubles
from ddpp_jax.methods import Method
from ddpp_jax.methods.method import HParams
from ddpp_jax.progress import Report, read_metrics
from ddpp_jax.sets import DistilledSet, origin_digest, read_distilled, set_path, write_distilled
from ddpp_jax.storage import append_row, read_sealed, write_json, write_rows

EvaluateFn: TypeAlias = Callable[[DistilledSet], dict[str, float]]
"""The `accuracy` of a set and, where training images were kept apart, its `held_out_accuracy`, from
0 to 1, and maybe the deviation of each (`accuracy_std`)."""


class Member(NamedTuple):
    """One of several distillations.

    Attributes:
        name: as tables and progress call it.
        seed: decides its draws.
        start: the set that it starts from, with the names of its classes and its transform.
        hparams: the numbers in which it may differ from the others.
        folder: its own, where it leaves its sets, its metrics and its frames.
        origin: what the files of its sets say of where they come from; `which` and `step` are
            added.
    """

    name: str
    seed: int
    start: DistilledSet
    hparams: HParams
    folder: Path
    origin: Mapping[str, Any] = {}


class Pictured(NamedTuple):
    """What is needed to show images as they look.

    Attributes:
        pixels_fn: `pixels_fn(images)`, with normalisation or whitening undone.
        real: some real images, normalised.
        labels: of those.
    """

    pixels_fn: Callable[[np.ndarray], np.ndarray]
    real: ImageArray
    labels: np.ndarray


def pictured(dataset: Dataset) -> Pictured:
    """What is needed to show images of a dataset as they look."""
    return Pictured(partial(undo, dataset.transform), dataset.x_train, dataset.y_train)


class Outcome(NamedTuple):
    """What a distillation left.

    Attributes:
        distilled: the set that was chosen: the last, or one of the best.
        troubles: how many steps were `skipped`, and how many were in each kind of trouble.
        means: the mean over the steps of each metric that is a number.
        seconds: of this process, compilation and evaluation left out; a share where several
            distillations went side by side.
        waited: the seconds among them in which the steps waited for what they read.
    """

    distilled: DistilledSet
    troubles: Mapping[str, int]
    means: Mapping[str, float]
    seconds: float = 0.0
    waited: float = 0.0


def read_finished(folder: Path, which: str = "last") -> DistilledSet:
    """A set that a distillation left in its folder.

    Args:
        folder: of the distillation.
        which: `last`, `best-held-out` or `best-test`.

    Raises:
        InputError: the file is damaged.
    """
    path = set_path(folder, which)
    return read_distilled(path, remedy="delete it, and the same command makes it again")


def is_finished(member: Member, which: str) -> bool:
    """Whether its last set, and the one that is asked for, are there."""
    return all(set_path(member.folder, name).exists() for name in ("last", which))


def outcome_of(
    method: Method, member: Member, steps: int, which: str, warn_fn: Callable[[str], None]
) -> Outcome:
    """What a finished distillation left, by its files.

    Raises:
        InputError: its set is damaged.
    """
    rows = read_metrics(
        member.folder / "metrics.jsonl",
        of=origin_digest(member.origin),
        steps=steps,
        warn_fn=warn_fn,
    )
    return Outcome(read_finished(member.folder, which), troubles(method, rows), means_of(rows))


def means_of(rows: list[dict[str, Any]]) -> dict[str, float]:
    """The mean over the steps of each metric that is a number, evaluations left out."""
    numbers: dict[str, list[float]] = {}
    for row in rows:
        for name, value in row.items():
            if isinstance(value, int | float) and not isinstance(value, bool) and name != "step":
                numbers.setdefault(name, []).append(value)
    return {name: float(np.mean(values)) for name, values in numbers.items()}


class Keeper:
    """Writes what a distillation leaves in its folder."""

    def __init__(
        self,
        member: Member,
        method: Method,
        span: tuple[int, int],
        report: Report,
        seen: Pictured,
        *,
        run: Path,
    ) -> None:
        """Go on after the first `done` steps; rows of later ones are cut off.

        Args:
            member: whose folder it is.
            method: of distillation.
            span: the steps whose rows are kept, and how many there will be.
            report: told of what was lost.
            seen: how images look.
            run: the folder of the run, which keeps what its sets share.
        """
        (done, steps), self._run = span, run
        self._member, self._method, self._seen = member, method, seen
        self._of = origin_digest(member.origin)
        self._metrics = member.folder / "metrics.jsonl"
        member.folder.mkdir(parents=True, exist_ok=True)
        rows = self._kept_rows(done, report)
        self._health = Health(method, rows, report.warn)
        self._best = Best(member.folder, rows, report.warn)
        labels = np.asarray(member.start.labels)
        self._frames = Frames(member.folder, labels, steps, of=self._of)
        self._file = self._metrics.open("a")
        self._pixels_fn = seen.pixels_fn
        self._frames.keep_real(seen.real, seen.labels, seen.pixels_fn)

    @property
    def frame_steps(self) -> frozenset[int]:
        """The steps after which a frame is kept."""
        return self._frames.steps

    def begin(self, small: DistilledSet, values: Mapping[str, float]) -> None:
        """Write what stands before the first step: what the rows are of, and the first set.

        Args:
            small: the set to start from.
            values: what its evaluation found, if there was one.
        """
        shows = {metric.name: metric.label for metric in self._method.metrics}
        about = {"of": self._of, "method": self._member.name, "shows": shows}
        append_row(self._file, {"step": 0, **about, **values})
        self._best.record(values, lambda which, value: self.write(small, which, 0, value))
        self.keep_frame(0, small)

    def record(
        self, rows: list[dict[str, Any]], small: DistilledSet, values: Mapping[str, float]
    ) -> None:
        """Write the rows of some steps.

        Args:
            rows: one for each step.
            small: the set after the last of them.
            values: what its evaluation found, if there was one.

        Raises:
            InputError: the distillation is past help.
        """
        for row in rows[:-1]:
            append_row(self._file, row)
        append_row(self._file, {**rows[-1], **values})
        last = rows[-1]["step"]
        self._best.record(values, lambda which, value: self.write(small, which, last, value))
        for row in rows:
            self._health.record(row)

    def keep_frame(self, step: int, small: DistilledSet) -> None:
        """Keep the images as they look, where this step is one to keep."""
        if step in self._frames.steps:
            self._frames.keep(step, np.asarray(small.images), self._pixels_fn)

    def finish(self, small: DistilledSet, steps: int) -> None:
        """Write the last set.

        Raises:
            InputError: no step changed anything.
        """
        self._health.require_progress()
        self.write(small, "last", steps)

    def write(self, small: DistilledSet, which: str, step: int, value: float | None = None) -> None:
        """Write a set to its file.

        Args:
            small: the set.
            which: of the distillation's sets it is.
            step: after which it was.
            value: by which it was chosen.
        """
        images = np.asarray(small.images)
        about = {"which": which, "step": step} | ({} if value is None else {"value": value})
        start = self._member.start
        whole = DistilledSet(
            images=images,
            labels=np.asarray(small.labels),
            alpha=float(small.alpha),
            class_names=start.class_names,
            transform=start.transform,
            pixels=self._pixels_fn(images),
            origin={**self._member.origin, **about},
        )
        write_distilled(set_path(self._member.folder, which), whole, run=self._run)

    def close(self) -> None:
        """Close the file of the metrics."""
        self._file.close()

    def _kept_rows(self, done: int, report: Report) -> list[dict[str, Any]]:
        """The rows of the steps that need not be made again; the file is cut to them."""

        def lost(line: str) -> None:
            report.warn(f"{line}, and the images are not affected")

        path = self._metrics
        rows = read_metrics(path, of=self._of, steps=done, warn_fn=lost) if done else []
        if done and not path.exists():
            lost(f"{path} is missing")
        write_rows(path, rows)
        return rows


def give_up(member: Member, why: str) -> None:
    """Note, for later processes, that a member cannot go on."""
    write_json(_given_up(member), {"why": why})


def was_given_up(member: Member) -> bool:
    """Whether an earlier process gave the member up.

    Raises:
        InputError: the note of it is damaged.
    """
    path = _given_up(member)
    if not path.exists():
        return False
    read_sealed(path, remedy="delete it, and the same command distils this member again")
    return True


def _given_up(member: Member) -> Path:
    return member.folder / "given-up.json"
