"""Datasets that come as arrays: NumPy's files, and the digits inside scikit-learn."""

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TypeAlias

import numpy as np
from jaxtyping import Shaped

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.checks import require_memory, shape_words
from ddpp_jax.data.dataset import Source
from ddpp_jax.data.depth import EIGHT_BITS, FLOATS, Extent, Scale, extent, fit_scale, joined
from ddpp_jax.data.labels import as_texts, label_arrays
from ddpp_jax.data.npy import NpyImages
from ddpp_jax.data.pixels import array_part, converted_shape
from ddpp_jax.data.transforms import chunks
from ddpp_jax.errors import InputError, words
from ddpp_jax.storage import plain_file
from ddpp_jax.text import checked_names

Array: TypeAlias = Shaped[np.ndarray, "..."] | NpyImages
"""An array in memory, or one of images that stays in its file."""

_IMAGES = ("x_train", "x_test")
_OTHERS = ("y_train", "y_test", "class_names")


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
    """A dataset in an `.npz` file, which stays in memory as it came.

    It holds `x_train` and `y_train`, and either both or neither of `x_test` and `y_test`: images
    (n, height, width) or (n, height, width, channels) with 1 or 3 channels, of any numbers
    (`depth.fit_scale`), and labels (`labels.label_arrays`). `class_names` may be there.

    Raises:
        InputError: it cannot be read, or does not hold that, or is damaged, or too big for the
            memory.
    """
    return _arrays_source(path, path.stem, read_npz(path), config)


def npy_source(folder: Path, config: DataConfig) -> Source:
    """A dataset in a folder with `x_train.npy`, `y_train.npy` and so on, as in an `.npz` file.

    That is what an unpacked `.npz` file is. Images stay in their files and are read by index.

    Raises:
        InputError: as `npz_source`, or an array of images is not kept row by row.
    """
    folder = folder.resolve()
    arrays: dict[str, Array] = {}
    for path in sorted(folder.glob("*.npy")):
        if path.stem in _IMAGES:
            arrays[path.stem] = NpyImages.open(path)
        elif path.stem in _OTHERS:
            arrays[path.stem] = _small_array(path)
    source = _arrays_source(folder, folder.name, arrays, config)
    files = [folder / f"{name}.npy" for name in arrays]
    return source._replace(files_fn=lambda: files)


def is_npy_folder(folder: Path) -> bool:
    """Whether a folder holds a dataset as `npy_source` reads it."""
    return (folder / "x_train.npy").is_file()


def _arrays_source(
    place: Path, name: str, arrays: Mapping[str, Array], config: DataConfig
) -> Source:
    has_test = "x_test" in arrays or "y_test" in arrays
    sides = ("train", "test") if has_test else ("train",)
    for array in (f"{letter}_{side}" for side in sides for letter in "xy"):
        if array not in arrays:
            raise InputError(
                f"{place} has no {array}; wanted x_train, y_train, x_test, y_test "
                f"and maybe class_names, it holds {', '.join(sorted(arrays)) or 'nothing'}"
            )
    images = {side: _images(place, f"x_{side}", arrays[f"x_{side}"]) for side in sides}
    if has_test:
        _check_alike(place, images["train"], images["test"])
    given = {
        name: arrays[name]
        for name in (*(f"y_{side}" for side in sides), "class_names")
        if name in arrays
    }
    others = {name: array for name, array in given.items() if isinstance(array, np.ndarray)}
    labels, class_names, notes = label_arrays(
        {f"y_{side}": others[f"y_{side}"] for side in sides},
        {f"y_{side}": len(images[side]) for side in sides},
        class_names_of(place, others),
        f"{place}:",
    )
    scale, lines = _scale(place, images, config)
    parts = [array_part(images[side], labels[f"y_{side}"], config, scale) for side in sides]
    _, height, width, channels = images["train"].shape
    return Source(
        name=name,
        class_names=class_names,
        shape=converted_shape((height, width, channels), config),
        itemsize=1 if scale is None and images["train"].dtype == np.uint8 else 4,
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


def _small_array(path: Path) -> Shaped[np.ndarray, "..."]:
    try:
        return np.load(path, allow_pickle=False)
    except Exception as error:  # A damaged file may raise anything.
        raise InputError(
            f"{path} cannot be read: {words(error)}; write it as plain numbers or strings"
        ) from error


def _images(path: Path, name: str, images: Array) -> Array:
    """The images with their channels last, of any numbers."""
    shape = images.shape
    if images.ndim == 3:
        images = images.grey() if isinstance(images, NpyImages) else images[..., None]
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


def _check_alike(path: Path, train: Array, test: Array) -> None:
    if test.shape[1:] != train.shape[1:]:
        raise InputError(
            f"{path}: x_train holds images of {shape_words(train.shape[1:])}, x_test of "
            f"{shape_words(test.shape[1:])}; wanted one shape"
        )
    if train.dtype != test.dtype and (train.dtype.kind, test.dtype.kind) != ("f", "f"):
        raise InputError(
            f"{path}: x_train is {train.dtype} and x_test {test.dtype}; wanted one type"
        )


def _scale(
    path: Path, images: Mapping[str, Array], config: DataConfig
) -> tuple[Scale | None, list[str]]:
    """What brings the pixels to the scale from 0 to 1, if anything does; and what was assumed."""
    dtype, given = images["train"].dtype, config.low_high
    kind = FLOATS if dtype.kind == "f" else EIGHT_BITS if dtype == np.uint8 else str(dtype)

    def measure() -> Extent:
        extents = {
            side: joined(extent(part[chunk], given) for chunk in chunks(part))
            for side, part in images.items()
        }
        for side, found in extents.items():
            if not np.isfinite([found.low, found.high]).all():
                raise InputError(
                    f"{path}: pixels of x_{side} hold NaN or infinite pixels; wanted finite ones"
                )
        return joined(extents.values())

    return fit_scale(kind, measure, given, what=f"{path}: the pixels", place=path.name)
