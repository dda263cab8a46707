"""A distilled or selected set as a file (safetensors), and the versions behind a result."""

import importlib.metadata
import json
import math
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Float, Int

import ddpp_jax
from ddpp_jax.errors import InputError
from ddpp_jax.files import Replacement

FORMAT = "ddpp-jax distilled set 3"
"""The key of the metadata, and a sign that a file is ours."""

_MOST_BEYOND = 0.1


class DistilledFile(NamedTuple):
    """A distilled set as it lies on disk.

    Attributes:
        images: as the networks are trained on them, normalised or whitened.
        pixels: the same as they look, with that undone: 0 is black, 1 is white, and what training
            pushed beyond stays beyond.
        labels: one for each image.
        alpha: the learning rate that was distilled with them.
        class_names: a name for each label.
        transform: what turns pixels into images: `mean` and `std` per channel, or `zca_mean` and
            `zca_matrix` of whitening, (pixels - mean) @ matrix over the flattened image.
        origin: where the set comes from, as plain values: `method`, `ipc` and `seed`; `iterate`,
            which of a distillation's sets it is, and its `step`; and the `settings` of the job.
    """

    images: Float[np.ndarray, "images height width channels"]
    pixels: Float[np.ndarray, "images height width channels"]
    labels: Int[np.ndarray, " images"]
    alpha: float
    class_names: tuple[str, ...]
    transform: Mapping[str, Float[np.ndarray, "..."]]
    origin: Mapping[str, Any]


def iterate_path(folder: Path, iterate: str) -> Path:
    """The file of one of a distillation's sets.

    Args:
        folder: of the distillation.
        iterate: `last`, `held-out` or `max-test`.
    """
    name = "distilled" if iterate == "last" else f"distilled-{iterate}"
    return folder / f"{name}.safetensors"


def write_distilled(path: Path, distilled: DistilledFile) -> None:
    """Write a distilled set as safetensors, whole or not at all.

    Tensors `images`, `pixels`, `labels`, `alpha` and those of the transform; under the one key
    `FORMAT` of the metadata a JSON object with the version that wrote it, the class names and the
    origin. Equal sets give equal files.
    """
    tensors = {
        "images": np.ascontiguousarray(distilled.images, np.float32),
        "pixels": np.ascontiguousarray(distilled.pixels, np.float32),
        "labels": np.ascontiguousarray(distilled.labels, np.int32),
        "alpha": np.asarray(distilled.alpha, np.float32),
    }
    tensors |= {n: np.ascontiguousarray(a, np.float32) for n, a in distilled.transform.items()}
    metadata = {
        "version": ddpp_jax.__version__,
        "class_names": distilled.class_names,
        "origin": distilled.origin,
    }
    with Replacement(path) as temporary:
        # One entry, since safetensors writes several in an order that changes from run to run.
        # By way of bytes, since safetensors' own writing leaves a file of its own behind a kill.
        temporary.write_bytes(
            safetensors.numpy.save(tensors, metadata={FORMAT: json.dumps(metadata)})
        )


def is_distilled(path: Path) -> bool:
    """Whether a file is a set that `write_distilled` wrote."""
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return FORMAT in (file.metadata() or {})
    except (OSError, safetensors.SafetensorError):
        return False


def read_distilled(path: Path) -> DistilledFile:
    """Read a distilled set that `write_distilled` wrote.

    Raises:
        InputError: the file is missing, damaged, or not a distilled set.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            entries = file.metadata() or {}
            if FORMAT not in entries:
                raise InputError(f"{path} is not a distilled set of this program")
            names = file.keys()
            tensors = {name: file.get_tensor(name) for name in names}
        metadata = json.loads(entries[FORMAT])
        distilled = DistilledFile(
            images=tensors.pop("images"),
            pixels=tensors.pop("pixels"),
            labels=tensors.pop("labels"),
            alpha=float(tensors.pop("alpha").item()),
            class_names=tuple(metadata["class_names"]),
            transform=tensors,
            origin=metadata["origin"],
        )
    except InputError:
        raise
    except (OSError, safetensors.SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} cannot be read as a distilled set: {error}") from error
    _check_distilled(path, distilled)
    return distilled


def _check_distilled(path: Path, distilled: DistilledFile) -> None:
    images, labels, classes = distilled.images, distilled.labels, len(distilled.class_names)
    if images.ndim != 4 or labels.shape != images.shape[:1] or len(labels) == 0:
        raise InputError(
            f"{path} holds images {images.shape} and labels {labels.shape}; wanted a label for "
            "each image of (height, width, channels)"
        )
    if distilled.pixels.shape != images.shape:
        raise InputError(f"{path} holds pixels {distilled.pixels.shape} for images {images.shape}")
    if labels.dtype.kind != "i" or labels.min() < 0 or labels.max() >= classes:
        raise InputError(f"{path} has labels beyond its {classes} classes")
    if not np.isfinite(images).all() or not 0 < distilled.alpha < math.inf:
        raise InputError(f"{path} holds NaN or infinite pixels, or an alpha that is not above 0")


def shown_range(pixels: Float[np.ndarray, "..."]) -> tuple[float, float]:
    """Which pixels are drawn black and white: 0 and 1, or further apart where many lie beyond.

    Where training pushed more than a tenth of the pixels beyond black or white, contrast is
    lowered, so that all but the darkest and the lightest percent are seen.
    """
    beyond = (pixels < 0) | (pixels > 1)
    if float(beyond.mean()) <= _MOST_BEYOND:
        return 0.0, 1.0
    low, high = np.percentile(pixels, (1, 99))
    return float(low), float(high)


def versions() -> dict[str, str]:
    """The versions of this package, of Python, and of the packages that figures depend on."""
    packages = ("jax", "jaxlib", "flax", "optax", "numpy", "orbax-checkpoint")
    own = {"ddpp-jax": ddpp_jax.__version__, "python": platform.python_version()}
    return own | {name: importlib.metadata.version(name) for name in packages}
