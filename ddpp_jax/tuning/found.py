"""The files of a search: what was tried, and what was found."""

import time
from pathlib import Path
from typing import Any, NotRequired, TypedDict

from ddpp_jax.storage import read_sealed, write_json

TUNING = "tuning.json"
"""What a search found, in its folder; and a copy in that of each run that uses it."""

PILOTS = "pilots.json"
"""What the pilots have shown so far."""

GIVEN = "as given"
"""Why a setting that was given by hand is what it is."""

REMEDY = "delete it, and the same command makes it again"


class Trial(TypedDict):
    """A short distillation, compared with others.

    Attributes:
        values: of what is searched, by name.
        steps: of the distillation so far.
        loss: mean over the last of these steps.
        accuracy: on the held-out images, from 0 to 1.
    """

    values: dict[str, float]
    steps: int
    loss: float | None
    accuracy: float


class Tuning(TypedDict):
    """What a search found, and how.

    Attributes:
        settings: all settings of the job, as `--settings FILE` takes them.
        derived: what was derived, by name, and why, in words.
        rates: the range test of the teachers: rates and what each gave; empty without teachers.
        trials: every pilot at every comparison.
        seconds: that the search took; earlier versions did not keep them.
    """

    settings: dict[str, Any]
    derived: list[dict[str, Any]]
    rates: list[dict[str, Any]]
    trials: list[Trial]
    seconds: NotRequired[float]


class Spent:
    """The seconds that a search has taken, in this process and in those before it."""

    def __init__(self, folder: Path) -> None:
        """Begin to count, from what is kept in the folder of the search.

        Raises:
            InputError: the file there is damaged.
        """
        self._path = folder / "spent.json"
        kept = read_sealed(self._path, remedy=REMEDY) if self._path.exists() else {}
        self._before = float(kept.get("seconds", 0.0))
        self._began = time.monotonic()

    @property
    def seconds(self) -> float:
        """Up to now."""
        return self._before + time.monotonic() - self._began

    def keep(self) -> None:
        """Write them down, for a process that goes on after this one."""
        write_json(self._path, {"seconds": self.seconds})


def found_names(path: Path) -> set[str]:
    """The settings that a search found, by its file; none where there is no such file.

    Raises:
        InputError: the file is damaged.
    """
    if not path.exists():
        return set()
    found = read_tuning(path)
    searched = [trial["values"] for trial in found["trials"][:1]]
    given = {one["name"] for one in found["derived"] if one["why"] == GIVEN}
    names = {one["name"] for one in found["derived"]}.union(*searched)
    return names - given


def read_tuning(path: Path) -> dict[str, Any]:
    """What a search found.

    Raises:
        InputError: the file is damaged.
    """
    return read_sealed(path, remedy=REMEDY, kind=Tuning)
