"""A distilled set as arrays, with what turns real images into images of its kind."""

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

from ddpp_jax.data import Transform, apply, carried_transform, checked_images
from ddpp_jax.errors import InputError
from ddpp_jax.sets import read_distilled, set_path


class DistilledSet(NamedTuple):
    """A distilled or selected set.

    Attributes:
        images: as networks are trained on them, normalised or whitened, float32.
        labels: a class for each image, from 0.
        alpha: the learning rate that was distilled with them.
        class_names: a name for each label.
        transform: `transform(pixels)`, real images, uint8 or floats from 0 to 1, of shape (images,
            height, width, channels), as these networks must see them: apply it to test images. An
            InputError says what else it was given. Deeper pixels are first brought to 0 to 1 by the
            `low` and `high` of `origin["scale"]`.
        pixels: the images as they look, with the transform undone: 0 is black, 1 is white, and what
            training pushed beyond stays beyond.
        arrays: what the transform is made of: `mean` and `std` per channel, or `zca_mean` and
            `zca_matrix`.
        origin: where the set comes from, as plain values.
    """

    images: Float[np.ndarray, "images height width channels"]
    labels: Int[np.ndarray, " images"]
    alpha: float
    class_names: tuple[str, ...]
    transform: Callable[[np.ndarray], np.ndarray]
    pixels: Float[np.ndarray, "images height width channels"]
    arrays: Mapping[str, Float[np.ndarray, "..."]]
    origin: Mapping[str, Any]


def load_distilled(path: str | Path, *, which: str = "last") -> DistilledSet:
    """The set that a run left.

    Args:
        path: a run folder, or a `.safetensors` of this program.
        which: which of a run's sets: `last`, `best-held-out` or `best-test`.

    Raises:
        InputError: there is no such set, or it is damaged. (`ddpp_jax.errors.InputError`, a
            `ValueError`.)
    """
    path = Path(path)
    file = set_path(path, which) if path.is_dir() else path
    if not file.exists() and (path / "config.json").exists():
        raise InputError(f"{path} is of a run that is not finished; start its command again")
    if (file.parent / "export.json").exists():
        raise InputError(f"{path} is an export of a set; name the folder of the run that made it")
    if not file.exists():
        raise InputError(
            f"there is no {file}; wanted the folder of a finished run, or a .safetensors of one"
        )
    found = read_distilled(file)
    transform = carried_transform(found.transform, found.images.shape[1:], str(file))
    if transform is None:
        raise InputError(f"{file} is damaged: it holds no transform; make it again")
    return DistilledSet(
        images=found.images,
        labels=found.labels,
        alpha=found.alpha,
        class_names=found.class_names,
        transform=partial(_seen, transform, found.images.shape[1:]),
        pixels=found.looks,
        arrays=found.transform,
        origin=found.origin,
    )


def _seen(
    transform: Transform, shape: tuple[int, ...], pixels: Any
) -> Float[np.ndarray, "images height width channels"]:
    """Real images as the networks of a set must see them.

    Args:
        transform: of the set.
        shape: of its images: (height, width, channels).
        pixels: uint8 or floats from 0 to 1, of shape (images, height, width, channels).

    Raises:
        InputError: they are not so.
    """
    pixels = np.asarray(pixels)
    if pixels.ndim != 4 or pixels.shape[1:] != shape:
        raise InputError(
            f"the pixels are of shape {pixels.shape}; wanted (images, {', '.join(map(str, shape))})"
        )
    return apply(transform, checked_images(pixels, "the pixels"))
