"""A small set as a folder of pictures, with what `range.json` beside them says of it."""

import unicodedata
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple, NotRequired, TypedDict

import numpy as np
from jaxtyping import Int32

from ddpp_jax.configs import DataConfig
from ddpp_jax.data.carried import ZcaProbe, from_small_record
from ddpp_jax.data.dataset import Transform, unit
from ddpp_jax.data.depth import EIGHT_BITS, FLOATS, Scale
from ddpp_jax.data.folder import folder_source
from ddpp_jax.data.raw import Pixels
from ddpp_jax.errors import InputError
from ddpp_jax.storage import plain_file, read_json, require_kind
from ddpp_jax.text import checked_names

RANGE_FILE = "range.json"
"""Beside the classes of a folder: which pixels the 0 and the 255 of its images stand for, and what
else is known of the set."""


class Pictures(NamedTuple):
    """The set of a folder.

    Attributes:
        images: pixels.
        labels: a class for each.
        alpha: the learning rate that came with them, if one did.
        class_names: a name for each label.
        transform: by which networks must see them; of a whitening, what tells it from others; None
            where the folder says nothing.
    """

    images: Pixels
    labels: Int32[np.ndarray, " images"]
    alpha: float | None
    class_names: tuple[str, ...]
    transform: Transform | ZcaProbe | None


class _Record(TypedDict):
    low: float
    high: float
    lr: NotRequired[float]
    classes: NotRequired[dict[str, str]]


class _Range(NamedTuple):
    """What `range.json` says."""

    low: float
    high: float
    alpha: float | None
    classes: dict[str, str] | None
    transform: Any


def read_pictures(path: Path, config: DataConfig, scale: Scale | None) -> Pictures:
    """The set of a folder of pictures, CLASS/*.

    In `range.json` beside them, `low` and `high` are the pixels that 0 and 255 stand for, in place
    of 0 and 1; `lr` is a learning rate; `classes` has the true names of the classes by folder, in
    the order of the labels; `transform` is the transform. All but the first two may be missing, and
    so may the file.

    Args:
        path: of the folder.
        config: the channels and the size that the images are brought to.
        scale: of the pixels of the data that the set was made from, which these share.

    Raises:
        InputError: it is not so.
    """
    file = path / RANGE_FILE
    said = _range(file) if file.exists() else None
    source = folder_source(
        path,
        replace(config, range=None),
        scale=scale if said is None else None,
        classes_only=said is not None and said.classes is not None,
    )
    if source.test is not None:
        raise InputError(f"{path} holds train and test; name {path / 'train'}")
    if source.scale not in (None, scale, Scale(FLOATS, 0.0, 1.0)):
        raise InputError(
            f"the images of {path} are {source.scale.kind}, and nothing says which of their pixels "
            f"are black and white; wanted {EIGHT_BITS} ones, or those of the data: convert them"
        )
    images, labels = source.train.read(np.arange(source.train.length))
    labels, names = labels.astype(np.int32), source.class_names
    if said is None:
        return Pictures(images, labels, None, names, None)
    if (said.low, said.high) != (0.0, 1.0):
        images = said.low + unit(images) * np.float32(said.high - said.low)
    if said.classes is not None:
        labels, names = _true_classes(file, labels, names, said.classes)
    transform = None
    if said.transform is not None:
        what = f"{file}: transform is damaged"
        transform = from_small_record(said.transform, source.shape, what)
    return Pictures(images, labels, said.alpha, names, transform)


def _true_classes(
    path: Path,
    labels: Int32[np.ndarray, " images"],
    folders: tuple[str, ...],
    classes: dict[str, str],
) -> tuple[Int32[np.ndarray, " images"], tuple[str, ...]]:
    """Labels in the order of the true names of the classes, and these, by those of the folders."""
    places = {unicodedata.normalize("NFC", name): n for n, name in enumerate(classes)}
    strange = [name for name in folders if name not in places]
    if strange:
        raise InputError(
            f"{path} names no class for the folder {strange[0]}; rename it as it was, or delete "
            f"{path}"
        )
    return np.array([places[n] for n in folders], np.int32)[labels], tuple(classes.values())


def _range(path: Path) -> _Range:
    found = read_json(plain_file(path))
    try:
        require_kind(found, _Record)
        low, high = float(found["low"]), float(found["high"])
        alpha = float(found["lr"]) if "lr" in found else None
    except (ValueError, OverflowError) as error:
        raise InputError(
            f"{path} is damaged: {error}; wanted low and high, numbers, and maybe lr and classes"
        ) from error
    classes = found.get("classes")
    most = float(np.finfo(np.float32).max)
    if not -most < low < high < most:
        raise InputError(f"{path} has low {low:g} and high {high:g}; wanted low below high")
    if alpha is not None and not 0 < alpha < most:
        raise InputError(f"{path} has lr {alpha:g}; wanted a finite number above 0")
    if classes is not None:
        true = checked_names([*classes.values()], str(path))
        classes = dict(zip(classes, true, strict=True))
    return _Range(low, high, alpha, classes, found.get("transform"))
