"""`python -m ddpp_jax.export`: a set in the formats of other tools."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal, NoReturn

import tyro
from rich.console import Console

import ddpp_jax
from ddpp_jax.cli.flags import run_alone
from ddpp_jax.configs import digest
from ddpp_jax.data import Contrast
from ddpp_jax.errors import InputError
from ddpp_jax.export import FORMATS, export
from ddpp_jax.progress import Report
from ddpp_jax.sets import load_distilled, own_transform
from ddpp_jax.storage import TeacherStore, claimed_folder, read_claim
from ddpp_jax.teachers import teachers_in, write_buffers

_CLASSES_ALONE = ("png", "mtt")
"""Formats whose labels are classes."""
_BUFFERS = "mtt-buffers"
_MANIFEST = "manifest.json"


def run_export(
    path: Path,
    formats: Sequence[str],
    out: Path | None,
    report: Report,
    *,
    which: str,
    channels_first: bool,
) -> None:
    """Write a set in some formats, into a folder that holds nothing else.

    Args:
        path: a run folder, or a `.safetensors` of this program; or a store of teachers.
        formats: of `export.FORMATS`; or `mtt-buffers` alone, of a store.
        out: the folder; None takes `export` beside the set.
        report: told what was written.
        which: which of a run's sets.
        channels_first: of `npz` and `safetensors`.

    Raises:
        InputError: there is no such set or format, or the folder is of something else.
    """
    unknown = [name for name in formats if name not in (*FORMATS, _BUFFERS)]
    if unknown or not formats:
        got = repr(unknown[0]) if unknown else "none"
        known = ", ".join((*FORMATS, _BUFFERS))
        raise InputError(f"no format is called {got}; wanted some of {known}")
    if _BUFFERS in formats or (path / _MANIFEST).exists():
        _export_buffers(path, formats, out, report)
        return
    small = load_distilled(path, which=which)
    if small.labels.ndim == 2:
        formats = _for_probabilities(formats, report)
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
    if isinstance(own_transform(path, small), Contrast):
        report.warn(
            "the set is whitened as in KIP, which no other tool does by itself: its card "
            "(--formats card) says how test images, and the pixels written here, must be seen"
        )
    count, classes = len(small.labels), len(small.class_names)
    report.say(f"{count} images of {classes} classes, alpha {small.alpha:.4g}, are in {folder}")


def _for_probabilities(formats: Sequence[str], report: Report) -> Sequence[str]:
    """The formats that have a place for probabilities; what is left out is said.

    Raises:
        InputError: none has.
    """
    left = [name for name in formats if name not in _CLASSES_ALONE]
    if not set(left) - {"card"}:
        raise InputError(
            "the labels of this set are probabilities, for which "
            f"{' and '.join(_CLASSES_ALONE)} have no place; give others by --formats, such as npz"
        )
    for name in sorted(set(formats) - set(left)):
        report.warn(f"{name} is left out: the labels of this set are probabilities")
    return left


def _export_buffers(path: Path, formats: Sequence[str], out: Path | None, report: Report) -> None:
    """Write the teachers of a store as MTT's buffers."""
    if not any((path / name).is_file() for name in (_MANIFEST, f".{_MANIFEST}")):
        raise InputError(
            f"{path} is no store of teachers, which {_BUFFERS} is of; name a folder below "
            "runs/teachers, as distill and teachers say it"
        )
    if tuple(formats) != (_BUFFERS,):
        raise InputError(f"{path} is a store of teachers; give --formats {_BUFFERS}")
    manifest = read_claim(path, name=_MANIFEST, warn_fn=report.warn)
    store = TeacherStore(path)
    count = teachers_in(store)
    folder = out or path / "export"
    identity = {"version": ddpp_jax.__version__, "teachers": count, "of": digest(manifest)}
    with claimed_folder(folder, identity, name="export.json"):
        for written in write_buffers(store, folder):
            report.say(f"{written}")
    kernel = next(shape for name, shape in store.known(0)["tensors"] if name == "Conv3x3_0/kernel")
    if kernel[2] == 1:
        report.warn(
            "the first convolution of MTT's own ConvNet pads grey images by 3 pixels, not 1: "
            "in MTT's networks.py these parameters make other networks"
        )
    report.say(f"{count} teachers are in {folder}")


@dataclass(frozen=True, kw_only=True)
class _Export:
    run: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """A run folder, or a .safetensors of this program; or a store of teachers."""

    formats: str = "png,npz,safetensors,card"
    """With commas: png, npz, safetensors, card; mtt, dd-ranking (need PyTorch); or mtt-buffers."""

    out: Path | None = None
    """The folder, never one of something else; by default export, beside the set."""

    which: Literal["last", "best-held-out", "best-test"] = "last"
    """Which of a run's sets."""

    channels_first: bool = False
    """Arrays of npz and safetensors as (images, channels, height, width)."""

    quiet: bool = False
    """Show nothing but warnings and errors."""


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Take a set elsewhere: `python -m ddpp_jax.export RUN`."""

    def work(command: _Export) -> None:
        if len(command.run) != 1:
            raise InputError(
                f"got {len(command.run)} runs; name one run folder, or one .safetensors"
            )
        run_export(
            command.run[0],
            tuple(name.strip() for name in command.formats.split(",") if name.strip()),
            command.out,
            Report(None if command.quiet else Console()),
            which=command.which,
            channels_first=command.channels_first,
        )

    about = "Write a distilled set in the formats that other tools read."
    run_alone("export", about, arguments, _Export(), work)
