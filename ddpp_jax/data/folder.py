"""Folders of images, one folder a class."""

import statistics
import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TypeAlias

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.checks import shape_words
from ddpp_jax.data.dataset import Source
from ddpp_jax.data.depth import EIGHT_BITS, Scale
from ddpp_jax.data.pictures import Header, quietly, read_header
from ddpp_jax.data.pixels import Picture, Pictures, converted_shape, picture_parts
from ddpp_jax.data.tiny_imagenet import is_tiny_imagenet, tiny_imagenet_sides
from ddpp_jax.errors import InputError, one_line
from ddpp_jax.storage import plain_file
from ddpp_jax.text import checked_names

Classes: TypeAlias = Mapping[str, list[Path]]
"""The files of each class, in the order of the names."""

_OF_THE_SYSTEM = {"thumbs.db", "desktop.ini"}
_VALIDATION = ("val", "valid", "validation")
_PARTS = {"train", "test", *_VALIDATION}
_MIXED_SIDE, _LEAST_SIDE = 64, 8


def folder_source(
    folder: Path, config: DataConfig, *, scale: Scale | None = None, classes_only: bool = False
) -> Source:
    """The images of a folder: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone.

    Tiny ImageNet is read as Stanford gives it.

    `train` and `test` are the two parts if they hold folders, and classes if they hold files like
    the other classes. A class is called by its folder's name in Unicode's composed form, so that it
    is one class in both parts whatever file systems it came over. Classes and their images are in
    the order of their names. Hidden files, those that Windows leaves, and what lies beside the
    folders of the classes are left out. The images are grey if every one of them is, and in colour
    otherwise, unless the config says which. Pixels of more than eight bits become float32
    (`depth.fit_scale`).

    Args:
        folder: of all of them.
        config: the channels, the size and the range.
        scale: for pixels of its kind, in place of what the config and the images say.
        classes_only: the folders are classes, whatever they are called.

    Raises:
        InputError: the folders are not laid out so, a class has no images or a name that cannot be
            shown, the images differ in shape and the config has no size, or in depth, or a file is
            not an image.
    """
    folder = folder.resolve()
    train, test, notes = _laid_out(folder, classes_only=classes_only)
    names = tuple(train)
    sides = [_files(classes, names, notes) for classes in (train, test) if classes]
    every = [file for files in sides for file in files]
    first, header = every[0]
    (width, height), _, depth = header
    for file, other in every:
        if config.image_size is None and other.size != header.size:
            raise InputError(
                f"{first.what} is {shape_words((height, width))} and {file.what} is "
                f"{shape_words(other.size[::-1])}; give --image-size"
            )
    for file, other in every:
        if other.depth != depth:
            raise InputError(
                f"{first.what} is {depth} and {file.what} is {other.depth}; "
                "nobody can tell which of their pixels are equal: convert them to one depth"
            )
    if scale is not None and depth not in (scale.kind, EIGHT_BITS):
        raise InputError(
            f"the images of {folder} are {depth}, and those of the data {scale.kind}; convert them"
        )
    channels = 1 if all(other.grey for _, other in every) else 3
    shape = converted_shape((height, width, channels), config)
    parts, scale, lines = picture_parts(
        [Pictures(len(files), lambda n, files=files: files[n][0]) for files in sides],
        header,
        shape[-1],
        config,
        what=str(folder),
        place=folder.name,
        scale=scale if scale is not None and scale.kind == depth else None,
    )
    return Source(
        name=folder.name,
        class_names=names,
        shape=shape,
        itemsize=1 if scale is None else 4,
        train=parts[0],
        test=parts[1] if test else None,
        scale=scale,
        notes=(*notes, *lines),
        files_fn=lambda: [picture.file for picture, _ in every if isinstance(picture.file, Path)],
    )


