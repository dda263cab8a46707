"""Damage the files of a finished run at random, and count how their readers react.

    .venv/bin/python scripts/fuzz_damage.py --damages 700
    .venv/bin/python scripts/fuzz_damage.py --run RUN --store runs/teachers/STORE --seed 1

A reader must return what was written, or refuse with one line that names the file. Of a file of
rows it may return the whole rows and a warning. Anything else is listed, and the exit status is 1.
"""

import argparse
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ddpp_jax.distill.frames import read_frame
from ddpp_jax.errors import InputError
from ddpp_jax.progress import read_metrics, read_progress
from ddpp_jax.results import read_result
from ddpp_jax.sets import read_distilled
from ddpp_jax.storage import TeacherStore, read_claim, read_sealed

TINY = (
    "--augment crop --width 8 --depth 1 --teachers 2 --epochs 4 --student-steps 4 "
    "--max-start-epoch 2 --steps 60 --networks 2 --eval-epochs 20 --random-draws 1 --eval-every 30"
)
FINE = ("same", "refused", "warned", "torn")
"""The outcomes that are allowed: the same values; one line that names the file; whole rows or a
whole claim with a warning; rows without the last ones, as after a kill."""


class Outcome(NamedTuple):
    """How a reader reacted to a damaged file.

    Attributes:
        kind: one of `FINE`, or `silent` (other values and no word) or `crashed`.
        words: what the reader said.
    """

    kind: str
    words: str


def damage(chance: random.Random, data: bytes) -> tuple[str, bytes]:
    """The name of a random damage, and the content after it, which always differs."""
    while True:
        name = chance.choice(sorted(_HARMS))
        harmed = _HARMS[name](chance, data)
        if harmed != data:
            return name, harmed


def outcome(path: Path, read: Callable[[Path, Callable[[str], None]], Any], whole: Any) -> Outcome:
    """The outcome of reading a file, compared with `whole`, its values before the damage."""
    warnings: list[str] = []
    try:
        found = read(path, warnings.append)
    except InputError as error:
        line = str(error)
        teacher = next((part for part in path.parts if part.startswith("teacher-")), path.name)
        named = path.name in line or teacher.removesuffix(".json") in line
        fine = named and len(line.splitlines()) == 1
        return Outcome("refused" if fine else "silent", line)
    except Exception as error:  # What the script looks for.
        return Outcome("crashed", f"{type(error).__name__}: {error}")
    words = "; ".join(warnings)
    if warnings:
        told = path.name in words and _is_part(found, whole)
        return Outcome("warned" if told else "silent", words)
    if _plain(found) == _plain(whole):
        return Outcome("same", "")
    torn = path.name == "progress.jsonl" and found == whole[: len(found)]
    return Outcome("torn" if torn else "silent", "other values, and not a word")


def readers(run: Path, store: Path | None) -> dict[Path, Callable[..., Any]]:
    """The reader of each file that later commands read."""
    found: dict[Path, Callable[..., Any]] = {}
    for path in sorted(run.rglob("*")):
        if path.name in ("config.json", ".config.json", "export.json", ".export.json"):
            found[path] = _claim
        elif path.name == "result.json":
            found[path] = lambda path, _: read_result(path)
        elif path.name == "progress.jsonl":
            found[path] = lambda path, warn: read_progress(path, warn_fn=warn)
        elif path.name == "metrics.jsonl":
            steps = read_distilled(path.parent / "distilled.safetensors").origin["step"]
            found[path] = partial(_metrics, steps=steps)
        elif path.suffix == ".safetensors" and "export" not in path.parts:
            frame = path.parent.name == "history"
            found[path] = partial(_tensors, read_frame if frame else read_distilled)
    if store is not None:
        for path in (store / "teacher-000.json", *sorted((store / "teacher-000").rglob("*"))):
            if path.is_file():
                found[path] = partial(_teacher, store)
    return found


def try_damages(
    files: Mapping[Path, Callable[..., Any]], count: int, seed: int
) -> list[tuple[Path, str, Outcome]]:
    """The outcome of each of `count` damages, file by file in turn. All files are restored."""
    chance, found = random.Random(seed), []
    whole = {path: read(path, lambda _: None) for path, read in files.items()}
    order = list(files)
    for number in range(count):
        path = order[number % len(order)]
        data = path.read_bytes()
        harm, harmed = damage(chance, data)
        path.write_bytes(harmed)
        try:
            found.append((path, harm, outcome(path, files[path], whole[path])))
        finally:
            path.write_bytes(data)
    return found


def _flip(chance: random.Random, data: bytes) -> bytes:
    place, harmed = chance.randrange(len(data)), bytearray(data)
    harmed[place] ^= 1 << chance.randrange(8)
    return bytes(harmed)


def _flip_early(chance: random.Random, data: bytes) -> bytes:
    """A bit of the first 400 bytes, where headers are."""
    return _flip(chance, data[:400]) + data[400:]


def _change_digit(chance: random.Random, data: bytes) -> bytes:
    places = [found.start() for found in re.finditer(rb"[0-9]", data[:100_000])]
    if not places:
        return data
    place = chance.choice(places)
    return data[:place] + str(chance.randrange(10)).encode() + data[place + 1 :]


