"""Accuracies as rows of a result file, and tables on the screen."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from rich.table import Table

from ddpp_jax.configs import DistillJob
from ddpp_jax.evaluate import Evaluation
from ddpp_jax.results.statistics import paired_difference, spread

_WHICH = {
    "last": "last",
    "best-held-out": "best on held-out images",
    "best-test": "best on the test set (optimistic)",
}


def row(
    method: str, images: int, accuracies: Sequence[Float[np.ndarray, " networks"]]
) -> dict[str, Any]:
    """A row of `result.json`: mean and population standard deviation over all networks.

    Args:
        method: what the networks were trained on.
        images: how many images that is.
        accuracies: from 0 to 1, one array for each set of images that was evaluated.
    """
    every = np.concatenate(list(accuracies)).astype(np.float64)
    return {
        "method": method,
        "images": images,
        "sets": len(accuracies),
        "networks": every.size,
        "mean": float(every.mean()),
        "std": float(every.std()),
        "set_means": [float(found.mean(dtype=np.float64)) for found in accuracies],
        "accuracies": every.tolist(),
    }


def evaluated_row(
    method: str, images: int, evaluations: Sequence[Evaluation], **about: Any
) -> dict[str, Any]:
    """A row with all that the networks made of the test set.

    Args:
        method: what the networks were trained on.
        images: how many images that is.
        evaluations: one for each set of images that was evaluated.
        about: more that the row says, such as the `seed` or the `architecture`.
    """
    confusion = np.sum([evaluation.confusion for evaluation in evaluations], axis=0)
    every = Evaluation(np.concatenate([v.accuracies for v in evaluations]), confusion)
    return {
        **about,
        **row(method, images, [evaluation.accuracies for evaluation in evaluations]),
        "diverged": sum(evaluation.diverged for evaluation in evaluations),
        "per_class": [None if np.isnan(x) else float(x) for x in every.per_class],
        "confusion": confusion.tolist(),
    }


def over_seeds(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The spread of each method over its seeds, where it has more than one.

    Args:
        rows: of result files; those without a seed are left out.
    """
    return [
        {**case._asdict(), **spread([np.asarray(a) for a in by_seed.values()])._asdict()}
        for case, by_seed in _cases(rows).items()
        if len(by_seed) > 1
    ]


