"""Which folders of a dataset are its classes, and which its parts to train and to test on."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple, TypeAlias

from ddpp_jax.errors import InputError
from ddpp_jax.storage import plain_file
from ddpp_jax.text import checked_names

Classes: TypeAlias = Mapping[str, list[Path]]
"""The files of each class, in the order of the names."""

_OF_THE_SYSTEM = {"thumbs.db", "desktop.ini"}
_PARTS = {"train", "test", "val", "valid", "validation"}
_TO_VALIDATE = ("val", "valid", "validation")


class Sides(NamedTuple):
    """Files by class.

    Attributes:
        train: to train on, or all of them where there is no test set.
        test: to test on; none where that is not apart.
        notes: what was left out or assumed, a line each.
    """

    train: Classes
    test: Classes | None
    notes: tuple[str, ...]


def sides(folder: Path, *, classes_only: bool = False) -> Sides:
    """The files of `train/CLASS/*` and `test/CLASS/*`, or of `CLASS/*`.

    `train` and `test` are the two parts where they hold folders, and classes where they hold files
    like the other classes. A class is called by its folder's name in Unicode's composed form, so
    that it is one class in both parts whatever file systems it came over.

    Args:
        folder: of all of them.
        classes_only: the folders are classes, whatever they are called.

    Raises:
        InputError: the folders are not laid out so, a class has no images or a name that cannot be
            shown, or something is no plain file.
    """
    folders = {path.name: path for path in _folders(folder)}
    split = [name for name in ("train", "test") if name in folders and _folders(folders[name])]
    if classes_only or not split:
        if not classes_only and folders and folders.keys() <= _PARTS:
            first = next(iter(folders.values()))
            raise InputError(
                f"{first} holds no folders of classes; wanted a folder of images for each class "
                "in it"
            )
        return Sides(_whole(_classes(folder, folders.values()), folder), None, ())
    if len(split) == 1:
        _refuse_half(folder, folders, split[0])
    train, test = (_classes(folders[n], _folders(folders[n])) for n in ("train", "test"))
    _whole(train, folders["train"])
    for name in test:
        if name not in train:
            raise InputError(
                f"{folders['test'] / name} is a class that {folders['train']} does not have"
            )
    if not any(test.values()):
        raise InputError(f"{folders['test']} holds no images; add some or remove it")
    unused = sorted(folders.keys() - {"train", "test"})
    notes = [f"{folder} also holds {', '.join(unused)}, not used"] if unused else []
    return Sides(train, test, (*notes, *_other_forms(train, test)))


def _refuse_half(folder: Path, folders: Mapping[str, Path], there: str) -> None:
    other = "test" if there == "train" else "train"
    if other in folders:
        raise InputError(
            f"{folders[there]} holds folders and {folders[other]} holds none; wanted a folder of "
            "images for each class in both"
        )
    rival = next((name for name in _TO_VALIDATE if name in folders), None)
    if there == "train" and rival is not None:
        raise InputError(
            f"{folder} holds train and {rival} and no test; rename {rival} to test to test on it, "
            f"or name {folders[there]} to have it split"
        )
    raise InputError(
        f"{folder} holds {there} and no {other}; add {folder / other}, "
        f"or name {folders[there]} to have it split"
    )


def _whole(classes: Classes, folder: Path) -> Classes:
    """The classes of a part to train on, if there are enough of them and none is empty."""
    if len(classes) < 2:
        held = f"one class only, {next(iter(classes))}" if classes else "no folders of classes"
        raise InputError(f"{folder} holds {held}; wanted a folder of images for each class")
    for name, paths in classes.items():
        if not paths:
            raise InputError(f"{folder / name} holds no images; add some or remove it")
    return classes


def _classes(folder: Path, places: Iterable[Path]) -> Classes:
    found = list(places)
    names = checked_names([path.name for path in found], str(folder))
    by_name = dict(zip(names, found, strict=True))
    return {name: _files(by_name[name]) for name in sorted(by_name)}


def _other_forms(train: Classes, test: Classes) -> list[str]:
    """What is to be said of classes whose names have two forms in the two parts."""
    other = [
        name
        for name, paths in test.items()
        if paths and paths[0].parent.name != train[name][0].parent.name
    ]
    if not other:
        return []
    return [
        f"{', '.join(other)}: train and test have the name in two Unicode forms; taken as one class"
    ]


def _entries(folder: Path) -> list[Path]:
    try:
        entries = [
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.name.lower() not in _OF_THE_SYSTEM
        ]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted(entries, key=lambda path: (unicodedata.normalize("NFC", path.name), path.name))


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _files(folder: Path) -> list[Path]:
    files = _entries(folder)
    for path in files:
        if path.is_dir():
            raise InputError(f"{path} is a folder inside a class; wanted images only")
    return [plain_file(path) for path in files]
