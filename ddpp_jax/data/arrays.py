"""Datasets that come as arrays: NumPy's .npz files, and the digits inside scikit-learn."""

import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.checks import Pixels, checked_images, require_memory, shape_words
from ddpp_jax.data.dataset import Source
from ddpp_jax.data.depth import (
    EIGHT_BITS,
    FLOATS,
    Extent,
    Scale,
    extent,
    fit_scale,
    joined,
    to_unit,
)
from ddpp_jax.data.labels import as_texts, label_arrays
from ddpp_jax.data.pixels import array_part, converted_shape
from ddpp_jax.errors import InputError, words
from ddpp_jax.storage import plain_file
from ddpp_jax.text import checked_names


def digits_source(config: DataConfig) -> Source:
    """1,797 grey 8x8 images of ten digits: 1,442 to train on, 355 to test on.

    E. Alpaydin and C. Kaynak, Optical Recognition of Handwritten Digits, UCI, 1998. The split is
    fixed and stratified: within each class every fifth image, in the order of the file, is a test
    image.

    Raises:
        InputError: `data_dir` or `range` is given.
    """
    from sklearn.datasets import load_digits

    if config.data_dir is not None:
        raise InputError("the digits come with scikit-learn; leave --data-dir out")
    if config.range is not None:
        raise InputError("the digits are pixels from 0 to 1 already; leave --range out")
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels.reshape(-1, 8, 8, 1) / 16).astype(np.float32)
    is_test = np.zeros(len(labels), dtype=bool)
    for label in range(10):
        is_test[np.flatnonzero(labels == label)[4::5]] = True
    return Source(
        name="digits",
        class_names=tuple(str(label) for label in range(10)),
        shape=converted_shape((8, 8, 1), config),
        itemsize=4,
        train=array_part(images[~is_test], labels[~is_test], config),
        test=array_part(images[is_test], labels[is_test], config),
    )


def npz_source(path: Path, config: DataConfig) -> Source:
    """The images of a file that `numpy.savez` wrote.

    It holds `x_train` and `y_train`, and either both or neither of `x_test` and `y_test`: images
    (n, height, width), which are grey, or (n, height, width, channels), uint8 from 0 to 255, floats
    from 0 to 1, or other numbers, which become floats (`depth.fit_scale`); labels, in any of the
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
        _check_alike(path, images["train"], images["test"])
    labels, class_names, notes = label_arrays(
        {f"y_{side}": arrays[f"y_{side}"] for side in sides},
        {f"y_{side}": len(images[side]) for side in sides},
        class_names_of(path, arrays),
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
    except Exception as error:  # A damaged file may raise anything.
        raise InputError(f"{path} cannot be read as an .npz file: {words(error)}") from error


def class_names_of(
    path: Path, arrays: Mapping[str, Shaped[np.ndarray, "..."]]
) -> tuple[str, ...] | None:
    """The names of the classes, from the array `class_names`; None if there is none.

    Raises:
        InputError: they are no strings, or one of them cannot be shown, or two are equal.
    """
    if "class_names" not in arrays:
        return None
    names, what = arrays["class_names"], f"{path}: class_names"
    texts = as_texts(names, what) if names.ndim == 1 else None
    if texts is None:
        raise InputError(
            f"{what} is {names.dtype} of shape {names.shape}; "
            "wanted a list of strings, a name for each label"
        )
    return checked_names(texts.tolist(), what)


def _array(path: Path, file: np.lib.npyio.NpzFile, name: str) -> Shaped[np.ndarray, "..."]:
    try:
        return np.asarray(file[name])
    except Exception as error:  # Likewise.
        raise InputError(
            f"{path}: {name} cannot be read: {words(error)}; write it as plain numbers or strings"
        ) from error


def _images(path: Path, name: str, images: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """The images with their channels last, of any numbers."""
    shape = images.shape
    if images.ndim == 3:
        images = images[..., None]
    if images.ndim != 4 or images.shape[-1] not in (1, 3):
        hint = ""
        if images.ndim == 4 and shape[1] in (1, 3):
            hint = f"; numpy.moveaxis({name}, 1, 3) moves the channels there"
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


def _check_alike(
    path: Path, train: Shaped[np.ndarray, "..."], test: Shaped[np.ndarray, "..."]
) -> None:
    if test.shape[1:] != train.shape[1:]:
        raise InputError(
            f"{path}: x_train holds images of {shape_words(train.shape[1:])}, x_test of "
            f"{shape_words(test.shape[1:])}; wanted one shape"
        )
    if train.dtype != test.dtype and (train.dtype.kind, test.dtype.kind) != ("f", "f"):
        raise InputError(
            f"{path}: x_train is {train.dtype} and x_test {test.dtype}; wanted one type"
        )


def _pixels(
    path: Path, images: Mapping[str, Shaped[np.ndarray, "..."]], config: DataConfig
) -> tuple[dict[str, Pixels], Scale | None, list[str]]:
    """Images as uint8 or floats from 0 to 1; their scale, and what was assumed."""
    dtype, given = images["train"].dtype, config.low_high
    kind = FLOATS if dtype.kind == "f" else EIGHT_BITS if dtype == np.uint8 else str(dtype)

    def measure() -> Extent:
        extents = {side: extent(part, given) for side, part in images.items()}
        for side, found in extents.items():
            if not np.isfinite([found.low, found.high]).all():
                raise InputError(
                    f"{path}: pixels of x_{side} hold NaN or infinite pixels; wanted finite ones"
                )
        return joined(extents.values())

    scale, lines = fit_scale(kind, measure, given, what=f"{path}: the pixels", place=path.name)
    if scale is None:
        found = {s: checked_images(part, f"{path}: pixels of x_{s}") for s, part in images.items()}
        return found, None, lines
    return {side: to_unit(part, scale) for side, part in images.items()}, scale, lines
