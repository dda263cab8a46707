"""The files of a search: what was tried, and what was found."""

from pathlib import Path
from typing import Any, TypedDict

from ddpp_jax.storage import read_sealed

TUNING = "tuning.json"
"""What a search found, in its folder; and a copy in that of each run that uses it."""

PILOTS = "pilots.json"
"""What the pilots have shown so far."""

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
    """

    settings: dict[str, Any]
    derived: list[dict[str, Any]]
    rates: list[dict[str, Any]]
    trials: list[Trial]


def read_tuning(path: Path) -> dict[str, Any]:
    """What a search found.

    Raises:
        InputError: the file is damaged.
    """
    return read_sealed(path, remedy=REMEDY, kind=Tuning)
