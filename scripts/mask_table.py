"""The masks of trajectory matching compared: `scripts/tables masks`.

Every mask distils from the same teachers, starts, draws and initial images as every other, paired
by seed. Two questions are set beforehand for each cell: whether the paper's mask helps (less plain
matching, MTT), and whether it matters which parameters it leaves out (less as many at random). They
alone are tested, and the chance that one is answered by luck is kept below 5 % over the whole table
by Holm's correction of paired t-tests. What else the table shows has standard errors and no tests.
"""

from dataclasses import dataclass
from pathlib import Path

import chosen
import numpy as np
from scipy.stats import ttest_rel
from table_files import RANDOM

from ddpp_jax.progress import read_metrics
from ddpp_jax.results.statistics import paired_difference
from ddpp_jax.storage import read_json

PLAIN, REAL = "none", RANDOM
RANKED = (
    "ratio",
    "ratio-magnitude",
    "difference-largest",
    "difference-smallest",
    "depth",
    "random",
)
THRESHOLDS = ("0.1", "0.03", "0.3")
PAPERS = ("ratio", "threshold 0.1")
QUESTIONS = ((PLAIN, ""), ("random", "threshold 0.1"))
"""What the paper's mask is tested against."""
SHARE = "0.25"
"""Of all parameters: more than the ratio at a threshold prunes, which is a tenth or so."""
OF_EACH = {
    "0.1": (PLAIN, *RANKED, "signs", "learned"),
    "0.03": RANKED,
    "0.3": RANKED,
}
ARCHITECTURES = {"vgg11": ("--rate", "0.01"), "resnet18": ()}
"""What else evaluates, and how; at the learned alpha some VGG11s stay at chance."""
TITLES = {
    "cifar10-ipc1": "CIFAR-10, 1",
    "cifar10-ipc10": "CIFAR-10, 10",
    "cifar100-ipc1": "CIFAR-100, 1",
}
CELLS = {cell: (title, *chosen.CELLS[cell]) for cell, title in TITLES.items()}
"""The title of a cell, its named setting and what varies it."""
OF_DATA = ("--dataset", "--per-class")
LAST = 4
"""The loss is that of the last one of so many parts of the steps."""


@dataclass(frozen=True)
class Group:
    """The masks that one sweep distils by.

    Attributes:
        name: of the group, for folders.
        masks: by name.
        flags: how many parameters they prune.
        words: the same, for a person.
    """

    name: str
    masks: tuple
    flags: tuple
    words: str


def group_of(threshold):
    words = f"threshold {threshold}"
    return Group(f"threshold-{threshold}", OF_EACH[threshold], ("--threshold", threshold), words)


GROUPS = (
    *map(group_of, THRESHOLDS),
    Group(f"share-{SHARE}", RANKED, ("--prune-share", SHARE), f"share {SHARE}"),
)


def case_of(mask, group):
    """The mask and how many it prunes, where that is not its own affair."""
    return mask, group.words if mask in RANKED else ""


ORDER = (
    (REAL, ""),
    *dict.fromkeys(case_of(mask, group) for group in GROUPS for mask in group.masks),
)
"""Every case, as tables show them."""


def rate_of(cell):
    """The pixel rate that was chosen for MTT on held-out images; None if none was."""
    choice = chosen.choice_of(chosen.read_chosen(), *chosen.CELLS[cell], "mtt")
    return None if choice is None else choice.value


def run_cell(runner, cell, seed, teacher_seed, groups=GROUPS):
    """The figures of one cell and seed: (mask, pruning) to accuracies, loss and share kept.

    With teachers of its own, where no `teacher_seed` is given, networks of the distilled
    architecture alone evaluate.
    """
    _, setting, vary = CELLS[cell]
    common, found = ("--seed", str(seed), "--random-draws", "0", *vary), {}
    common += () if teacher_seed is None else ("--teacher-seed", str(teacher_seed))
    common += () if (rate := rate_of(cell)) is None else ("--pixel-rate", rate)
    place = f"{cell}-seed{seed}" + ("" if teacher_seed is not None else "-own")
    for group in groups:
        sweep = (*group.flags, "--sweep", f"mask={','.join(group.masks)}")
        run = runner.attempt(f"{place}-{group.name}", setting, *common, *sweep)
        if run is None:
            continue
        left = {}
        for row in read_json(run / "result.json")["rows"]:
            case, folder = case_of(row["value"], group), run / f"mask-{row['value']}"
            left[folder.name] = case
            found[case] = figures_of(row) | {
                "loss": loss_over_all(folder / "metrics.jsonl"),
                "kept": row["means"]["kept_fraction"],
            }
        if group is GROUPS[0] and left and teacher_seed is not None:
            add_others(runner, place, setting, run, left, found)
    if teacher_seed is not None:
        found[REAL, ""] = real_images(runner, place, setting, seed, vary)
    return found


def figures_of(row, network="convnet"):
    """The accuracies of the networks of a row, and how many of them diverged."""
    lost = row.get("diverged", 0)
    return {network: np.asarray(row["accuracies"]), f"{network} diverged": lost}