def mixed_side(folder: Path, *, crop: bool) -> int | None:
    """A side for the images of a folder that are not square or not of one size; None if they are.

    Images of one size that are cropped to their middle are square.

    It is 64 pixels, as of Tiny ImageNet, or where half of the images are smaller, the power of two
    that half of them reach; at least 8.

    Raises:
        InputError: the folders are not laid out as `folder_source` wants them, or a file is not an
            image.
    """
    train, test, _ = _laid_out(folder.resolve(), classes_only=False)
    files = [file for classes in (train, test) for file in _files(classes, tuple(train), [])]
    sizes = {header.size for _, header in files}
    if len(sizes) == 1 and (crop or len(set(next(iter(sizes)))) == 1):
        return None
    middle = statistics.median_low(min(header.size) for _, header in files)
    return min(_MIXED_SIDE, max(_LEAST_SIDE, 2 ** (middle.bit_length() - 1)))


def _laid_out(folder: Path, *, classes_only: bool) -> tuple[Classes, Classes, list[str]]:
    """The files to train on, those to test on (none if that is not apart), and what was assumed."""
    if classes_only or not is_tiny_imagenet(folder):
        return _sides(folder, classes_only=classes_only)
    train, test, notes = tiny_imagenet_sides(folder)
    return _complete(train, folder / "train"), test, notes


def _files(
    classes: Classes, names: tuple[str, ...], notes: list[str]
) -> list[tuple[Picture, Header]]:
    """The files of some classes with their headers; what Pillow says of them is noted in a line."""
    files, told = [], []
    with quietly() as said:
        for name, paths in classes.items():
            for path in paths:
                before = len(said)
                picture = Picture(path, names.index(name), str(path))
                files.append((picture, read_header(path, picture.what)))
                if len(said) > before:
                    told.append((path, one_line(str(said[-1].message))))
    if told:
        many = f", and of {len(told) - 1} more files" if len(told) > 1 else ""
        path, message = told[0]
        notes.append(f"Pillow warns of {path}{many}: {message}")
    return files


def _sides(folder: Path, *, classes_only: bool) -> tuple[Classes, Classes, list[str]]:
    """The files to train on, those to test on (none if that is not apart), and what was assumed."""
    folders = {path.name: path for path in _folders(folder)}
    split = [name for name in ("train", "test") if name in folders and _folders(folders[name])]
    if classes_only or not split:
        if not classes_only and folders and folders.keys() <= _PARTS:
            first = next(iter(folders.values()))
            raise InputError(
                f"{first} holds no folders of classes; wanted a folder of images for each class "
                "in it"
            )
        return _complete(_classes(folder, folders.values()), folder), {}, []
    if len(split) == 1:
        _refuse_half(folder, folders, split[0])
    train, test = (_classes(folders[n], _folders(folders[n])) for n in ("train", "test"))
    _complete(train, folders["train"])
    for name in test:
        if name not in train:
            raise InputError(
                f"{folders['test'] / name} is a class that {folders['train']} does not have"
            )
    if not any(test.values()):
        raise InputError(f"{folders['test']} holds no images; add some or remove it")
    unused = sorted(folders.keys() - {"train", "test"})
    notes = [f"{folder} also holds {', '.join(unused)}, not used"] if unused else []
    other = [
        name
        for name, paths in test.items()
        if paths and paths[0].parent.name != train[name][0].parent.name
    ]
    if other:
        notes.append(
            f"{', '.join(other)}: train and test have the name in two Unicode forms; taken as one "
            "class"
        )
    return train, test, notes


def _refuse_half(folder: Path, folders: Mapping[str, Path], there: str) -> None:
    other = "test" if there == "train" else "train"
    if other in folders:
        raise InputError(
            f"{folders[there]} holds folders and {folders[other]} holds none; wanted a folder of "
            "images for each class in both"
        )
    rival = next((name for name in _VALIDATION if name in folders), None)
    if there == "train" and rival is not None:
        raise InputError(
            f"{folder} holds train and {rival} and no test; rename {rival} to test to test on it, "
            f"or name {folders[there]} to have it split"
        )
    raise InputError(
        f"{folder} holds {there} and no {other}; add {folder / other}, "
        f"or name {folders[there]} to have it split"
    )


def _complete(classes: Classes, folder: Path) -> Classes:
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
    return {name: _images(by_name[name]) for name in sorted(by_name)}


def _images(folder: Path) -> list[Path]:
    files = _entries(folder)
    for path in files:
        if path.is_dir():
            raise InputError(f"{path} is a folder inside a class; wanted images only")
    return [plain_file(path) for path in files]


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


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
