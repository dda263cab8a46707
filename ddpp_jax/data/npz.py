"""NumPy's .npz files with images and labels."""

import zipfile
import zlib
from pathlib import Path

import numpy as np
from jaxtyping import Int32, Shaped

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.pixels import array_part, converted_shape
from ddpp_jax.data.raw import (
    Pixels,
    Source,
    checked_images,
    checked_labels,
    require_memory,
    shape_words,
)
from ddpp_jax.errors import InputError

_DAMAGED = (OSError, ValueError, EOFError, NotImplementedError, zipfile.BadZipFile, zlib.error)
"""What NumPy raises for a file or an array that it cannot read without pickle."""


def npz_source(path: Path, config: DataConfig) -> Source:
    """The images of a file that `numpy.savez` wrote.

    It holds `x_train` and `y_train`, and either both or neither of `x_test` and `y_test`: images
    (n, height, width), which are grey, or (n, height, width, channels), uint8 from 0 to 255 or
    floats from 0 to 1, and a whole number from 0 for each; and maybe `class_names`, strings.
    Nothing in it is unpickled.

    Raises:
        InputError: the file is not so, or too big for the memory.
    """
    arrays = read_npz(path)
    has_test = "x_test" in arrays or "y_test" in arrays
    for name in ("x_train", "y_train", *(("x_test", "y_test") if has_test else ())):
        if name not in arrays:
            raise InputError(
                f"{path} has no {name}; wanted x_train, y_train, x_test, y_test "
                f"and maybe class_names, it holds {', '.join(sorted(arrays)) or 'nothing'}"
            )
    x_train, y_train = _labelled(path, arrays, "train", None)
    if "class_names" in arrays:
        class_names = class_names_of(path, arrays["class_names"])
    else:
        found = np.unique(y_train)
        if found[-1] != len(found) - 1:
            raise InputError(
                f"{path}: y_train holds {len(found)} labels from {found[0]} to {found[-1]}; "
                f"wanted every whole number from 0 to {len(found) - 1}"
            )
        class_names = tuple(str(label) for label in range(len(found)))
    classes = len(class_names)
    checked_labels(y_train, x_train, f"{path}: y_train", classes)
    test = None
    if has_test:
        x_test, y_test = _labelled(path, arrays, "test", classes)
        if x_test.shape[1:] != x_train.shape[1:]:
            raise InputError(
                f"{path}: x_train holds images of {shape_words(x_train.shape[1:])}, x_test of "
                f"{shape_words(x_test.shape[1:])}; wanted one shape"
            )
        if x_test.dtype != x_train.dtype:
            raise InputError(
                f"{path}: x_train is {x_train.dtype} and x_test {x_test.dtype}; wanted one type"
            )
        test = array_part(x_test, y_test, config)
    _, height, width, channels = x_train.shape
    return Source(
        name=path.stem,
        class_names=class_names,
        shape=converted_shape((height, width, channels), config),
        itemsize=x_train.itemsize,
        train=array_part(x_train, y_train, config),
        test=test,
    )


def read_npz(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Every array of a file that `numpy.savez` wrote; nothing in it is unpickled.

    Raises:
        InputError: the file is damaged, needs pickle, or is too big for the memory.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        require_memory(size, what=f"the arrays of {path}", remedy="make it smaller")
        with np.load(path, allow_pickle=False) as file:
            return {name: _array(path, file, name) for name in file.files}
    except InputError:
        raise
    except _DAMAGED as error:
        raise InputError(f"{path} cannot be read as an .npz file: {error}") from error


def _array(path: Path, file: np.lib.npyio.NpzFile, name: str) -> Shaped[np.ndarray, "..."]:
    try:
        return np.asarray(file[name])
    except _DAMAGED as error:
        raise InputError(
            f"{path}: {name} cannot be read: {error}; write it as plain numbers or strings"
        ) from error


def _labelled(
    path: Path, arrays: dict[str, Shaped[np.ndarray, "..."]], side: str, classes: int | None
) -> tuple[Pixels, Int32[np.ndarray, " images"]]:
    images, labels = arrays[f"x_{side}"], arrays[f"y_{side}"]
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        raise InputError(
            f"{path}: x_{side} is of shape {arrays[f'x_{side}'].shape}; "
            "wanted (n, height, width), or (n, height, width, channels) with 1 or 3 channels"
        )
    if labels.ndim == 2 and labels.shape[-1] == 1:
        labels = labels[:, 0]
    images = checked_images(images, f"{path}: pixels of x_{side}")
    return images, checked_labels(labels, images, f"{path}: labels of y_{side}", classes)


def class_names_of(path: Path, names: Shaped[np.ndarray, "..."]) -> tuple[str, ...]:
    """The names of the classes, from an array of strings.

    Raises:
        InputError: it is none.
    """
    if names.dtype.kind != "U" or names.ndim != 1:
        raise InputError(
            f"{path}: class_names is {names.dtype} of shape {names.shape}; "
            "wanted a list of strings, a name for each label"
        )
    return tuple(map(str, names))
