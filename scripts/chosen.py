"""Settings that were chosen on held-out training images, for the tables of the small scale.

`scripts/choices methods` leaves a chosen.csv in its folder; the one beside this file is what
`scripts/tables` takes. Where it has no row for a method, that method's named setting stands.
"""

import csv
from pathlib import Path
from typing import NamedTuple

from ddpp_jax.storage import Replacement

FILE = Path(__file__).parent / "chosen.csv"
HALF = ("--image-size", "16", "--depth", "2")
"""Images on which two cores can afford KIP's kernel."""
HALVED = "cifar10-16-ipc1"
"""The cell of CIFAR-10 that has KIP, beside MTT and DDPP: two cores can afford its kernel."""
HUNDRED = "cifar100-ipc1"
"""The cell of CIFAR-100, by the part of it that has 50 images of each class."""
CELLS = {
    "digits": ("digits", ()),
    "cifar10-ipc1": ("cifar10-small-ipc1", ()),
    "cifar10-ipc10": ("cifar10-small-ipc10", ()),
    HALVED: ("cifar10-small-ipc1", HALF),
    HUNDRED: (
        "cifar10-small-ipc1",
        ("--dataset", "cifar100", "--per-class", "50", "--student-batch", "20"),
    ),
}
"""The named setting of a cell and what varies it."""
FOR_ALL = tuple(cell for cell in CELLS if cell not in (HALVED, HUNDRED))
"""Cells of every method; the others have MTT and DDPP, and `HALVED` has KIP."""


class Choice(NamedTuple):
    """What was chosen for a method in a cell, of so many values, and its held-out accuracy in %."""

    cell: str
    method: str
    knob: str
    value: str
    tries: str
    held_out: str


def read_chosen(path=FILE):
    """The choices by (cell, method); none where there is no file."""
    if not path.exists():
        return {}
    with path.open(newline="") as file:
        rows = [Choice(**row) for row in csv.DictReader(file)]
    return {(row.cell, row.method): row for row in rows}


def write_chosen(path, choices):
    """Write the choices; the last of a cell and method stands."""
    last = {(one.cell, one.method): one for one in choices}
    with Replacement(path) as temporary, temporary.open("w", newline="") as file:
        rows = csv.writer(file, lineterminator="\n")
        rows.writerows([Choice._fields, *last.values()])


def choice_of(chosen, named, vary, method):
    """What was chosen for a method with a named setting and what varies it; None if nothing was."""
    cells = [cell for cell, of in CELLS.items() if of == (named, tuple(vary))]
    return chosen.get((cells[0], method)) if cells else None
