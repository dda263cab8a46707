"""The masks of trajectory matching compared: `scripts/tables masks`.

Every mask distils from the same teachers, starts, draws and initial images as every other, paired
by seed. Those that are compared with plain matching (MTT) are many, so the chance that one of them
is ahead by luck is kept below 5 % over the whole table, by Holm's correction of paired t-tests.
"""

import csv
from dataclasses import dataclass
from pathlib import Path

import matplotlib.figure
import numpy as np
from scipy.stats import ttest_rel
from table_files import machine

from ddpp_jax.results.statistics import paired_difference
from ddpp_jax.storage import Replacement, read_json

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
        ("--dataset", "cifar100", "--per-class", "50"),
    ),
}
"""The title of a cell, its named setting and what varies it."""
COLUMNS = [
    "cell",
    "mask",
    "pruning",
    "seeds",
    "kept",
    "loss",
    "mean",
    "error",
    "difference",
    "difference_error",
    "p",
    "p_holm",
]


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
                "loss": row["means"]["loss"],
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


def means_of(results, case, quantity):
    """The means of the seeds, in their order; NaN where a distillation broke down."""
    return np.array([np.mean(found.get(case, {}).get(quantity, np.nan)) for found in results])


def compared(results, cases, network):
    """Each case less plain matching: the difference, and its p-value by a paired t-test.

    It is NaN for one seed, and where all seeds differ alike: those are too few to be told apart.
    """
    found, plain = {}, means_of(results, (PLAIN, ""), network)
    for case in cases:
        own = means_of(results, case, network)
        both = np.isfinite(own) & np.isfinite(plain)
        if not both.any():
            continue
        difference = paired_difference(own[both], plain[both])
        tested = difference.error > 1e-9
        p = float(ttest_rel(own[both], plain[both]).pvalue) if tested else float("nan")
        found[case] = (difference, p)
    return found


def holm(values):
    """P-values corrected so that the chance of any false finding among them stays below 5 %."""
    order, corrected, highest = np.argsort(values), np.empty(len(values)), 0.0
    for place, index in enumerate(order):
        highest = max(highest, min(1.0, (len(values) - place) * values[index]))
        corrected[index] = highest
    return corrected


def error_of(means):
    """The standard error of the mean of some seeds; NaN of one."""
    return float(means.std(ddof=1) / np.sqrt(len(means))) if len(means) > 1 else np.nan


def table_of(cells):
    """A line for each cell and case, with p-values corrected over the whole table."""
    lines = []
    for cell, results in cells.items():
        every = dict.fromkeys(case for found in results for case in found)
        cases = [case for case in every if case != (PLAIN, "")]
        differences = compared(results, cases, "convnet")
        for case in [(PLAIN, ""), *cases]:
            found = means_of(results, case, "convnet")
            mean = found[np.isfinite(found)]
            difference, p = differences.get(case, (None, float("nan")))
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
                    "difference": difference.mean if difference else 0.0,
                    "difference_error": difference.error if difference else 0.0,
                    "p": p,
                    "p_holm": float("nan"),
                }
            )
    tested = [line for line in lines if np.isfinite(line["p"])]
    for line, corrected in zip(tested, holm([line["p"] for line in tested]), strict=True):
        line["p_holm"] = float(corrected)
    return lines


def markdown(cells, lines, command):
    """The table of every cell, and what other architectures find."""
    said = []
    for cell, results in cells.items():
        own = [line for line in lines if line["cell"] == cell]
        said += [f"**{CELLS[cell][0]}** ({own[0]['seeds']} seeds)", ""]
        said += ["| mask | prunes by | kept, % | loss | accuracy, % | less none | p, Holm |"]
        said += ["|---|---|---|---|---|---|---|"]
        for line in own:
            less = with_error(line["difference"], line["difference_error"], "+.2f")
            p = "" if np.isnan(line["p_holm"]) else f"{line['p_holm']:.2g}"
            said.append(
                f"| {line['mask']} | {line['pruning']} | {100 * line['kept']:.1f} | "
                f"{line['loss']:.4f} | {with_error(line['mean'], line['error'], '.2f')} | "
                f"{less if line['mask'] != PLAIN else ''} | {p} |"
            )
        said += ["", *other_networks(results), ""]
    return "\n".join(
        [
            *said,
            "± is the standard error over seeds, of differences that of the paired differences; p "
            "by paired t-tests against none, corrected over the whole table (Holm).",
            "",
            f"`{command}`; {machine()}",
        ]
    )


def with_error(mean, error, form):
    """A mean in percent and its standard error, where there is one."""
    said = format(100 * mean, form)
    return said if np.isnan(error) else f"{said} ± {100 * error:.2f}"


def other_networks(results):
    """What networks of other architectures reach on the sets, by mask."""
    names = [name for name in ARCHITECTURES if name in results[0][PLAIN, ""]]
    cases = [case for case in results[0] if set(names) <= results[0][case].keys()]
    if not names:
        return []
    found = {name: compared(results, cases, name) for name in names}
    lines = ["| mask | " + " | ".join(f"{name}, % | less none" for name in names) + " |"]
    lines += ["|---|" + "---|---|" * len(names)]
    for case in cases:
        parts = []
        for name in names:
            mean, less = 100 * np.nanmean(means_of(results, case, name)), found[name][case][0]
            words = with_error(less.mean, less.error, "+.2f")
            parts += [f"{mean:.1f}", "" if case[0] == PLAIN else words]
        lines.append(f"| {case[0]} | " + " | ".join(parts) + " |")
    return lines


def write_csv(path, lines):
    """A line for each cell and case; shares, not percent."""
    with Replacement(path) as temporary, temporary.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(lines)


def draw(path, lines):
    """The difference to plain matching of every case, with twice its standard error."""
    cells = list(dict.fromkeys(line["cell"] for line in lines))
    shown = [line for line in lines if line["cell"] == cells[0] and line["mask"] != PLAIN]
    figure = matplotlib.figure.Figure(
        figsize=(3.2 * len(cells) + 2.6, 0.26 * len(shown) + 1.4), layout="constrained"
    )
    axes = figure.subplots(1, len(cells), sharey=True, squeeze=False)[0]
    for ax, cell in zip(axes, cells, strict=True):
        own = [line for line in lines if line["cell"] == cell and line["mask"] != PLAIN]
        places = np.arange(len(own))[::-1]
        ax.axvline(0, color="0.6", linewidth=0.8)
        ax.errorbar(
            [100 * line["difference"] for line in own],
            places,
            xerr=[200 * line["difference_error"] for line in own],
            fmt="o",
            markersize=4,
        )
        ax.set_yticks(places, [f"{line['mask']} {line['pruning']}".strip() for line in own])
        ax.tick_params(labelsize=7)
        ax.set_title(CELLS[cell][0], fontsize=9)
        ax.set_xlabel("points of accuracy less no mask", fontsize=8)
        ax.grid(axis="x", alpha=0.3)
    with Replacement(path) as temporary:
        figure.savefig(temporary, dpi=150)


def make(folder, results, command, *, own_teachers):
    """Leave the table's files, from what `run_cell` gave for each seed of a cell; its Markdown."""
    name = "masks-own-teachers" if own_teachers else "masks"
    lines = table_of(results)
    text = markdown(results, lines, command)
    with Replacement(folder / f"{name}.md") as temporary:
        temporary.write_text(text + "\n")
    write_csv(folder / f"{name}.csv", lines)
    draw(folder / f"{name}.png", lines)
    return f"\n{text}\n\nIn {folder}: {name}.md, {name}.csv, {name}.png"
