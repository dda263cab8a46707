"""Folders of images, one folder a class."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32
from PIL import Image

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.pixels import UNREADABLE, converted_shape, decoded, is_grey, stacked
from ddpp_jax.data.raw import Indices, Part, Pixels, Source, shape_words
from ddpp_jax.errors import InputError

_OF_THE_SYSTEM = {"thumbs.db", "desktop.ini"}


class _Header(NamedTuple):
    path: Path
    size: tuple[int, int]
    grey: bool


def folder_source(folder: Path, config: DataConfig) -> Source:
    """The images of a folder: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone.

    The classes are in the order of their names, and so are the images of each. Hidden files
    and those that Windows leaves are left out, and so is what lies beside the folders of the
    classes. The images are grey if every one of them is, and in colour otherwise, unless the config
    says which.

    Raises:
        InputError: the folders are not laid out so, a class has no images, the images differ in
            shape and the config has no size, or a file is not an image.
    """
    folder = folder.resolve()
    train, test = _sides(folder)
    class_names = tuple(train)
    if test is not None:
        for name in test:
            if name not in train:
                raise InputError(
                    f"{folder / 'test' / name} is a class that {folder / 'train'} does not have"
                )
        if not any(test.values()):
            raise InputError(f"{folder / 'test'} holds no images; add some or remove it")
    for name, paths in train.items():
        if not paths:
            place = folder if test is None else folder / "train"
            raise InputError(f"{place / name} holds no images; add some or remove it")
    train_headers = _headers(train)
    test_headers = None if test is None else _headers(test)
    every = [*train_headers, *(test_headers or [])]
    if config.image_size is None:
        _check_one_shape(every)
    width, height = every[0].size
    channels = 1 if all(header.grey for header in every) else 3
    shape = converted_shape((height, width, channels), config)
    return Source(
        name=folder.name,
        class_names=class_names,
        shape=shape,
        itemsize=1,
        train=_part(train_headers, class_names, shape[-1], config.image_size),
        test=None
        if test_headers is None
        else _part(test_headers, class_names, shape[-1], config.image_size),
    )


def _sides(folder: Path) -> tuple[dict[str, list[Path]], dict[str, list[Path]] | None]:
    """Paths by class, to train and to test on; none for the test where it is not apart."""
    names = [path.name for path in _folders(folder)]
    if "train" not in names and "test" not in names:
        return _classes(folder), None
    for name, other in (("train", "test"), ("test", "train")):
        if name not in names:
            raise InputError(
                f"{folder} holds {other} and no {name}; add {folder / name}, "
                f"or name {folder / other} to have it split"
            )
    test = {path.name: _files(path) for path in _folders(folder / "test")}
    return _classes(folder / "train"), test


def _classes(folder: Path) -> dict[str, list[Path]]:
    classes = {path.name: _files(path) for path in _folders(folder)}
    if len(classes) < 2:
        held = f"one class only, {next(iter(classes))}" if classes else "no folders of classes"
        raise InputError(f"{folder} holds {held}; wanted a folder of images for each class")
    return classes


def _entries(folder: Path) -> list[Path]:
    try:
        entries = [
            path
            for path in folder.iterdir()
            if not path.name.startswith(".") and path.name.lower() not in _OF_THE_SYSTEM
        ]
    except OSError as error:
        raise InputError(f"{folder} cannot be read: {error.strerror}") from error
    return sorted(entries, key=lambda path: path.name)


def _folders(folder: Path) -> list[Path]:
    return [path for path in _entries(folder) if path.is_dir()]


def _files(folder: Path) -> list[Path]:
    files = _entries(folder)
    for path in files:
        if path.is_dir():
            raise InputError(f"{path} is a folder inside a class; wanted images only")
    return files


def _headers(classes: dict[str, list[Path]]) -> list[_Header]:
    return [_header(path) for paths in classes.values() for path in paths]


def _header(path: Path) -> _Header:
    try:
        with Image.open(path) as image:
            return _Header(path, image.size, is_grey(image.mode))
    except (*UNREADABLE, Image.DecompressionBombError) as error:
        raise InputError(
            f"{path} is not an image that Pillow can read ({error}); replace or remove it"
        ) from error


def _check_one_shape(headers: list[_Header]) -> None:
    first = headers[0]
    for header in headers:
        if header.size != first.size:
            raise InputError(
                f"{first.path} is {shape_words(first.size[::-1])} and {header.path} is "
                f"{shape_words(header.size[::-1])}; give --image-size"
            )


def _part(
    headers: list[_Header], class_names: tuple[str, ...], channels: int, size: int | None
) -> Part:
    place = {name: label for label, name in enumerate(class_names)}
    labels = np.array([place[header.path.parent.name] for header in headers], np.int32)
    width, height = headers[0].size

    def read(chosen: Indices) -> tuple[Pixels, Int32[np.ndarray, " chosen"]]:
        images = stacked(
            chosen,
            lambda index: decoded(
                headers[index].path, channels=channels, size=size, what=str(headers[index].path)
            ),
            pixels=width * height,
            what=lambda index: str(headers[index].path),
        )
        return images, labels[chosen]

    return Part(length=len(headers), labels=lambda: labels, read=read)
