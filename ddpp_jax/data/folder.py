"""Folders of images, one folder a class."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Int32

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.depth import EIGHT_BITS, Scale, scale_of, scale_words
from ddpp_jax.data.layout import Classes, sides
from ddpp_jax.data.pictures import Header, quietly, read_header
from ddpp_jax.data.pixels import converted_shape, extent_of, pixels_of, stacked
from ddpp_jax.data.raw import Indices, Part, Pixels, Source, shape_words
from ddpp_jax.errors import InputError


class _File(NamedTuple):
    path: Path
    label: int
    header: Header


def folder_source(
    folder: Path, config: DataConfig, *, scale: Scale | None = None, classes_only: bool = False
) -> Source:
    """The images of a folder: `train/CLASS/*` and `test/CLASS/*`, or `CLASS/*` alone.

    The classes are in the order of their names, and so are the images of each. Hidden files
    and those that Windows leaves are left out, and so is what lies beside the folders of the
    classes. The images are grey if every one of them is, and in colour otherwise, unless the config
    says which. Pixels of more than eight bits become float32 (`depth.scale_of`).

    Args:
        folder: as `layout.sides` has it.
        config: the channels, the size and the range.
        scale: of pixels of its kind, in place of what the config and the images say.
        classes_only: the folders are classes, whatever they are called.

    Raises:
        InputError: the folders are not laid out so, a class has no images, the images differ in
            shape and the config has no size, or in depth, or a file is not an image.
    """
    folder = folder.resolve()
    found = sides(folder, classes_only=classes_only)
    names = tuple(found.train)
    train, notes = _files(found.train, names)
    test, more = _files(found.test or {}, names)
    every = [*train, *test]
    if config.image_size is None:
        _check_one_shape(every)
    _check_one_depth(every)
    width, height = every[0].header.size
    channels = 1 if all(file.header.grey for file in every) else 3
    shape = converted_shape((height, width, channels), config)
    scale, lines = _scale(every, config, scale, folder)
    parts = [
        _part(files, shape[-1], config.image_size, scale) if files else None
        for files in (train, test)
    ]
    assert parts[0] is not None
    return Source(
        name=folder.name,
        class_names=names,
        shape=shape,
        itemsize=1 if scale is None else 4,
        train=parts[0],
        test=parts[1],
        scale=scale,
        notes=(*found.notes, *notes, *more, *lines),
    )


def _files(classes: Classes, names: tuple[str, ...]) -> tuple[list[_File], list[str]]:
    """The files of some classes with their headers, and what Pillow said of them, in a line."""
    files, told = [], []
    with quietly() as said:
        for name, paths in classes.items():
            label = names.index(name)
            for path in paths:
                before = len(said)
                files.append(_File(path, label, read_header(path, str(path))))
                if len(said) > before:
                    told.append((path, " ".join(str(said[-1].message).split())))
    if not told:
        return files, []
    path, message = told[0]
    many = f", and of {len(told) - 1} more files" if len(told) > 1 else ""
    return files, [f"Pillow warns of {path}{many}: {message}"]


def _check_one_shape(files: list[_File]) -> None:
    first = files[0]
    for file in files:
        if file.header.size != first.header.size:
            raise InputError(
                f"{first.path} is {shape_words(first.header.size[::-1])} and {file.path} is "
                f"{shape_words(file.header.size[::-1])}; give --image-size"
            )


def _check_one_depth(files: list[_File]) -> None:
    first = files[0]
    for file in files:
        if file.header.depth != first.header.depth:
            raise InputError(
                f"{first.path} is {first.header.depth} and {file.path} is {file.header.depth}; "
                "nobody can tell which of their pixels are equal: convert them to one depth"
            )


def _scale(
    files: list[_File], config: DataConfig, scale: Scale | None, folder: Path
) -> tuple[Scale | None, list[str]]:
    """The scale of the pixels, and what is to be said of it."""
    kind, given = files[0].header.depth, config.low_high
    if scale is not None and scale.kind == kind:
        return scale, []
    if kind == EIGHT_BITS and given is None:
        return None, []
    if scale is not None and kind != EIGHT_BITS:
        raise InputError(
            f"the images of {folder} are {kind}, and those of the data {scale.kind}; convert them"
        )
    width, height = files[0].header.size
    found = extent_of(
        range(len(files)),
        lambda index: (files[index].path, str(files[index].path)),
        given,
        pixels=width * height,
    )
    scale = scale_of(kind, found, given, f"the pixels of {folder}")
    if scale is None:  # Floats from 0 to 1.
        return Scale(kind, 0.0, 1.0), []
    words = scale_words(scale, found, given=given is not None, what=f"pixels of {folder.name}")
    return scale, [words]


def _part(files: list[_File], channels: int, size: int | None, scale: Scale | None) -> Part:
    labels = np.array([file.label for file in files], np.int32)
    width, height = files[0].header.size

    def read(chosen: Indices) -> tuple[Pixels, Int32[np.ndarray, " chosen"]]:
        images = stacked(
            chosen,
            lambda index: pixels_of(
                files[index].path,
                channels=channels,
                size=size,
                scale=scale,
                what=str(files[index].path),
            ),
            pixels=width * height,
            what=lambda index: str(files[index].path),
        )
        return images, labels[chosen]

    return Part(length=len(files), labels=lambda: labels, read=read)
