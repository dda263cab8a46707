"""Several runs beside one another."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ddpp_jax.configs import digest
from ddpp_jax.report import svg
from ddpp_jax.report.images import last_frame, shown_classes
from ddpp_jax.report.read import Method, Run
from ddpp_jax.report.sheets import sheets
from ddpp_jax.report.words import class_names, flat, is_unfinished, result_rows, title
from ddpp_jax.results import tables


def comparison_values(runs: Sequence[Run]) -> dict[str, Any]:
    """What the page of several runs shows."""
    names = _run_names(runs)
    rows = [
        {**row, "run": name, "settings": _making(run)}
        for name, run in zip(names, runs, strict=True)
        for row in run.result.get("rows", [])
    ]
    row_names = [f"{row['run']}: {tables.row_words(row)}" for row in rows]
    methods = [
        method._replace(name=f"{name}: {method.name}")
        for name, run in zip(names, runs, strict=True)
        for method in run.methods
    ]
    settings = [dict(flat(run.identity["config"])) for run in runs]
    every = list(dict.fromkeys(key for own in settings for key in own))
    lines = [(key, [own.get(key, "-") for own in settings]) for key in every]
    shown = [m for m in methods if m.small is not None and _same_classes(m, runs[0])]
    pictures = [{"name": m.name, "sheets": sheets([last_frame(m)])} for m in shown]
    return {
        "made_of": ", ".join(str(run.folder) for run in runs),
        "title": f"{len(runs)} runs beside one another",
        "subtitle": ", ".join(dict.fromkeys(title(run) for run in runs)),
        "names": names,
        "rows": result_rows(rows, "run", "seed"),
        "columns": ["run", "seed", "trained on"],
        "comparisons": [
            tables.comparison_words(found)
            for found in tables.comparisons([row for row in rows if row.get("seed") is not None])
        ],
        "accuracy_svg": svg.accuracies(rows, row_names) if rows else "",
        "differences": [(key, values) for key, values in lines if len(set(values)) > 1],
        "curves": svg.curves([method for method in methods if method.rows]),
        "methods": pictures,
        "lowered": [found["name"] for found in pictures if found["sheets"].contrast_lowered],
        "unfinished": [name for name, run in zip(names, runs, strict=True) if is_unfinished(run)],
        "class_names": shown_classes(shown[0]) if shown else [],
    }


def _same_classes(method: Method, run: Run) -> bool:
    return method.small is not None and list(method.small.class_names) == class_names(run)


def _run_names(runs: Sequence[Run]) -> list[str]:
    """The folders without what all of their paths begin with."""
    paths = [run.folder.resolve() for run in runs]
    common = Path(os.path.commonpath([path.parent for path in paths]))
    return [str(path.relative_to(common)) for path in paths]


def _making(run: Run) -> str:
    """A digest of all that must be equal for seeds of one method: the settings but for the seed."""
    settings = {name: value for name, value in run.identity["config"].items() if name != "seed"}
    return digest(settings | {"fingerprint": run.identity.get("fingerprint")})
