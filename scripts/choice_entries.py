"""What `scripts/choices` tries: methods, parts of trajectory matching, and where.

Every entry has one setting that is chosen, with as many values as all others.
"""

from collections.abc import Callable
from dataclasses import dataclass

from chosen import CELLS, FOR_ALL, HALVED
from table_files import RANDOM

from ddpp_jax.configs import TEACHERS_LABELS, setting

FACTORS = (1 / 9, 1 / 3, 1, 3, 9)
BASE = "MTT"


@dataclass(frozen=True)
class Entry:
    """What is tried.

    Attributes:
        title: in tables.
        method: of distillation.
        flags: what is fixed.
        knob: the setting that is chosen.
        values: that are tried, or how they follow from a named setting's values; by default the
            setting's own times `FACTORS`.
        beside: rows of the same run that are shown too, such as random images with learned labels.
        cells: where it is tried.
        joined: whether it is made of several; its rows beside are then named after it.
    """

    title: str
    method: str = "mtt"
    flags: tuple = ()
    knob: str = "pixel-rate"
    values: tuple | Callable | None = None
    beside: tuple = ()
    cells: tuple = FOR_ALL
    joined: bool = False

    @property
    def hard(self):
        """Whether its sets have a class for each image."""
        return "--learn-labels" not in self.flags

    def is_in(self, other):
        """Whether another entry has all that this one has."""
        return self.knob == other.knob and set(self.flags) <= set(other.flags)

    def tries(self, named):
        """The values that are tried in a cell."""
        if isinstance(self.values, tuple):
            return self.values
        job = setting(named, self.method)
        if self.values is not None:
            return self.values(job)
        own = getattr(job.distillation, self.knob.replace("-", "_"))
        return tuple(float(f"{own * factor:.2g}") for factor in FACTORS)


def later_starts(job):
    """Five bounds of the start epochs, up to the last that the teachers have a target for."""
    most = job.teaching.epochs - job.distillation.target_epochs + 1
    return tuple(round(most * share / 7) for share in (3, 4, 5, 6, 7))


MATCHING = (Entry(BASE, cells=tuple(CELLS)), Entry("DDPP", "ddpp", cells=tuple(CELLS)))
METHODS = (
    *MATCHING,
    Entry("DC", "dc"),
    Entry("DSA", "dsa"),
    Entry("DM", "dm"),
    Entry("CAFE", "cafe"),
    Entry("KIP", "kip", cells=("digits", HALVED)),
    Entry("RaT-BPTT", "bptt"),
)
PARTS = (
    *MATCHING,
    Entry(
        "flat teachers",
        flags=("--teacher-optimizer", "gsam"),
        knob="sam-rho",
        values=(0.003, 0.01, 0.03, 0.1, 0.3),
    ),
    Entry("later start epochs", knob="max-start-epoch", values=later_starts),
    Entry(
        "growing start epochs",
        flags=("--early-start-epoch", "2", "--growth-steps", "100"),
        knob="max-start-epoch",
        values=later_starts,
    ),
    Entry("start images", flags=("--start-images", "correct")),
    Entry("nearest step", flags=("--match", "nearest")),
    Entry("averaged images", knob="image-average", values=(0.5, 0.8, 0.9, 0.95, 0.98)),
    Entry("skipped steps", knob="skip-above", values=(0.6, 0.7, 0.8, 0.9, 1.0)),
    Entry(
        "Adam",
        flags=("--optimizer", "adam", "--momentum", "0.9", "--alpha-rate", "0.03"),
        values=(0.01, 0.03, 0.1, 0.3, 1.0),
    ),
    Entry(
        "learned labels",
        flags=("--learn-labels",),
        knob="label-rate",
        beside=(RANDOM, f"{RANDOM}, {TEACHERS_LABELS}"),
    ),
    Entry("RaT-BPTT", "bptt"),
)
ENTRIES = {"methods": METHODS, "parts": PARTS}


def best(tries):
    return max(tries, key=tries.get)


def merged(flags):
    """Flags of which the last of each name stands, in the order in which the names come."""
    found, name = {}, ""
    for word in map(str, flags):
        if word.startswith("--"):
            name, found[word] = word, ()
        else:
            found[name] = (word,)
    return tuple(word for name, value in found.items() for word in (name, *value))


def combined(entries, tries, gained):
    """What gains on held-out images, together, as (entry, value).

    The parts that leave labels hard and gain with both seeds, with those that do not where these
    gain, by MTT and with pruning. Where several choose the same setting, the last one's stands, and
    a part that another one holds whole is left out.

    Args:
        entries: MTT and what is tried beside it.
        tries: the accuracies of each one's values.
        gained: those of what was chosen, with the second seed, as `again` gives.
    """
    plain = max(tries[BASE].values())
    parts = [
        entry
        for entry in entries[1:]
        if max(tries[entry.title].values()) > plain
        and gained.get(entry.title, 0) > gained[BASE] > 0
    ]
    parts = [part for n, part in enumerate(parts) if not any(map(part.is_in, parts[n + 1 :]))]
    hard = [part for part in parts if part.hard]
    found = [_joined(hard, tries, "mtt")] if len(hard) > 1 else []
    found += [_joined(hard, tries, "ddpp")] if hard else []
    if len(parts) > len(hard):
        found += [_joined(parts, tries, "mtt")] if hard else []
        found += [_joined(parts, tries, "ddpp")]
    return found


def _joined(parts, tries, method):
    rates = tries[BASE] if method == "mtt" else tries.get("DDPP", tries[BASE])
    flags = ("--pixel-rate", best(rates))
    for part in parts:
        flags += (*part.flags, f"--{part.knob}", best(tries[part.title]))
    words = " + ".join(part.title for part in parts)
    words += " + pruning" if method == "ddpp" else ""
    # The control of a set with learned labels stands beside it, and that with pruning has the same.
    own = tuple(title for part in parts for title in part.beside if title != RANDOM)
    beside, last = own if method == "mtt" else (), parts[-1]
    entry = Entry(words, method, merged(flags), last.knob, beside=beside, joined=True)
    return entry, best(tries[last.title])
