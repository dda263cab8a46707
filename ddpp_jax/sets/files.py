"""A distilled or selected set as a file (safetensors)."""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float, Int

import ddpp_jax
from ddpp_jax.configs.checks import SMALLEST
from ddpp_jax.data import (
    DIVISORS,
    TRANSFORM_ARRAYS,
    Transform,
    apply,
    carried_transform,
    checked_images,
    transform_shapes,
)
from ddpp_jax.errors import InputError
from ddpp_jax.sets.belonging import require_own
from ddpp_jax.sets.origin import check_origin
from ddpp_jax.sets.whitening import share_whitening, shared_whitening
from ddpp_jax.storage import digest_of, metadata_of, read_tensors, write_tensors
from ddpp_jax.text import checked_names

FORMAT = "ddpp-jax distilled set 5"
"""The key of the metadata, and a sign that a file is of this program."""

_ANY_FORMAT = "ddpp-jax distilled set"
_DTYPES = {"images": np.float32, "pixels": np.float32, "labels": np.int32, "alpha": np.float32}
_MOST_BEYOND = 0.1


class DistilledSet(NamedTuple):
    """A small set to train networks on, distilled or selected.

    Attributes:
        images: as the networks are trained on them, normalised or whitened.
        labels: a class for each image, or a row with the probability of each class.
        alpha: the learning rate that goes with them.
        class_names: a name for each label.
        transform: what turns pixels into images: `mean` and `std` per channel, or `zca_mean` and
            `zca_matrix` of whitening, (pixels - mean) @ matrix over the flattened image, or the
            four arrays of KIP's whitening (`Contrast`).
        pixels: the images as they look, with that undone: 0 is black, 1 is white, and what training
            pushed beyond stays beyond; None where nobody has looked yet. Of KIP's whitening, which
            takes each image's own mean and length away, they are shown by those of the data.
        origin: where the set comes from, as plain values: `method`, `ipc` and `seed`; `which` of a
            distillation's sets it is, and its `step`; and the `settings` of the job.
    """

    images: Float[np.ndarray, "images height width channels"]
    labels: Int[np.ndarray, " images"] | Float[np.ndarray, "images classes"]
    alpha: float
    class_names: tuple[str, ...] = ()
    transform: Mapping[str, Float[np.ndarray, "..."]] = MappingProxyType({})
    pixels: Float[np.ndarray, "images height width channels"] | None = None
    origin: Mapping[str, Any] = MappingProxyType({})

    @property
    def looks(self) -> Float[np.ndarray, "images height width channels"]:
        """The pixels.

        Raises:
            ValueError: nobody has looked yet.
        """
        if self.pixels is None:
            raise ValueError("this set has no pixels; undo its transform first")
        return self.pixels

    @property
    def hard_labels(self) -> Int[np.ndarray, " images"]:
        """A class for each image, the likeliest where labels are probabilities."""
        labels = np.asarray(self.labels)
        return labels if labels.ndim == 1 else labels.argmax(axis=1).astype(np.int32)

    def seen(self, pixels: Any) -> Float[np.ndarray, "..."]:
        """Real images as the networks of this set must see them: apply it to test images.

        Args:
            pixels: uint8 or floats from 0 to 1, of shape (images, height, width, channels). Deeper
                ones are first brought to 0 to 1 by the `low` and `high` of `origin["scale"]`.

        Raises:
            InputError: they are not so, or the set has no transform.
        """
        pixels, shape = np.asarray(pixels), self.images.shape[1:]
        if pixels.ndim != 4 or pixels.shape[1:] != shape:
            raise InputError(
                f"the pixels are of shape {pixels.shape}; wanted (images, "
                f"{', '.join(map(str, shape))})"
            )
        return apply(own_transform("the set", self), checked_images(pixels, "the pixels"))


