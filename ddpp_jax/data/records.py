"""Datasets of other people's making: anything with a length and records by index."""

from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Int32, Shaped

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.checks import Pixels, checked_images, shape_words
from ddpp_jax.data.dataset import Indices, Part, Source
from ddpp_jax.data.pixels import converted, converted_shape
from ddpp_jax.errors import InputError


@runtime_checkable
class Records(Protocol):
    """What Grain calls a random-access data source, and PyTorch a map-style dataset."""

    def __len__(self) -> int:
        """How many records there are."""
        ...

    def __getitem__(self, index: int, /) -> Any:
        """A record: a mapping, or a pair of an image and its label."""
        ...


class Keys(NamedTuple):
    """Under which keys records that are mappings have what is needed."""

    image: str = "image"
    label: str = "label"


def records_source(
    name: str,
    class_names: Sequence[str],
    train: Records,
    test: Records | None = None,
    *,
    config: DataConfig,
    keys: Keys | None = None,
) -> Source:
    """A dataset whose images and labels are records by index, such as those of TFDS or Grain.

    An image is an array (height, width) or (height, width, 1 or 3), or what `numpy.asarray` makes
    one of: uint8 from 0 to 255, or floats from 0 to 1. A label is a whole number from 0. The labels
    of all records are read once, images when they are asked for.

    Args:
        name: for people and file names.
        class_names: a name for each label.
        train: records to train on, or all of them if there is no test set.
        test: records to test on, if there are any.
        config: the channels and the size that images are brought to; its dataset plays no part.
        keys: of records that are mappings; None takes `image` and `label`.

    Raises:
        InputError: a record is not so, or there are none.
    """
    keys = keys or Keys()
    for part, what in ((train, "train"), (test, "test")):
        if part is not None and not len(part):
            raise InputError(f"{name}: {what} holds no records; wanted at least one")
    first, _ = _record(train, 0, keys, f"{name}: record 0 of train")
    return Source(
        name=name,
        class_names=tuple(class_names),
        shape=converted_shape(first.shape, config),
        itemsize=first.itemsize,
        train=_part(train, keys, first, config, what=f"{name}: record {{}} of train"),
        test=None
        if test is None
        else _part(test, keys, first, config, what=f"{name}: record {{}} of test"),
    )


def _part(
    records: Records,
    keys: Keys,
    first: Shaped[np.ndarray, "height width channels"],
    config: DataConfig,
    *,
    what: str,
) -> Part:
    @cache
    def labels() -> Int32[np.ndarray, " images"]:
        every = range(len(records))
        return np.asarray([_record(records, n, keys, what.format(n))[1] for n in every], np.int32)

    def read(chosen: Indices) -> tuple[Pixels, Int32[np.ndarray, " chosen"]]:
        images, found = np.empty((len(chosen), *first.shape), first.dtype), []
        for place, index in enumerate(chosen.tolist()):
            named = what.format(index)
            image, label = _record(records, index, keys, named)
            if image.shape != first.shape or image.dtype != first.dtype:
                raise InputError(
                    f"{named} is {image.dtype} of {shape_words(image.shape)}, and the first is "
                    f"{first.dtype} of {shape_words(first.shape)}; wanted one type and shape"
                )
            images[place] = image
            found.append(label)
        return converted(images, config), np.asarray(found, np.int32)

    return Part(length=len(records), labels=labels, read=read)


def _record(
    records: Records, index: int, keys: Keys, what: str
) -> tuple[Shaped[np.ndarray, "height width channels"], int]:
    """The image and the label of a record."""
    record = records[index]
    if isinstance(record, Mapping):
        lacking = [key for key in keys if key not in record]
        if lacking:
            raise InputError(
                f"{what} has no {lacking[0]!r}; it has {', '.join(map(repr, record))}: give keys"
            )
        image, label = record[keys.image], record[keys.label]
    elif isinstance(record, tuple | list) and len(record) == 2:
        image, label = record
    else:
        raise InputError(
            f"{what} is a {type(record).__name__}; wanted a mapping, or an image and its label"
        )
    pixels, number = np.asarray(image), np.asarray(label)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if pixels.ndim != 3 or pixels.shape[-1] not in (1, 3):
        raise InputError(
            f"{what} is an image of shape {pixels.shape}; wanted (height, width), or "
            "(height, width, channels) with 1 or 3 channels"
        )
    if number.size != 1 or number.dtype.kind not in "iu":
        raise InputError(f"{what} has the label {label!r}; wanted a whole number")
    return checked_images(pixels[None], what)[0], int(number.reshape(()))