def comparisons(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Each method less each one before it, paired by seed, all else being equal.

    Args:
        rows: of result files; those without a seed are left out.
    """
    found: list[dict[str, Any]] = []
    cases = list(_cases(rows).items())
    for place, (case, by_seed) in enumerate(cases):
        for other, others in cases[:place]:
            common = sorted(by_seed.keys() & others.keys())
            if not _comparable(case, other) or len(common) < 2:
                continue
            figures, theirs = (np.array([np.mean(c[s]) for s in common]) for c in (by_seed, others))
            difference = paired_difference(figures, theirs)
            more = {"less": other.method, "stands": difference.stands}
            more["which"] = case.which or other.which
            found.append(case._asdict() | difference._asdict() | more)
    return found


def comparison_words(comparison: Mapping[str, Any]) -> str:
    """A comparison as a sentence."""
    mean, error = 100 * comparison["mean"], 100 * comparison["error"]
    stands = "stands" if comparison["stands"] else "does not stand"
    low, high = 100 * comparison["low"], 100 * comparison["high"]
    said = [str(comparison["architecture"])] if comparison["architecture"] else []
    said += [f"IPC {comparison['ipc']}"] if comparison["ipc"] else []
    said += [_WHICH[comparison["which"]]] if comparison["which"] else []
    said += [comparison["quantity"]] if "quantity" in comparison else []
    over = comparison.get("paired_over", "seeds")
    where = f" ({', '.join(said)})" if said else ""
    return (
        f"{comparison['method']} less {comparison['less']}{where}: {mean:+.1f} ± {error:.1f} "
        f"points (standard error, {comparison['seeds']} {over}; 95 % interval {low:+.1f} to "
        f"{high:+.1f}): the difference {stands}"
    )


def figure_words(figure: Mapping[str, Any]) -> str:
    """A figure in per cent with its deviation over orders, or over networks for a single order.

    Args:
        figure: `mean`, `over_orders` (None for a single order) and `over_networks`, from 0 to 1.
    """
    deviation = figure["over_networks"] if figure["over_orders"] is None else figure["over_orders"]
    return f"{100 * figure['mean']:.1f} ± {100 * deviation:.1f}"


def title(result: Mapping[str, Any]) -> str:
    """What the rows of a result file have in common, as a line."""
    rows = result["rows"]
    said = [result["dataset"]]
    said += [f"seed {result['seed']}"] if result["seed"] is not None else []
    said += [f"{result['ipc']} per class"] if "ipc" in result else []
    common = {
        "distilled sets": {words for row in rows if (words := which_words(row))},
        "networks": {row["architecture"] for row in rows if "architecture" in row},
    }
    said += [f"{name}: {values.pop()}" for name, values in common.items() if len(values) == 1]
    return ", ".join(said)


def table(result: Mapping[str, Any]) -> Table:
    """The rows of a result file for a person; what the deviation is over stands in each row.

    What all rows have in common is left to the `title`.
    """
    rows = result["rows"]
    several = len({row["architecture"] for row in rows if "architecture" in row}) > 1
    which = len({words for row in rows if (words := which_words(row))}) > 1
    shown = Table()
    named = ["file"] if any("file" in row for row in rows) else []
    named += ["architecture"] if several else []
    named += ["seed"] if len({row.get("seed") for row in rows} - {None}) > 1 else []
    shown.add_column("trained on", min_width=12)
    for column in named:
        heading = {"architecture": "network"}.get(column, column)
        shown.add_column(heading, overflow="fold", min_width=len(heading))
    if which:
        shown.add_column("which set", min_width=10)
    shown.add_column("images", justify="right")
    shown.add_column("test accuracy, %", justify="right")
    shown.add_column("± over")
    for values in rows:
        over = f"{values['networks']} network" + ("s" if values["networks"] > 1 else "")
        over += f", {values['diverged']} diverged" if values.get("diverged") else ""
        if values["sets"] > 1:
            over += f" on {values['sets']} sets"
        accuracy = f"{100 * values['mean']:.1f} ± {100 * values['std']:.1f}"
        shown.add_row(
            values["method"],
            *(str(values.get(column, "")) for column in named),
            *([which_words(values)] if which else []),
            f"{values['images']:,}",
            accuracy,
            over,
        )
    return shown


def per_class_table(result: Mapping[str, Any]) -> Table:
    """The accuracy on each class, a column for each row of a result file."""
    shown = Table(title="Accuracy by class, % (all networks of a row)", title_justify="left")
    shown.add_column("class", overflow="fold")
    rows = result["rows"]
    for values in rows:
        name = values["method"]
        if len({row["method"] for row in rows}) < len(rows):
            name = "\n".join(str(values[n]) for n in ("file", "architecture"))
        shown.add_column(name, justify="right", overflow="fold")
    for label, name in enumerate(result["class_names"]):
        found = (values["per_class"][label] for values in rows)
        shown.add_row(name, *("-" if x is None else f"{100 * x:.1f}" for x in found))
    return shown


def row_words(values: Mapping[str, Any]) -> str:
    """What a row is about: the method, the network and which set."""
    parts = [values["method"], values.get("architecture"), which_words(values)]
    return ", ".join(part for part in parts if part)


def which_words(values: Mapping[str, Any]) -> str:
    """Which of a distillation's sets a row is about; empty where there is no choice."""
    which = values.get("which")
    return "" if which is None else f"{_WHICH[which]} (step {values['step']:,})"


def seeds_table(spreads: Sequence[Mapping[str, Any]]) -> Table:
    """What `over_seeds` found, for a person."""
    shown = Table(title="Over seeds", title_justify="left")
    shown.add_column("trained on", overflow="fold")
    for column in ("network", "which set"):
        shown.add_column(column, overflow="fold")
    for column in ("IPC", "seeds", "mean, %", "± seeds", "± networks", "standard error"):
        shown.add_column(column, justify="right")
    for values in spreads:
        figures = (values[n] for n in ("mean", "over_seeds", "over_networks", "error"))
        shown.add_row(
            values["method"],
            str(values["architecture"] or ""),
            _WHICH.get(values["which"], ""),
            str(values["ipc"] or ""),
            str(values["seeds"]),
            *(f"{100 * figure:.1f}" for figure in figures),
        )
    shown.caption = "± seeds: sample deviation of the seeds' means; ± networks: mean deviation"
    return shown


class _Case(NamedTuple):
    """What the figures of several seeds have in common."""

    method: str | None
    which: str | None
    architecture: str | None
    ipc: int | None
    settings: str | None


def _cases(rows: Sequence[Mapping[str, Any]]) -> dict[_Case, dict[int, list[float]]]:
    """The figures of each case, by seed."""
    cases: dict[_Case, dict[int, list[float]]] = {}
    for values in rows:
        if values.get("seed") is not None:
            case = _Case(*(values.get(name) for name in _Case._fields))
            cases.setdefault(case, {})[values["seed"]] = values["accuracies"]
    plain = Counter(case._replace(settings=None) for case in cases)
    return {
        # A method that was run with several settings is several methods.
        case._replace(method=f"{case.method} [{case.settings}]")
        if plain[case._replace(settings=None)] > 1
        else case: found
        for case, found in cases.items()
    }


def _comparable(case: _Case, other: _Case) -> bool:
    # Of real images there is one set, and may be compared with any; every method's settings differ.
    same = None in (case.which, other.which) or case.which == other.which
    alike = (case.architecture, case.ipc) == (other.architecture, other.ipc)
    return same and alike and case.method != other.method


def settings_table(settings: Mapping[str, DistillJob]) -> Table:
    """Named settings, a row each."""
    shown = Table(title="Named settings; flags vary them, --print-settings shows one in full")
    left = ("setting", "data", "ConvNet", "teachers", "method")
    right = ("IPC", "J", "K", "I+", "steps", "pixel rate", "alpha", "its rate")
    for column in left + right:
        shown.add_column(column, justify="left" if column in left else "right", no_wrap=True)
    names = "ipc student_steps target_epochs max_start_epoch steps pixel_rate alpha alpha_rate"
    for name, job in settings.items():
        data = job.data
        numbers = [getattr(job.distillation, number, None) for number in names.split()]
        needed = job.distillation.last_epoch is not None
        shown.add_row(
            name,
            data.dataset + (", ZCA" if data.zca else "") + (", contrast" if data.contrast else ""),
            f"{job.model.width}x{job.model.depth}",
            f"{job.teaching.teachers} x {job.teaching.epochs}" if needed else "-",
            job.method,
            *("-" if number is None else f"{number:g}" for number in numbers),
        )
    shown.caption = "ConvNet: width x depth; teachers: networks x epochs"
    return shown
