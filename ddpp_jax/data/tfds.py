"""The datasets of TensorFlow Datasets, read from ArrayRecord files without TensorFlow."""

import re
from bisect import bisect_right
from collections.abc import Iterator
from importlib.util import find_spec
from itertools import accumulate
from pathlib import Path
from typing import Any

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.dataset import Source
from ddpp_jax.data.pictures import quietly, read_header
from ddpp_jax.data.pixels import Picture, Pictures, converted_shape, picture_parts
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
            ' prepare it again with download_and_prepare(file_format="array_record")'
        )
    splits = {name for name, split in info.splits.items() if split.num_examples}
    if "train" not in splits:
        raise InputError(f"{config.dataset} has no train split, only {', '.join(sorted(splits))}")
    test = next((name for name in ("test", "validation") if name in splits), None)
    image, label = _keys(info, config.dataset)
    used = ["train"] if test is None else ["train", test]
    sides = [_pictures(builder, split, image, label) for split in used]
    first = sides[0].get(0)
    with quietly():
        header = read_header(first.file, first.what)
    width, height = header.size
    channels = 1 if info.features[image].shape[-1] == 1 else 3
    shape = converted_shape((height, width, channels), config)
    name = re.sub("[/:]", "-", config.dataset.strip("/"))
    if folder is not None and config.dataset.startswith(("/", ".", "~")):
        name = folder.resolve().parent.name
    said = []
    if test == "validation":
        said = [f"{name} has no test split; its validation split is tested on"]
    elif "validation" in splits:
        said = [f"{name} also has a validation split, not used"]
    parts, scale, notes = picture_parts(sides, header, shape[-1], config, what=name, place=name)
    return Source(
        name=name,
        class_names=tuple(info.features[label].names),
        shape=shape,
        itemsize=1 if scale is None else 4,
        train=parts[0],
        test=None if test is None else parts[1],
        scale=scale,
        notes=(*said, *notes),
        files_fn=lambda: [Path(file) for split in used for file in info.splits[split].filepaths],
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


def _builder_of(folder: Path) -> Any:
    import tensorflow_datasets as tfds
    from google.protobuf.json_format import ParseError

    try:
        return tfds.builder_from_directory(folder)
    except (OSError, ValueError, KeyError, ParseError) as error:
        raise InputError(
            f"{folder} cannot be read as a dataset of TFDS: {_first_line(error)}; prepare it again"
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


def _pictures(builder: Any, split: str, image: str, label: str) -> Pictures:
    """The images of a split, encoded, and their labels."""
    from google.protobuf.message import DecodeError
    from tensorflow_datasets import decode, features

    info = builder.info.splits[split]
    files = [Path(path) for path in info.filepaths]
    ends = list(accumulate(info.shard_lengths))
    for path in files:
        if not path.is_file():
            raise InputError(f"{path} is missing; prepare the dataset again")
    kinds = builder.info.features.items()
    decoders = {k: decode.SkipDecoding() for k, kind in kinds if isinstance(kind, features.Image)}
    examples = builder.as_data_source(split, decoders=decoders)

    def get(index: int) -> Picture:
        what = f"{files[bisect_right(ends, index)]}, example {index} of {split}"
        try:
            example = examples[index]
        except (RuntimeError, IndexError, DecodeError) as error:
            raise InputError(
                f"{what}, is damaged: {_first_line(error)}; prepare the dataset again"
            ) from error
        return Picture(example[image], int(example[label]), what)

    return Pictures(info.num_examples, get)
