"""`python -m ddpp_jax.export`: a set in the formats of other tools."""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import ddpp_jax
from ddpp_jax.errors import InputError
from ddpp_jax.export import FORMATS, export, load_distilled
from ddpp_jax.files import claimed_folder
from ddpp_jax.report import Report


def run_export(
    path: Path,
    formats: Sequence[str],
    out: Path | None,
    report: Report,
    *,
    iterate: str,
    channels_first: bool,
) -> None:
    """Write a set in some formats, into a folder that holds nothing else.

    Args:
        path: a run folder, or a `.safetensors` of this program.
        formats: of `export.FORMATS`.
        out: the folder; None takes `export` beside the set.
        report: told what was written.
        iterate: which of a run's sets.
        channels_first: of `npz` and `safetensors`.

    Raises:
        InputError: there is no such set or format, or the folder is of something else.
    """
    unknown = [name for name in formats if name not in FORMATS]
    if unknown or not formats:
        got = repr(unknown[0]) if unknown else "none"
        raise InputError(f"no format is called {got}; wanted some of {', '.join(FORMATS)}")
    small = load_distilled(path, iterate=iterate)
    folder = out or (path if path.is_dir() else path.parent) / "export"
    content = small.images.tobytes() + small.labels.tobytes() + repr(small.alpha).encode()
    identity = {
        "version": ddpp_jax.__version__,
        "set": hashlib.sha256(content).hexdigest()[:16],
        "channels_first": channels_first,
    }
    with claimed_folder(folder, identity, name="export.json"):
        for written in export(small, folder, formats, channels_first=channels_first):
            report.say(f"{written}")
    count, classes = len(small.labels), len(small.class_names)
    report.say(f"{count} images of {classes} classes, alpha {small.alpha:.4g}, are in {folder}")