def _change_letter(chance: random.Random, data: bytes) -> bytes:
    """A letter of the first 3000 bytes, such as one of a name."""
    places = [found.start() for found in re.finditer(rb"[a-zA-Z_]", data[:3000])]
    if not places:
        return data
    place = chance.choice(places)
    return data[:place] + chance.choice(b"aeinXZ_").to_bytes() + data[place + 1 :]


def _cut_out(chance: random.Random, data: bytes) -> bytes:
    place = chance.randrange(len(data))
    return data[:place] + data[place + chance.randrange(1, 40) :]


def _blank(chance: random.Random, data: bytes) -> bytes:
    """A sector of zeros, as a disk may give."""
    place = chance.randrange(len(data))
    length = min(512, len(data) - place)
    return data[:place] + bytes(length) + data[place + length :]


def _lines(chance: random.Random, data: bytes) -> bytes:
    lines = data.splitlines(keepends=True)
    place = chance.randrange(len(lines))
    what = chance.randrange(3)
    if what == 0:
        return b"".join(lines[:place] + lines[place + 1 :])
    if what == 1:
        return b"".join([*lines[:place], lines[place], *lines[place:]])
    other = chance.randrange(len(lines))
    lines[place], lines[other] = lines[other], lines[place]
    return b"".join(lines)


def _nest(chance: random.Random, data: bytes) -> bytes:
    levels = chance.choice((50, 5000, 200_000))
    return b'{"a":' * levels + b"1" + b"}" * levels + chance.choice((b"\n", b""))


_HARMS: Mapping[str, Callable[[random.Random, bytes], bytes]] = {
    "a bit flipped": _flip,
    "a bit of the beginning flipped": _flip_early,
    "a digit changed": _change_digit,
    "a letter changed": _change_letter,
    "bytes cut out": _cut_out,
    "a sector blanked": _blank,
    "lines dropped, doubled or swapped": _lines,
    "cut short": lambda chance, data: data[: chance.randrange(len(data))],
    "bytes that are not UTF-8": lambda chance, data: data[: len(data) // 2] + b"\xff\xfe" + data,
    "other JSON": lambda chance, _: chance.choice((b"[]\n", b"3\n", b"{}\n", b"null\n", b'"a"\n')),
    "nested deep": _nest,
    "emptied": lambda *_: b"",
}


def _claim(path: Path, warn: Callable[[str], None]) -> Any:
    return read_claim(path.parent, name=path.name.removeprefix("."), warn_fn=warn)


def _metrics(path: Path, warn: Callable[[str], None], *, steps: int) -> Any:
    return read_metrics(path, steps=steps, warn_fn=warn)


def _tensors(read: Callable[[Path], Any], path: Path, _: Callable[[str], None]) -> Any:
    return read(path)


def _teacher(folder: Path, path: Path, _: Callable[[str], None]) -> Any:
    """All parameters of a teacher, after the check that every start makes."""
    store = TeacherStore(folder)
    if (found := store.damaged(0)) is not None:
        raise InputError(found)
    if not store.missing(1):
        seal = read_sealed(folder / "teacher-000.json")
        (size,) = {tuple(shape) for shape, _ in seal["arrays"].values()}
        epochs = range(len(seal["arrays"]))
        return store.read(0, epochs, num_params=size[0]), store.known(0)["accuracy"]
    raise InputError(f"{path} is of a teacher that is not there")


def _is_part(found: Any, whole: Any) -> bool:
    """Whether `found` equals `whole`, or is some of its rows in their order."""
    if not isinstance(found, list):
        return _plain(found) == _plain(whole)
    rest = iter(whole)
    return all(row in rest for row in found)


def _plain(value: Any) -> Any:
    """The value with arrays as bytes, so that `==` compares them."""
    if isinstance(value, np.ndarray):
        return (value.dtype.str, value.shape, value.tobytes())
    if isinstance(value, Mapping):
        return {name: _plain(entry) for name, entry in value.items()}
    return [_plain(entry) for entry in value] if isinstance(value, tuple | list) else value


def _make(folder: Path) -> tuple[Path, Path]:
    """A tiny run of the digits and its teachers."""
    command = [sys.executable, "-m", "ddpp_jax.distill", *TINY.split(), "--quiet", "--out", "run"]
    subprocess.run(command, cwd=folder, check=True)
    (store,) = (folder / "runs" / "teachers").iterdir()
    return folder / "run", store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, help="a finished run; without it a tiny one is made")
    parser.add_argument("--store", type=Path, help="its teachers; without it they are left out")
    parser.add_argument("--damages", type=int, default=700, help="how many")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        if given.run is None:
            run, store = _make(Path(name))
        else:  # Only copies are damaged.
            run = Path(shutil.copytree(given.run, Path(name) / "run"))
            store = given.store and Path(shutil.copytree(given.store, Path(name) / "store"))
        files = readers(run, store)
        found = try_damages(files, given.damages, given.seed)
    for path, harm, (kind, words) in found:
        if kind not in FINE:
            print(f"{kind}: {path.name}, {harm}: {words}")
    counts = Counter(kind for _, _, (kind, _) in found)
    print(f"{len(found)} damages to {len(files)} files of a run:")
    for kind in (*FINE, "silent", "crashed"):
        print(f"  {kind}: {counts[kind]}")
    sys.exit(any(counts[kind] for kind in ("silent", "crashed")))


if __name__ == "__main__":
    main()
