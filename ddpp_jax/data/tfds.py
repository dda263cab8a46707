"""The datasets of TensorFlow Datasets, read from ArrayRecord files without TensorFlow."""

import io
import re
from bisect import bisect_right
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, UInt8
from PIL import Image

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.pixels import UNREADABLE, converted_shape, decoded, stacked
from ddpp_jax.data.raw import Indices, Part, Pixels, Source
from ddpp_jax.errors import InputError
from ddpp_jax.files import expanded

_NEEDED = ("tensorflow_datasets", "array_record", "importlib_resources")
_DATASETS = (
    "wanted digits, a name that TFDS knows, a folder of images or an .npz file "
    "(here or in --data-dir)"
)


def tfds_source(folder: Path | None, config: DataConfig) -> Source:
    """A dataset of TFDS: its train split, and its test or else its validation split.

    Images and labels are the features that the dataset names for supervised learning, or else its
    one image and its one class label, or the class label called `label`.

    Args:
        folder: where a version of it is prepared, or none to ask TFDS for `config.dataset`.
        config: the name, and where TFDS keeps its datasets.

    Raises:
        InputError: TFDS does not know the name, the data cannot be had, are damaged, are prepared
            in another format than ArrayRecord, or are not labelled images.
    """
    for module in _NEEDED:
        if find_spec(module) is None:
            raise InputError(
                f"--dataset {config.dataset} is read through TFDS, and {module} is not installed; "
                "pip install tensorflow-datasets array-record importlib-resources"
            )
    builder = _builder(config) if folder is None else _builder_of(folder)
    info = builder.info
    formats = {kind.value for kind in info.available_file_formats()}
    if "array_record" not in formats:
        raise InputError(
            f"{builder.data_path} is prepared as {', '.join(sorted(formats))}; wanted array_record:"
            ' prepare it anew with download_and_prepare(file_format="array_record")'
        )
    splits = {name for name, split in info.splits.items() if split.num_examples}
    if "train" not in splits:
        raise InputError(f"{config.dataset} has no train split, only {', '.join(sorted(splits))}")
    test = next((name for name in ("test", "validation") if name in splits), None)
    image, label = _keys(info, config.dataset)
    train_reader = _Reader(builder, "train", image, label)
    test_reader = None if test is None else _Reader(builder, test, image, label)
    width, height = train_reader.size(0)
    channels = 1 if info.features[image].shape[-1] == 1 else 3
    shape = converted_shape((height, width, channels), config)
    how = (shape[-1], config.image_size, width * height)
    return Source(
        name=_display_name(folder, config.dataset),
        class_names=tuple(info.features[label].names),
        shape=shape,
        itemsize=1,
        train=train_reader.part(*how),
        test=None if test_reader is None else test_reader.part(*how),
    )


def prepared_folder(folder: Path) -> Path | None:
    """The folder of the latest version that TFDS prepared in a dataset's folder, or none.

    Args:
        folder: holds VERSION/dataset_info.json or CONFIG/VERSION/dataset_info.json, or is such a
            VERSION itself.

    Raises:
        InputError: several configs of the dataset are there.
    """
    if (folder / "dataset_info.json").is_file():
        return folder
    versions = _versions(folder.glob("*/dataset_info.json"))
    if not versions:
        versions = _versions(folder.glob("*/*/dataset_info.json"))
        configs = sorted({version.parent.name for version in versions})
        if len(configs) > 1:
            raise InputError(
                f"{folder} holds several configs; give one, as --dataset {folder.name}/{configs[0]}"
                f" ({', '.join(configs)})"
            )
    return versions[-1] if versions else None


def _versions(infos: Iterator[Path]) -> list[Path]:
    folders = [path.parent for path in infos if re.fullmatch(r"\d+\.\d+\.\d+", path.parent.name)]
    return sorted(folders, key=lambda folder: tuple(map(int, folder.name.split("."))))


def _display_name(folder: Path | None, dataset: str) -> str:
    if folder is not None and dataset.startswith(("/", ".", "~")):
        return folder.resolve().parent.name
    return re.sub("[/:]", "-", dataset.strip("/"))


def _builder_of(folder: Path) -> Any:
    import tensorflow_datasets as tfds
    from google.protobuf.json_format import ParseError

    try:
        return tfds.builder_from_directory(folder)
    except (OSError, ValueError, KeyError, ParseError) as error:
        raise InputError(
            f"{folder} cannot be read as a dataset of TFDS: {_first_line(error)}; prepare it anew"
        ) from error