def own_transform(what: Path | str, distilled: DistilledSet) -> Transform:
    """The transform that a set carries.

    Args:
        what: names the set in a message.
        distilled: the set.

    Raises:
        InputError: it has none, or one that does not fit its images.
    """
    transform = carried_transform(distilled.transform, distilled.images.shape[1:], str(what))
    if transform is None:
        raise InputError(f"{what} is damaged: it holds no transform; make it again")
    return transform


WHICH = ("last", "best-held-out", "best-test")
"""Which of a distillation's sets are kept."""


def origin_digest(origin: Mapping[str, Any]) -> str | None:
    """What the files of one distillation have in common: a digest of its method and settings.

    None of an origin that does not tell its settings.
    """
    if "settings" not in origin:
        return None
    return digest_of({name: origin.get(name) for name in ("method", "seed", "settings")})


def set_path(folder: Path, which: str) -> Path:
    """The file of one of a distillation's sets.

    Args:
        folder: of the distillation.
        which: `last`, `best-held-out` or `best-test`.
    """
    name = "distilled" if which == "last" else f"distilled-{which}"
    return folder / f"{name}.safetensors"


def write_distilled(path: Path, distilled: DistilledSet, *, run: Path | None = None) -> None:
    """Write a distilled set as safetensors, whole or not at all.

    Tensors `images`, `pixels`, `labels`, `alpha` and those of the transform; under the one key
    `FORMAT` of the metadata a JSON object with the version that wrote it, the class names and the
    origin. Equal sets give equal files.

    Args:
        path: of the file.
        distilled: the set.
        run: the folder of its run, which keeps a whitening once for all of its sets; None keeps it
            in the set's own file.
    """
    shared = None if run is None else share_whitening(run, path, distilled.transform)
    tensors = {
        "images": np.ascontiguousarray(distilled.images, np.float32),
        "pixels": np.ascontiguousarray(distilled.looks, np.float32),
        "labels": np.ascontiguousarray(distilled.labels, _label_dtype(distilled.labels)),
        "alpha": np.asarray(distilled.alpha, np.float32),
    }
    if shared is None:
        tensors |= {n: np.ascontiguousarray(a, np.float32) for n, a in distilled.transform.items()}
    values = {
        "version": ddpp_jax.__version__,
        "class_names": distilled.class_names,
        "origin": distilled.origin or {},
    }
    values |= {} if shared is None else {"whitening": shared}
    write_tensors(path, tensors, values, kind=FORMAT)


def is_distilled(path: Path) -> bool:
    """Whether a file is a set that `write_distilled` wrote, damaged or of an earlier version too.

    Raises:
        OSError: it cannot be read.
    """
    if path.suffix != ".safetensors" or not path.is_file():
        return False
    # The second sign holds where damage hit the first.
    return any(
        name.startswith(_ANY_FORMAT) or '"origin"' in value
        for name, value in metadata_of(path).items()
    )


def read_distilled(path: Path, *, remedy: str = "make or fetch it anew") -> DistilledSet:
    """Read a distilled set that `write_distilled` wrote.

    Args:
        path: of the file.
        remedy: what to do where it is damaged.

    Raises:
        InputError: the file is missing, damaged, edited, or not a distilled set.
        OSError: it cannot be read.
    """
    if not path.exists():
        raise InputError(f"there is no file {path}; wanted a distilled set")
    try:
        return _read(path)
    except InputError as error:
        raise InputError(f"{error}; {remedy}") from error


