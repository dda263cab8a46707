"""NumPy's .npz files with images and labels."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.depth import (
    EIGHT_BITS,
    FLOATS,
    Scale,
    extent,
    joined,
    scale_of,
    scale_words,
    to_unit,
)
from ddpp_jax.data.labels import as_texts, label_arrays
from ddpp_jax.data.pixels import array_part, converted_shape
from ddpp_jax.data.raw import Pixels, Source, checked_images, require_memory, shape_words
from ddpp_jax.errors import InputError
from ddpp_jax.storage import plain_file
from ddpp_jax.text import checked_names


def npz_source(path: Path, config: DataConfig) -> Source:
    """The images of a file that `numpy.savez` wrote.

    It holds `x_train` and `y_train`, and either both or neither of `x_test` and `y_test`: images
    (n, height, width), which are grey, or (n, height, width, channels), uint8 from 0 to 255, floats
    from 0 to 1, or other numbers, which become floats (`depth.scale_of`); and labels, in any of the
    forms of `labels.label_arrays`; and maybe `class_names`, strings. Nothing in it is unpickled.

    Raises:
        InputError: the file is not so, or too big for the memory.
    """
    arrays = read_npz(path)
    has_test = "x_test" in arrays or "y_test" in arrays
    sides = ("train", "test") if has_test else ("train",)
    for name in (f"{letter}_{side}" for side in sides for letter in "xy"):
        if name not in arrays:
            raise InputError(
                f"{path} has no {name}; wanted x_train, y_train, x_test, y_test "
                f"and maybe class_names, it holds {', '.join(sorted(arrays)) or 'nothing'}"
            )
    images = {side: _images(path, f"x_{side}", arrays[f"x_{side}"]) for side in sides}
    if has_test:
        _check_alike(path, images)
    names = class_names_of(path, arrays["class_names"]) if "class_names" in arrays else None
    labels, class_names, notes = label_arrays(
        {f"y_{side}": arrays[f"y_{side}"] for side in sides},
        {f"y_{side}": len(images[side]) for side in sides},
        names,
        f"{path}:",
    )
    pixels, scale, lines = _pixels(path, images, config)
    parts = [array_part(pixels[side], labels[f"y_{side}"], config) for side in sides]
    _, height, width, channels = images["train"].shape
    return Source(
        name=path.stem,
        class_names=class_names,
        shape=converted_shape((height, width, channels), config),
        itemsize=pixels["train"].itemsize,
        train=parts[0],
        test=parts[1] if has_test else None,
        scale=scale,
        notes=(*lines, *notes),
    )


def read_npz(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Every array of a file that `numpy.savez` wrote; nothing in it is unpickled.

    Raises:
        InputError: the file is damaged, needs pickle, or is too big for the memory.
    """
    plain_file(path)
    try:
        with zipfile.ZipFile(path) as archive:
            size = sum(entry.file_size for entry in archive.infolist())
        require_memory(size, what=f"the arrays of {path}", remedy="make it smaller")
        with np.load(path, allow_pickle=False) as file:
            return {name: _array(path, file, name) for name in file.files}
    except InputError:
        raise
    except Exception as error:  # What a damaged file raises has no bounds.
        raise InputError(f"{path} cannot be read as an .npz file: {_said(error)}") from error


def _array(path: Path, file: np.lib.npyio.NpzFile, name: str) -> Shaped[np.ndarray, "..."]:
    try:
        return np.asarray(file[name])
    except Exception as error:  # Likewise.
        raise InputError(
            f"{path}: {name} cannot be read: {_said(error)}; write it as plain numbers or strings"
        ) from error


def _said(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__


def _images(path: Path, name: str, images: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The images with their channels last, of whatever numbers they are."""
    shape = images.shape
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        hint = (
            f"; numpy.moveaxis({name}, 1, 3) moves the channels there"
            if images.ndim == 4 and shape[1] in (1, 3)
            else ""
        )
        raise InputError(
            f"{path}: {name} is of shape {shape}; wanted (n, height, width), or "
            f"(n, height, width, channels) with 1 or 3 channels{hint}"
        )
    if images.dtype.kind not in "biuf":
        raise InputError(
            f"{path}: {name} is {images.dtype}; wanted uint8, other integers or floats"
        )
    if images.size == 0:
        raise InputError(f"{path}: {name} is of shape {shape}; wanted at least one image")
    return images


def _check_alike(path: Path, images: Mapping[str, Shaped[np.ndarray, "..."]]) -> None:
    train, test = images["train"], images["test"]
    if test.shape[1:] != train.shape[1:]:
        raise InputError(
            f"{path}: x_train holds images of {shape_words(train.shape[1:])}, x_test of "
            f"{shape_words(test.shape[1:])}; wanted one shape"
        )
    floats = [images.dtype.kind == "f" for images in (train, test)]
    if train.dtype != test.dtype and not all(floats):
        raise InputError(
            f"{path}: x_train is {train.dtype} and x_test {test.dtype}; wanted one type"
        )


def _pixels(
    path: Path, images: Mapping[str, Shaped[np.ndarray, "..."]], config: DataConfig
) -> tuple[dict[str, Pixels], Scale | None, list[str]]:
    """Images as uint8 or floats from 0 to 1; the scale of these, and what is to be said of it."""
    dtype, given = images["train"].dtype, config.low_high
    kind = FLOATS if dtype.kind == "f" else EIGHT_BITS if dtype == np.uint8 else str(dtype)
    whats = {side: f"{path}: pixels of x_{side}" for side in images}
    if kind == EIGHT_BITS and given is None:
        return {s: checked_images(found, whats[s]) for s, found in images.items()}, None, []
    extents = {side: extent(part, given) for side, part in images.items()}
    for side, found in extents.items():
        if not np.isfinite([found.low, found.high]).all():
            raise InputError(f"{whats[side]} hold NaN or infinite pixels; wanted finite ones")
    found = joined(extents.values())
    scale = scale_of(kind, found, given, f"{path}: the pixels")
    if scale is None:
        return {s: checked_images(part, whats[s]) for s, part in images.items()}, None, []
    words = scale_words(scale, found, given=given is not None, what=f"pixels of {path.name}")
    return {side: to_unit(part, scale) for side, part in images.items()}, scale, [words]


def class_names_of(path: Path, names: Shaped[np.ndarray, "..."]) -> tuple[str, ...]:
    """The names of the classes, from an array of strings.

    Raises:
        InputError: it is none, or one of them cannot be shown, or two are equal.
    """
    texts = as_texts(names, f"{path}: class_names") if names.ndim == 1 else None
    if texts is None:
        raise InputError(
            f"{path}: class_names is {names.dtype} of shape {names.shape}; "
            "wanted a list of strings, a name for each label"
        )
    return checked_names(texts.tolist(), f"{path}: class_names")
