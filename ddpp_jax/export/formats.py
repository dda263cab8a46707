"""The files that other tools read."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from ddpp_jax.data import (
    CHANNELS_FIRST,
    CHANNELS_LAST,
    EXPORT_FORMAT,
    IMAGES_DIGEST,
    LAYOUT,
    RANGE_FILE,
    TRANSFORM_FILE,
    arrays_of,
    images_digest,
    require_torch,
    small_record,
    transform_from,
)
from ddpp_jax.errors import InputError
from ddpp_jax.export.card import write_card
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import Replacement, write_json, write_tensors
from ddpp_jax.text import file_names


class Export(NamedTuple):
    """What is written where.

    Attributes:
        small: the set, its images in the order of their classes.
        folder: it need not exist.
        channels_first: whether arrays are (images, channels, height, width), as PyTorch has them.
    """

    small: DistilledSet
    folder: Path
    channels_first: bool


def export(
    small: DistilledSet, folder: Path, formats: Sequence[str], *, channels_first: bool
) -> list[Path]:
    """Write a set in some formats, in the order of its classes; what was written.

    Args:
        small: the set.
        folder: where to; it need not exist.
        formats: of `FORMATS`.
        channels_first: of `npz` and `safetensors`; the tensors of PyTorch are so anyway.

    Raises:
        InputError: a format needs a package that is not installed, or has no place for
            probabilities.
        OSError: the folder cannot be written to.
    """
    order = np.argsort(small.hard_labels, kind="stable")
    small = small._replace(
        images=small.images[order], pixels=small.looks[order], labels=small.labels[order]
    )
    what = Export(small, folder, channels_first)
    return [path for name in formats for path in FORMATS[name](what)]


def pixel_range(pixels: Float[np.ndarray, "..."]) -> tuple[float, float]:
    """What the 0 and the 255 of eight bits stand for: 0 and 1, or what lies beyond those."""
    return min(0.0, float(pixels.min())), max(1.0, float(pixels.max()))


def _png(what: Export) -> list[Path]:
    """A folder for each class, as `torchvision.datasets.ImageFolder` and our own commands read.

    Where training pushed pixels beyond black or white, eight bits stand for that wider range, which
    `range.json` in the folder tells: cut pixels would be another set. It also has the true name of
    the class in each folder, since not every name can be that of a folder, and says by which
    transform networks must see the pictures; of a whitening, whose matrix would be too large, it
    holds what tells it from others. Of KIP's whitening networks must see them by `from_shown`.
    """
    small, folder = what.small, what.folder / "images"
    if small.labels.ndim == 2:
        raise InputError("the format png has no place for probabilities; choose npz")
    low, high = pixel_range(small.looks)
    levels = np.rint((small.looks - low) / (high - low) * 255).astype(np.uint8)
    names = file_names(small.class_names)
    places = np.zeros(len(names), int)
    for image, label in zip(levels, small.labels, strict=True):
        picture = Image.fromarray(image[:, :, 0] if image.shape[2] == 1 else image)
        with Replacement(folder / names[label] / f"{places[label]:04d}.png") as temporary:
            picture.save(temporary)
        places[label] += 1
    about = {
        "low": low,
        "high": high,
        "lr": small.alpha,
        "classes": dict(zip(names, small.class_names, strict=True)),
        "transform": small_record(transform_from(small.transform)),
    }
    write_json(folder / RANGE_FILE, about)
    return [folder]


def _npz(what: Export) -> list[Path]:
    path = what.folder / "distilled.npz"
    arrays: dict[str, Any] = _arrays(what) | {
        "class_names": np.array(what.small.class_names),
        LAYOUT: np.array(_layout(what)),
    }
    with Replacement(path) as temporary:
        np.savez_compressed(temporary, **arrays)
    return [path]


def _safetensors(what: Export) -> list[Path]:
    path = what.folder / "distilled.safetensors"
    about = {"class_names": what.small.class_names, LAYOUT: _layout(what)}
    write_tensors(path, _arrays(what), about, kind=EXPORT_FORMAT)
    return [path]


def _arrays(what: Export) -> dict[str, np.ndarray]:
    small = what.small
    arrays = {
        "images": _placed(small.images, what.channels_first),
        "pixels": _placed(small.looks, what.channels_first),
        "labels": _labels(small),
        "lr": np.asarray(small.alpha, np.float32),
    }
    return arrays | _transform(small, channels_first=what.channels_first)


def _transform(small: DistilledSet, *, channels_first: bool) -> dict[str, np.ndarray]:
    """The arrays of the transform, in the order in which the images beside them are flattened."""
    transform = transform_from(small.transform)
    return arrays_of(transform, small.images.shape[1:], channels_first=channels_first)


def _labels(small: DistilledSet) -> np.ndarray:
    """Classes as whole numbers, or a row with the probability of each."""
    return small.labels.astype(np.int64 if small.labels.ndim == 1 else np.float32)


def _layout(what: Export) -> str:
    return CHANNELS_FIRST if what.channels_first else CHANNELS_LAST


def _placed(images: np.ndarray, channels_first: bool) -> np.ndarray:
    moved = np.moveaxis(images, 3, 1) if channels_first else images
    return np.ascontiguousarray(moved, np.float32)


def _tensors(images: str, labels: str, rate: str) -> Callable[[Export], list[Path]]:
    """PyTorch's files of one tensor each, by name: normalised floats, classes, and the rate.

    `transform.pt` beside them has the transform that made the images, channels first as they are.
    """

    def write(what: Export) -> list[Path]:
        torch = require_torch("the formats mtt and dd-ranking")
        small = what.small
        pictures = _placed(small.images, True)
        transform = _transform(small, channels_first=True)
        found = {
            images: torch.from_numpy(pictures),
            labels: torch.from_numpy(_labels(small)),
            rate: torch.tensor(small.alpha, dtype=torch.float32),
            TRANSFORM_FILE: {
                **{name: torch.from_numpy(array) for name, array in transform.items()},
                "class_names": list(small.class_names),
                IMAGES_DIGEST: images_digest(pictures),
            },
        }
        for name, content in found.items():
            with Replacement(what.folder / name) as temporary:
                torch.save(content, temporary)
        return [what.folder / name for name in found]

    return write


FORMATS: Mapping[str, Callable[[Export], list[Path]]] = {
    "png": _png,
    "npz": _npz,
    "safetensors": _safetensors,
    "card": lambda what: [write_card(what.small, what.folder, pixel_range(what.small.looks))],
    "mtt": _tensors("images_best.pt", "labels_best.pt", "lr_best.pt"),
    "dd-ranking": _tensors("images.pt", "labels.pt", "lr.pt"),
}
"""What writes each format; all give back what they wrote."""

LIGHT = ("png", "npz", "safetensors", "card")
"""Those that need nothing but this program's own packages."""