def _builder(config: DataConfig) -> Any:
    import tensorflow_datasets as tfds

    data_dir = None if config.data_dir is None else expanded(config.data_dir)
    try:
        builder = tfds.builder(config.dataset, data_dir=data_dir)
    except tfds.core.DatasetNotFoundError as error:
        raise InputError(f"--dataset is {config.dataset!r}; {_DATASETS}") from error
    except (ValueError, AssertionError, ImportError) as error:
        said = _first_line(error)
        raise InputError(f"--dataset is {config.dataset!r}: {said}; {_DATASETS}") from error
    if not (Path(builder.data_path) / "dataset_info.json").is_file():
        _prepare(builder, config.dataset)
    return builder


def _prepare(builder: Any, name: str) -> None:
    place = builder.data_path
    if find_spec("tensorflow") is None:
        raise InputError(
            f"{name} is not prepared in {place.parent}; preparing a download needs TensorFlow "
            f"(pip install tensorflow), or put a prepared ArrayRecord copy in {place}"
        )
    from tensorflow_datasets.core.download.download_manager import NonMatchingChecksumError
    from tensorflow_datasets.core.download.extractor import ExtractError
    from tensorflow_datasets.core.download.util import DownloadError

    failures = (DownloadError, ExtractError, NonMatchingChecksumError)
    try:
        builder.download_and_prepare(file_format="array_record")
    except (OSError, ImportError, AssertionError, *failures) as error:
        raise InputError(
            f"{name} is not prepared in {place.parent} and cannot be downloaded: "
            f"{_first_line(error)}; put a prepared ArrayRecord copy in {place}"
        ) from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _keys(info: Any, name: str) -> tuple[str, str]:
    from tensorflow_datasets import features

    images = [key for key, kind in info.features.items() if isinstance(kind, features.Image)]
    labels = [key for key, kind in info.features.items() if isinstance(kind, features.ClassLabel)]
    keys = info.supervised_keys
    if isinstance(keys, tuple) and len(keys) == 2 and keys[0] in images and keys[1] in labels:
        return keys[0], keys[1]
    if "label" in labels:
        labels = ["label"]
    if len(images) != 1 or len(labels) != 1:
        raise InputError(
            f"{name} has the images {images} and the class labels {labels}; wanted one of each"
        )
    return images[0], labels[0]


class _Reader:
    """The examples of a split, with images as encoded bytes."""

    def __init__(self, builder: Any, split: str, image: str, label: str) -> None:
        from tensorflow_datasets import decode, features

        self._split = builder.info.splits[split]
        self._image, self._label = image, label
        self._files = [Path(path) for path in self._split.filepaths]
        self._ends = list(accumulate(self._split.shard_lengths))
        for path in self._files:
            if not path.is_file():
                raise InputError(f"{path} is missing; prepare the dataset anew")
        kinds = builder.info.features.items()
        decoders = {
            k: decode.SkipDecoding() for k, kind in kinds if isinstance(kind, features.Image)
        }
        self._examples = builder.as_data_source(split, decoders=decoders)

    def _what(self, index: int) -> str:
        file = self._files[bisect_right(self._ends, index)]
        return f"{file}, example {index} of {self._split.name}"

    def _example(self, index: int) -> dict[str, Any]:
        from google.protobuf.message import DecodeError

        try:
            return self._examples[index]
        except (RuntimeError, IndexError, DecodeError) as error:
            raise InputError(
                f"{self._what(index)}, is damaged: {_first_line(error)}; prepare the dataset anew"
            ) from error

    def size(self, index: int) -> tuple[int, int]:
        """Width and height of an image."""
        file = io.BytesIO(self._example(index)[self._image])
        try:
            with Image.open(file) as image:
                return image.size
        except UNREADABLE as error:
            raise InputError(f"{self._what(index)}, is not an image: {error}") from error

    def part(self, channels: int, size: int | None, pixels: int) -> Part:
        """The split as a part of a source."""
        count = self._split.num_examples

        def labels() -> Int32[np.ndarray, " images"]:
            return np.array([self._example(i)[self._label] for i in range(count)], np.int32)

        def read(chosen: Indices) -> tuple[Pixels, Int32[np.ndarray, " chosen"]]:
            found: dict[int, int] = {}

            def image(index: int) -> UInt8[np.ndarray, "height width channels"]:
                example = self._example(index)
                found[index] = example[self._label]
                file = io.BytesIO(example[self._image])
                return decoded(file, channels=channels, size=size, what=self._what(index))

            images = stacked(chosen, image, pixels=pixels, what=self._what)
            return images, np.array([found[int(index)] for index in chosen], np.int32)

        return Part(length=count, labels=labels, read=read)
