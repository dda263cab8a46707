"""The files of Tiny ImageNet as Stanford gives them: `tiny-imagenet-200`."""

from collections import Counter
from pathlib import Path
from typing import TypeAlias

from ddpp_jax.errors import InputError
from ddpp_jax.storage import plain_file

Sides: TypeAlias = tuple[dict[str, list[Path]], dict[str, list[Path]], list[str]]
"""The files of each class to train on and to test on, and what was assumed, in lines."""

_CLASSES, _WORDS = "wnids.txt", "words.txt"
_ANNOTATIONS = Path("val", "val_annotations.txt")


def is_tiny_imagenet(folder: Path) -> bool:
    """Whether a folder is laid out as Stanford's."""
    return (folder / _CLASSES).is_file() and (folder / _ANNOTATIONS).is_file()


def tiny_imagenet_sides(folder: Path) -> Sides:
    """The files of `train/WNID/images`, and those of `val`, whose classes a list tells, as test.

    Those of `test` have no labels. A class is called by the first word of its entry in `words.txt`
    where that is there and the word is no other class's, and else by its WordNet number.

    Raises:
        InputError: a list or an image that it names is missing, or names an unknown class.
    """
    wnids = sorted(line.strip() for line in _lines(folder / _CLASSES) if line.strip())
    names = _names(folder, wnids)
    train = {
        names[wnid]: sorted(path for path in (folder / "train" / wnid / "images").glob("*.JPEG"))
        for wnid in wnids
    }
    test: dict[str, list[Path]] = {name: [] for name in train}
    for number, line in enumerate(_lines(folder / _ANNOTATIONS), start=1):
        fields = line.split("\t")
        if len(fields) < 2 or fields[1] not in names:
            raise InputError(
                f"{folder / _ANNOTATIONS}, line {number}, is {line[:60]!r}; wanted an image, and a "
                f"class of {_CLASSES}: unpack the dataset again"
            )
        test[names[fields[1]]].append(plain_file(folder / "val" / "images" / fields[0]))
    order = sorted(train)
    notes = [f"{folder.name}: the images of val are tested on; those of test have no labels"]
    return (
        {name: train[name] for name in order},
        {name: sorted(test[name]) for name in order},
        notes,
    )


def _names(folder: Path, wnids: list[str]) -> dict[str, str]:
    """A name for each class."""
    path = folder / _WORDS
    if not path.is_file():
        return {wnid: wnid for wnid in wnids}
    entries = dict(line.split("\t", 1) for line in _lines(path) if "\t" in line)
    first = {wnid: entries.get(wnid, wnid).split(",")[0].strip() for wnid in wnids}
    often = Counter(first.values())
    return {wnid: name if often[name] == 1 else wnid for wnid, name in first.items()}


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").splitlines()
    except (OSError, ValueError) as error:
        raise InputError(f"{path} cannot be read as text; unpack the dataset again") from error