def add_others(runner, place, setting, run, left, found):
    """Add what networks of other architectures reach on the sets of a sweep."""
    folders = [str(run / name) for name in left]
    for network, how in ARCHITECTURES.items():
        flags = ("--architectures", network, "--networks", "3", "--eval-epochs", "100", *how)
        others = runner.call(f"{place}-{network}", "evaluate", setting, *folders, *flags)
        for row in read_json(others / "result.json")["rows"]:
            found[left[Path(row["file"]).name]] |= figures_of(row, network)


def real_images(runner, place, setting, seed, vary):
    """What as many real images reach, which a mask is to be far ahead of to tell anything."""
    pairs = zip(vary[::2], vary[1::2], strict=True)
    data = [word for name, value in pairs if name in OF_DATA for word in (name, value)]
    flags = ("--method", "random", "--seed", str(seed), *data)
    folder = runner.call(f"{place}-real", "select", setting, *flags)
    evaluated = runner.call(f"{place}-real-evaluated", "evaluate", setting, str(folder))
    (row,) = read_json(evaluated / "result.json")["rows"]
    return figures_of(row) | {"loss": float("nan"), "kept": float("nan")}


def loss_over_all(path):
    """The mean matching loss of the last steps, of all parameters: of those kept a mask is ahead.

    Steps that were not finite, or that kept nothing of the way, are left out.
    """
    names = ("loss", "numerator_removed", "denominator_removed")
    rows = [[row.get(name) for name in names] for row in read_metrics(path)]
    losses = [
        loss * (1 - way) / (1 - square)
        for loss, square, way in rows[-max(1, len(rows) // LAST) :]
        if None not in (loss, square, way) and square < 1 and way < 1
    ]
    return float(np.mean(losses)) if losses else float("nan")


def means_of(results, case, quantity):
    """The means of the seeds, in their order; NaN where a distillation broke down."""
    return np.array([np.mean(found.get(case, {}).get(quantity, np.nan)) for found in results])


def paired(own, others):
    """The difference over the seeds that have both, how many these are, and its p-value.

    None, 0 and NaN where there are none. The p-value, by a paired t-test, is NaN of one seed and
    where all differ alike: too few to be told apart.
    """
    both = np.isfinite(own) & np.isfinite(others)
    if not both.any():
        return None, 0, np.nan
    less = paired_difference(own[both], others[both])
    p = float(ttest_rel(own[both], others[both]).pvalue) if less.error > 1e-9 else np.nan
    return less, int(both.sum()), p


def holm(values, tests=0):
    """P-values corrected so that the chance of any false finding among them stays below 5 %.

    NaN are no tests, and stay. Where more `tests` were set beforehand than have a value, these
    count too.
    """
    known = np.isfinite(values).sum()
    count = max(tests, known)
    corrected, highest = np.full(len(values), np.nan), 0.0
    for place, index in enumerate(np.argsort(values)[:known]):
        highest = max(highest, min(1.0, (count - place) * values[index]))
        corrected[index] = highest
    return corrected


def less_plain(results, case, network):
    """The difference of a case to plain matching; None where no seed has both."""
    plain = means_of(results, (PLAIN, ""), network)
    return paired(means_of(results, case, network), plain)[0]


def tests_of(cells, *, own_teachers):
    """A line for each question of each cell, with p-values corrected over all questions there are.

    With teachers of their own the same questions would be tested a second time, and are not.
    """
    lines = []
    for cell, results in cells.items():
        for other in QUESTIONS:
            values = (means_of(results, case, "convnet") for case in (PAPERS, other))
            less, seeds, p = paired(*values)
            if less is not None:
                line = {"cell": cell, "less": other[0], "seeds": seeds, "difference": less.mean}
                line |= {"error": less.error, "low": less.low, "high": less.high}
                lines.append(line | {"p": np.nan if own_teachers else p})
    corrected = holm([line["p"] for line in lines], tests=len(CELLS) * len(QUESTIONS))
    return [line | {"p_holm": p} for line, p in zip(lines, corrected, strict=True)]


def error_of(means):
    """The standard error of the mean of some seeds; NaN of one."""
    return float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else np.nan


def mean_of(values):
    """The mean of those that are known; NaN where none is."""
    known = values[np.isfinite(values)]
    return float(known.mean()) if len(known) else float("nan")


def table_of(cells):
    """A line for each cell and case."""
    lines = []
    for cell, results in cells.items():
        cases = [case for case in ORDER if any(case in found for found in results)]
        for case in cases:
            found = means_of(results, case, "convnet")
            mean = found[np.isfinite(found)]
            difference = less_plain(results, case, "convnet")
            lines.append(
                {
                    "cell": cell,
                    "mask": case[0],
                    "pruning": case[1],
                    "seeds": len(mean),
                    "diverged": int(np.nansum(means_of(results, case, "convnet diverged"))),
                    "kept": mean_of(means_of(results, case, "kept")),
                    "loss": mean_of(means_of(results, case, "loss")),
                    "mean": float(mean.mean()),
                    "error": error_of(mean),
                    "difference": difference.mean if difference else float("nan"),
                    "difference_error": difference.error if difference else float("nan"),
                    "difference_low": difference.low if difference else float("nan"),
                    "difference_high": difference.high if difference else float("nan"),
                }
            )
    return lines
