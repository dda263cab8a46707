"""What a run and its rows are called."""

from collections.abc import Mapping, Sequence
from typing import Any, cast

from ddpp_jax.report.read import Run
from ddpp_jax.results import tables


def title(run: Run) -> str:
    """What a run is, in a line."""
    config, result = run.identity["config"], run.result
    said = [result.get("dataset") or config["data"]["dataset"]]
    in_steps = run.identity.get("continual", {})
    ipc = config.get("distillation", config.get("selection", in_steps)).get("ipc")
    said += [f"{ipc} image{'s' if ipc != 1 else ''} per class"] if ipc else []
    kind = "an evaluation"
    if in_steps:
        kind = f"classes in {in_steps['class_steps']} steps"
    if "features" in config:
        return f"{said[0]}: an audit for copies"
    if "attack" in config:
        return f"{', '.join(said)}: an audit of {config['method']} by membership inference"
    if "selection" in config:
        kind = "real images, chosen"
    elif "search" in config:
        kind = "a search among architectures"
    elif "distillation" in config:
        kind = f"a sweep of {result['sweep']}" if "sweep" in result else "distilled"
    return f"{', '.join(said)}: {kind}"


def row_names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """What each row of a result is about, with what tells equal ones apart."""
    names = [tables.row_words(row) for row in rows]
    for key in ("seed", "file"):
        if len(set(names)) < len(names):
            names = [f"{n}, {key} {row.get(key)}" for n, row in zip(names, rows, strict=True)]
    return names


def result_rows(rows: Sequence[Mapping[str, Any]], *columns: str) -> list[dict[str, Any]]:
    """Rows of a result as the table shows them, more columns first."""
    names = row_names(rows) if not columns else [tables.row_words(row) for row in rows]
    return [
        {
            "cells": [*(_shown(row.get(column)) for column in columns), name],
            "images": row["images"],
            "mean": row["mean"],
            "std": row["std"],
            "over": f"{row['networks']} network"
            + ("s" if row["networks"] > 1 else "")
            + (f" on {row['sets']} sets" if row["sets"] > 1 else ""),
        }
        for name, row in zip(names, rows, strict=True)
    ]


def class_names(run: Run) -> list[str]:
    """Of its data, where a file tells."""
    if "class_names" in run.result:
        return list(run.result["class_names"])
    small = next((m.small for m in run.methods if m.small is not None), None)
    return [] if small is None else list(small.class_names)


def flat(values: Mapping[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    """Settings as names with dots and values as text."""
    found = []
    for name, value in values.items():
        if isinstance(value, Mapping):
            found += flat(cast(Mapping[str, Any], value), f"{prefix}{name}.")
        else:
            shown = "none" if value is None else value
            if isinstance(value, list):
                shown = ", ".join(str(entry) for entry in value)
            found.append((f"{prefix}{name}", str(shown)))
    return found


def _shown(value: Any) -> str:
    return "" if value is None else str(value)


def is_unfinished(run: Run) -> bool:
    """Whether its command would go on with it."""
    chosen = "selection" in run.identity["config"]
    made = chosen and bool(run.methods) and run.methods[0].small is not None
    return not run.result and not made
