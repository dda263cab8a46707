"""The datasets of TensorFlow Datasets, read from ArrayRecord files without TensorFlow."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int32, Shaped

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.depth import EIGHT_BITS, Extent, Scale, joined, scale_of, scale_words
from ddpp_jax.data.pictures import Header, quietly, read_header
from ddpp_jax.data.pixels import converted_shape, extent_of, pixels_of, stacked
from ddpp_jax.data.raw import Indices, Part, Pixels, Source
from ddpp_jax.errors import InputError
from ddpp_jax.storage import expanded

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
    with quietly():
        header = train_reader.header(0)
    width, height = header.size
    channels = 1 if info.features[image].shape[-1] == 1 else 3
    shape = converted_shape((height, width, channels), config)
    readers = [reader for reader in (train_reader, test_reader) if reader is not None]
    name = _display_name(folder, config.dataset)
    scale, notes = _scale(name, readers, header, config)
    parts = [reader.part(shape[-1], config.image_size, width * height, scale) for reader in readers]
    return Source(
        name=name,
        class_names=tuple(info.features[label].names),
        shape=shape,
        itemsize=1 if scale is None else 4,
        train=parts[0],
        test=None if test is None else parts[1],
        scale=scale,
        notes=(*_unused(name, splits, test), *notes),
    )


def _unused(name: str, splits: set[str], test: str | None) -> list[str]:
    """What is to be said of a dataset's validation split."""
    if test == "validation":
        return [f"{name} has no test split; its validation split is tested on"]
    return [f"{name} also has a validation split, not used"] if "validation" in splits else []


def _scale(
    name: str, readers: "list[_Reader]", header: Header, config: DataConfig
) -> tuple[Scale | None, list[str]]:
    """The scale of the pixels, by those of all splits that are read, and what is said of it."""
    given = config.low_high
    if header.depth == EIGHT_BITS and given is None:
        return None, []
    width, height = header.size
    found = joined(reader.extent(given, pixels=width * height) for reader in readers)
    scale = scale_of(header.depth, found, given, f"the pixels of {name}")
    if scale is None:  # Floats from 0 to 1.
        return Scale(header.depth, 0.0, 1.0), []
    return scale, [scale_words(scale, found, given=given is not None, what=f"pixels of {name}")]


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

    def header(self, index: int) -> Header:
        """What an image says of its pixels."""
        return read_header(self._example(index)[self._image], self._what(index))

    def extent(self, given: tuple[float, float] | None, *, pixels: int) -> Extent:
        """Between which values the pixels of the split lie."""
        return extent_of(
            range(self._split.num_examples),
            lambda index: (self._example(index)[self._image], self._what(index)),
            given,
            pixels=pixels,
        )

    def part(self, channels: int, size: int | None, pixels: int, scale: Scale | None) -> Part:
        """The split as a part of a source."""
        count = self._split.num_examples

        def labels() -> Int32[np.ndarray, " images"]:
            return np.array([self._example(i)[self._label] for i in range(count)], np.int32)

        def read(chosen: Indices) -> tuple[Pixels, Int32[np.ndarray, " chosen"]]:
            found: dict[int, int] = {}

            def image(index: int) -> Shaped[np.ndarray, "height width channels"]:
                example = self._example(index)
                found[index] = example[self._label]
                what = self._what(index)
                return pixels_of(
                    example[self._image], channels=channels, size=size, scale=scale, what=what
                )

            images = stacked(chosen, image, pixels=pixels, what=self._what)
            return images, np.array([found[int(index)] for index in chosen], np.int32)

        return Part(length=count, labels=labels, read=read)
