"""The page of a run, and that of several beside one another."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

import ddpp_jax
from ddpp_jax.report import svg
from ddpp_jax.report.auditing import audit_values
from ddpp_jax.report.comparison import comparison_values
from ddpp_jax.report.costs import costs
from ddpp_jax.report.drawings import values_words
from ddpp_jax.report.images import method_values
from ddpp_jax.report.read import Method, Run, read_run
from ddpp_jax.report.searches import search_values
from ddpp_jax.report.steps import steps_values
from ddpp_jax.report.words import class_names, flat, is_unfinished, result_rows, row_names, title
from ddpp_jax.results import tables
from ddpp_jax.storage import Replacement
from ddpp_jax.text import printable, warn

REPORT = "report.html"

_MOST_CONFUSIONS = 6

_MARK = '<meta name="generator" content="ddpp-jax comparison">'


def _shown(value: Any) -> Any:
    """A value as it stands in a page; figures and what else is written as HTML here stay."""
    return printable(value) if type(value) is str else value


_PAGES = Environment(
    loader=PackageLoader("ddpp_jax", "report"),
    autoescape=True,
    finalize=_shown,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_PAGES.globals["version"] = ddpp_jax.__version__


def write_report(
    folder: Path, *, only_stale: bool = False, warn_fn: Callable[[str], None] = warn
) -> Path:
    """Write `report.html` of a run folder, from its files alone; where it is.

    Args:
        folder: of the run, finished or not.
        only_stale: leave one that is there and no older than the run's results.
        warn_fn: told of what damage to a file cost.

    Raises:
        InputError: it is no run folder, or a file in it is damaged.
        OSError: one cannot be read.
    """
    path = folder / REPORT
    if not (only_stale and _is_fresh(path)):
        run = read_run(folder, warn_fn)
        in_steps = "continual" in run.identity
        template = "steps.html.jinja" if in_steps else "run.html.jinja"
        values = _steps_values(run) if in_steps else _run_values(run)
        _write(path, template, {"mark": ""} | values)
    return path


def write_comparison(
    path: Path, folders: Sequence[Path], warn_fn: Callable[[str], None] = warn
) -> Path:
    """Write a page that lays several runs beside one another; where it is.

    Args:
        path: of the page.
        folders: of the runs.
        warn_fn: told of what damage to a file cost.

    Raises:
        InputError: one is no run folder, or a file in it is damaged.
        OSError: one cannot be read.
    """
    _write(
        path,
        "compare.html.jinja",
        {"mark": _MARK} | comparison_values([read_run(folder, warn_fn) for folder in folders]),
    )
    return path


def _is_fresh(path: Path) -> bool:
    if not path.exists():
        return False
    results = (path.parent / name for name in ("result.json", "distilled.safetensors"))
    written = path.stat().st_mtime_ns
    return all(written >= made.stat().st_mtime_ns for made in results if made.exists())


def is_comparison(path: Path) -> bool:
    """Whether a file is a page that `write_comparison` wrote."""
    try:
        return path.is_file() and _MARK in path.read_text(encoding="utf-8")[:4000]
    except (OSError, UnicodeDecodeError):
        return False


def _run_values(run: Run) -> dict[str, Any]:
    """What the page of a run shows."""
    rows = run.result.get("rows", [])
    names = row_names(rows)
    tested = [(n, row) for n, row in zip(names, rows, strict=True) if row.get("confusion")]
    classes = class_names(run)
    values = _common_values(run) | {
        "keys": _keys(run),
        "rows": result_rows(rows),
        "columns": ["trained on"],
        "which": _which(rows),
        "diverged": [
            f"{n}: {row['diverged']} of {row['networks']} networks diverged; lower the rate"
            for n, row in zip(names, rows, strict=True)
            if row.get("diverged")
        ]
        + list(run.result.get("doubts", [])),
        "accuracy_svg": svg.accuracies(rows, names) if rows else "",
        "sweep": _sweep(run, rows),
        "search": _search(run),
        "methods": [method_values(method) for method in run.methods if _shows(method)],
        "curves": svg.curves([method for method in run.methods if method.rows]),
        "maps": [found for method in run.methods for found in svg.maps(method)],
        "confusions": [(n, svg.confusion(row, classes, n)) for n, row in tested[:_MOST_CONFUSIONS]],
        "per_class": [row["per_class"] for _, row in tested[:_MOST_CONFUSIONS]],
        "class_names": classes,
        "settings": list(flat(run.identity["config"])),
        "tuning": _tuning(run),
        "audit": audit_values(run.folder, run.result),
    }
    audited = [(part["id"], part["title"]) for part in values["audit"]["parts"]]
    sections = {
        "accuracy": ("Accuracy", "rows"),
        "search": ("Networks and proxies", "search"),
        "images": ("Images", "methods"),
        "curves": ("Curves", "curves"),
        "maps": ("By layer", "maps"),
        "classes": ("Classes", "confusions"),
        "cost": ("Time and memory", "stages"),
        "tuning": ("How the settings were found", "tuning"),
    }
    return values | {"contents": _contents(values, sections, audited)}


def _steps_values(run: Run) -> dict[str, Any]:
    """What the page of a run shows in which classes arrive in steps."""
    values = _common_values(run) | {
        "settings": [
            line
            for part in ("config", "continual", "methods")
            for line in flat(run.identity[part], "" if part == "config" else f"{part}.")
        ],
        **steps_values(run),
    }
    sections = {
        "accuracy": ("Accuracy", "rows"),
        "differences": ("Differences", "comparisons"),
        "images": ("Images", "memories"),
        "orders": ("Orders", "orders"),
        "cost": ("Time and memory", "stages"),
    }
    return values | {"contents": _contents(values, sections)}


def _common_values(run: Run) -> dict[str, Any]:
    """What the page of every run shows."""
    return {
        "made_of": str(run.folder),
        "title": title(run),
        "subtitle": _subtitle(run),
        "data": _data(run),
        "unfinished": _unfinished(run),
        "command": _command(run),
        "environment": _environment(run),
        **costs(run),
    }


def _contents(
    values: Mapping[str, Any],
    sections: Mapping[str, tuple[str, str]],
    more: Sequence[tuple[str, str]] = (),
) -> list[tuple[str, str]]:
    """The places and the titles of the sections that have something to show.

    Args:
        values: of the page.
        sections: the title of each, and the value that it needs.
        more: sections that are there.
    """
    there = [(place, name) for place, (name, needed) in sections.items() if values[needed]]
    return [*there, *more, ("repeat", "To do it again")]


def _write(path: Path, template: str, values: Mapping[str, Any]) -> None:
    with Replacement(path) as temporary:
        temporary.write_text(_PAGES.get_template(template).render(values), encoding="utf-8")


def _subtitle(run: Run) -> str:
    config = run.identity["config"]
    said = [f"seed {config['seed']}"] if config.get("seed") is not None else []
    said += [f"ddpp-jax {run.identity.get('version', '?')}", f"in {run.folder}"]
    return ", ".join(said)


def _data(run: Run) -> str:
    """What the data are, as a sentence; empty where no file tells."""
    found, classes = run.result.get("data"), class_names(run)
    if not found:
        return ""
    held = f", {found['held_out_images']:,} kept apart" if found["held_out_images"] else ""
    return (
        f"{run.result['dataset']}: {found['training_images']:,} training and "
        f"{found['test_images']:,} test images{held}, {'x'.join(map(str, found['shape']))} pixels, "
        f"{len(classes)} classes."
    )


def _unfinished(run: Run) -> str:
    if not is_unfinished(run):
        return ""
    steps = {method.name: row["step"] for method in run.methods for row in method.rows[-1:]}
    far = "".join(f" {name}: {step:,} steps are done." for name, step in steps.items())
    return f"This run is not finished.{far} The same command goes on with it."


def _keys(run: Run) -> list[tuple[str, str]]:
    """The figures that a person wants first."""
    keys = [
        (f"{row['method']}, test accuracy, %", f"{100 * row['mean']:.1f} ± {100 * row['std']:.1f}")
        for row in run.result.get("rows", [])[:4]
    ]
    small = next((m.small for m in run.methods if m.small is not None), None)
    if small is not None:
        keys += [("images in all", f"{len(small.labels):,}"), ("alpha", f"{small.alpha:.4g}")]
    return keys


def _which(rows: Sequence[Mapping[str, Any]]) -> str:
    words = {words for row in rows if (words := tables.which_words(row))}
    return f"Distilled sets: {'; '.join(sorted(words))}." if words else ""


def _sweep(run: Run, rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    if "sweep" not in run.result or not rows:
        return {}
    return svg.sweep(rows, run.result["sweep"], run.methods)


def _search(run: Run) -> dict[str, Any]:
    """What a search among architectures found; empty of any other run."""
    found = run.result.get("search")
    if not found:
        return {}
    full_images = run.result["data"]["training_images"]
    return search_values(found, full_images) | {"svgs": svg.proxies(found)}


def _tuning(run: Run) -> dict[str, Any]:
    """What a search for settings found; empty where they were given."""
    if not run.tuning:
        return {}
    trials, settings = run.tuning["trials"], run.tuning["settings"]["distillation"]
    taken = [
        place
        for place, one in enumerate(trials)
        if all(settings[name] == value for name, value in one["values"].items())
    ]
    return {
        "svg": svg.trials(trials),
        "minutes": run.tuning["seconds"] / 60 if "seconds" in run.tuning else None,
        "derived": [
            (one["name"].replace("_", " "), flat({"": one["value"]})[0][1], one["why"])
            for one in run.tuning["derived"]
        ],
        "rates": run.tuning["rates"],
        "trials": [(values_words(one["values"]), one) for one in trials],
        "taken": taken[-1] if taken else None,
    }


def _shows(method: Method) -> bool:
    return method.small is not None or bool(method.frames)


def _command(run: Run) -> str | None:
    commands = [row["command"] for row in run.log if row["event"] == "start" and row["command"]]
    return commands[-1] if commands else None


def _environment(run: Run) -> str:
    found = run.result.get("versions")
    device = run.result.get("device") or next(
        (row["device"] for row in run.log if row["event"] == "start"), None
    )
    said = [f"{name} {number}" for name, number in (found or {}).items()]
    said += [f"on {device}"] if device else []
    return ", ".join(said)