def _read(path: Path) -> DistilledSet:
    earlier = [name for name in metadata_of(path) if name.startswith(_ANY_FORMAT)]
    if earlier and FORMAT not in earlier:
        raise InputError(
            f"{path} is damaged, or a set of an earlier version: it is a {earlier[0]!r}, wanted "
            f"{FORMAT!r}"
        )
    tensors, values = read_tensors(path, kind=FORMAT)
    names, origin = values.get("class_names"), values.get("origin")
    check_origin(path, origin)
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InputError(f"{path} has class names that are no list of texts")
    labels = tensors.get("labels", np.zeros(0, np.int32))
    for name, dtype in (_DTYPES | {"labels": _label_dtype(labels)}).items():
        if name not in tensors or tensors[name].dtype != dtype:
            got = tensors[name].dtype if name in tensors else "nothing"
            raise InputError(f"{path} has {got} as {name}; wanted {np.dtype(dtype)}")
    alpha = tensors["alpha"]
    if alpha.shape != () or not 0 < alpha.item() < np.inf:
        raise InputError(f"{path} holds an alpha that is not above 0, or is no single number")
    transform = {name: array for name, array in tensors.items() if name not in _DTYPES}
    if "whitening" in values:
        transform |= shared_whitening(path, values["whitening"])
    distilled = DistilledSet(
        images=tensors["images"],
        pixels=tensors["pixels"],
        labels=tensors["labels"],
        alpha=float(alpha.item()),
        class_names=checked_names(names, str(path)),
        transform=transform,
        origin=dict(origin or {}),
    )
    _check_distilled(path, distilled)
    _check_transform(path, distilled)
    _check_place(path, distilled.origin)
    return distilled


def _check_place(path: Path, origin: Mapping[str, Any]) -> None:
    """Refuse a set that lies where another run, or another set of the same run, belongs."""
    if "settings" in origin:
        require_own(path, origin["settings"])
    named = {set_path(path.parent, which): which for which in WHICH}
    in_run = (path.parent / "metrics.jsonl").exists() and path in named
    if in_run and origin.get("which", named[path]) != named[path]:
        raise InputError(f"{path} holds the set {origin['which']!r} of its run")


def _label_dtype(labels: np.ndarray) -> type[np.int32] | type[np.float32]:
    """How labels are kept: classes as whole numbers, probabilities as floats."""
    return np.float32 if labels.ndim == 2 else np.int32


def _check_distilled(path: Path, distilled: DistilledSet) -> None:
    images, pixels = distilled.images, distilled.looks
    labels, classes = distilled.labels, len(distilled.class_names)
    if images.ndim != 4 or labels.shape[:1] != images.shape[:1] or images.size == 0:
        raise InputError(
            f"{path} holds images {images.shape} and labels {labels.shape}; wanted a label for "
            "each image of (height, width, channels)"
        )
    if images.shape[3] not in (1, 3):
        raise InputError(f"{path} holds images of {images.shape[3]} channels; wanted 1 or 3")
    if pixels.shape != images.shape:
        raise InputError(f"{path} holds pixels {pixels.shape} for images {images.shape}")
    if labels.ndim == 2 and (labels.shape[1] != classes or not np.isfinite(labels).all()):
        raise InputError(f"{path} has labels {labels.shape} for {classes} classes, or NaN in them")
    if labels.ndim == 1 and (labels.min() < 0 or labels.max() >= classes):
        raise InputError(f"{path} has labels beyond its {classes} classes")
    if not all(np.isfinite(values).all() for values in (images, pixels)):
        raise InputError(f"{path} holds NaN or infinite pixels")


def _check_transform(path: Path, distilled: DistilledSet) -> None:
    kinds = [transform_shapes(kind, distilled.images.shape[1:]) for kind in TRANSFORM_ARRAYS]
    found = {name: array.shape for name, array in distilled.transform.items()}
    if found not in kinds:
        raise InputError(
            f"{path} has the transform {found}; wanted {' or '.join(map(str, kinds))} for such "
            "images"
        )
    for name, array in distilled.transform.items():
        if array.dtype != np.float32 or not np.isfinite(array).all():
            raise InputError(f"{path} has a {name} that is not finite float32")
        if name in DIVISORS and array.min() < SMALLEST:
            raise InputError(f"{path} has a {name} of {array.min():g}; wanted {SMALLEST:g} or more")


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
