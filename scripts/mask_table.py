"""The masks of trajectory matching compared: `scripts/tables masks`.

Every mask distils from the same teachers, starts, draws and initial images as every other, paired
by seed. Two questions are set beforehand for each cell: whether the paper's mask helps (less plain
matching, MTT), and whether it matters which parameters it leaves out (less as many at random). They
alone are tested, and the chance that one is answered by luck is kept below 5 % over the whole table
by Holm's correction of paired t-tests. What else the table shows has standard errors and no tests.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import ttest_rel

from ddpp_jax.progress import read_metrics
from ddpp_jax.results.statistics import paired_difference
from ddpp_jax.storage import read_json

PLAIN = "none"
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
SHARE = "0.1"
OF_EACH = {
    "0.1": (PLAIN, *RANKED, "signs", "learned"),
    "0.03": RANKED,
    "0.3": RANKED,
}
ARCHITECTURES = ("vgg11", "resnet18")
CELLS = {
    "cifar10-ipc1": ("CIFAR-10, 1", "cifar10-small-ipc1", ()),
    "cifar10-ipc10": ("CIFAR-10, 10", "cifar10-small-ipc10", ()),
    "cifar100-ipc1": (
        "CIFAR-100, 1",
        "cifar10-small-ipc1",
        ("--dataset", "cifar100", "--per-class", "50", "--student-batch", "20"),
    ),
}
"""The title of a cell, its named setting and what varies it."""


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


ORDER = tuple(dict.fromkeys(case_of(mask, group) for group in GROUPS for mask in group.masks))
"""Every case, as tables show them."""


def run_cell(runner, cell, seed, teacher_seed):
    """The figures of one cell and seed: (mask, pruning) to accuracies, loss and share kept."""
    _, setting, vary = CELLS[cell]
    common = ("--seed", str(seed), "--random-draws", "0", *vary)
    common += () if teacher_seed is None else ("--teacher-seed", str(teacher_seed))
    place, found = f"{cell}-seed{seed}" + ("" if teacher_seed is not None else "-own"), {}
    for group in GROUPS:
        sweep = ("--sweep", f"mask={','.join(group.masks)}")
        run = runner.call(
            f"{place}-{group.name}", "distill", setting, *common, *group.flags, *sweep
        )
        for row in read_json(run / "result.json")["rows"]:
            found[case_of(row["value"], group)] = {
                "convnet": np.asarray(row["accuracies"]),
                "loss": loss_over_all(run / f"mask-{row['value']}" / "metrics.jsonl"),
                "kept": row["means"]["kept_fraction"],
            }
        if group.name == f"threshold-{THRESHOLDS[0]}":
            left = [mask for mask in group.masks if case_of(mask, group) in found]
            folders = [str(run / f"mask-{mask}") for mask in left]
            flags = ("--architectures", ",".join(ARCHITECTURES), "--networks", "3")
            flags += ("--eval-epochs", "100")
            others = runner.call(f"{place}-others", "evaluate", setting, *folders, *flags)
            rows = read_json(others / "result.json")["rows"]
            for mask, folder in zip(left, folders, strict=True):
                own = found[case_of(mask, group)]
                for row in rows:
                    if Path(row["file"]) == Path(folder):
                        own[row["architecture"]] = np.asarray(row["accuracies"])
    return found


def loss_over_all(path):
    """The mean matching loss over the steps, of all parameters: of those kept a mask is ahead.

    Steps that were not finite, or that kept nothing of the way, are left out.
    """
    names = ("loss", "numerator_removed", "denominator_removed")
    rows = [[row.get(name) for name in names] for row in read_metrics(path)]
    losses = [
        loss * (1 - way) / (1 - square)
        for loss, square, way in rows
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


def holm(values):
    """P-values corrected so that the chance of any false finding among them stays below 5 %.

    NaN are no tests, and stay.
    """
    count = np.isfinite(values).sum()
    corrected, highest = np.full(len(values), np.nan), 0.0
    for place, index in enumerate(np.argsort(values)[:count]):
        highest = max(highest, min(1.0, (count - place) * values[index]))
        corrected[index] = highest
    return corrected


def less_plain(results, case, network):
    """The difference of a case to plain matching; None where no seed has both."""
    plain = means_of(results, (PLAIN, ""), network)
    return paired(means_of(results, case, network), plain)[0]


def tests_of(cells):
    """A line for each question of each cell, with p-values corrected over all of them."""
    lines = []
    for cell, results in cells.items():
        for other in QUESTIONS:
            values = (means_of(results, case, "convnet") for case in (PAPERS, other))
            less, seeds, p = paired(*values)
            if less is not None:
                line = {"cell": cell, "less": other[0], "seeds": seeds, "difference": less.mean}
                lines.append(line | {"error": less.error, "p": p})
    corrected = holm([line["p"] for line in lines])
    return [line | {"p_holm": p} for line, p in zip(lines, corrected, strict=True)]


def error_of(means):
    """The standard error of the mean of some seeds; NaN of one."""
    return float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else np.nan


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
                    "kept": float(np.nanmean(means_of(results, case, "kept"))),
                    "loss": float(np.nanmean(means_of(results, case, "loss"))),
                    "mean": float(mean.mean()),
                    "error": error_of(mean),
                    "difference": difference.mean if difference else float("nan"),
                    "difference_error": difference.error if difference else float("nan"),
                }
            )
    return lines
