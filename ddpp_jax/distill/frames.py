"""How distilled images come about: some of them, at some steps, as they look."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int

from ddpp_jax.data import ImageArray
from ddpp_jax.errors import InputError
from ddpp_jax.storage import read_tensors, write_tensors

FOLDER = "history"
REAL = "real"
FORMAT = "ddpp-jax frame 1"
"""The key of a frame's metadata."""

_FRAMES = 12
_MOST_IMAGES = 200
_MOST_PER_CLASS = 10
_MOST_CLASSES = 10**6
_DTYPES = {"pixels": np.float16, "labels": np.int32}
_LARGEST = float(np.finfo(np.float16).max)


class Frames:
    """Keeps frames of a distillation in its folder, `history/000200.safetensors` after step 200.

    A frame has the `pixels` of the first images of each class, no more than 200 in all, as float16,
    with normalisation or whitening undone; and their `labels`. `history/real.safetensors` has real
    images of the same classes. Frames lie closer at the beginning, where images change faster.
    """

    def __init__(self, folder: Path, labels: np.ndarray, steps: int, *, of: str | None) -> None:
        """Prepare the frames.

        Args:
            folder: of the distillation.
            labels: of the distilled images; the classes, or rows of their probabilities.
            steps: how many there will be.
            of: what the frames are of, as a digest.
        """
        self._of, self._folder = of, folder / FOLDER
        self.steps = frozenset(round(steps * (n / _FRAMES) ** 2) for n in range(_FRAMES + 1))
        classes = labels if labels.ndim == 1 else labels.argmax(axis=1)
        self._places = first_of_each(classes)
        self._labels = classes[self._places].astype(np.int32)

    def keep_real(
        self, images: ImageArray, labels: np.ndarray, pixels_fn: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        """Keep real images of the same classes.

        Args:
            images: real ones, normalised.
            labels: of those.
            pixels_fn: undoes the normalisation.
        """
        most = int(np.bincount(self._labels).max())
        places = first_of_each(labels, most=most, classes=np.unique(self._labels))
        self._write(REAL, pixels_fn(np.asarray(images[places], np.float32)), labels[places])

    def keep(
        self, step: int, images: np.ndarray, pixels_fn: Callable[[np.ndarray], np.ndarray]
    ) -> None:
        """Keep a frame.

        Args:
            step: how many steps are done.
            images: the whole distilled set after them.
            pixels_fn: undoes the normalisation.
        """
        chosen = np.asarray(images[self._places], np.float32)
        self._write(f"{step:06d}", pixels_fn(chosen), self._labels)

    def _write(self, name: str, pixels: np.ndarray, labels: np.ndarray) -> None:
        path = self._folder / f"{name}.safetensors"
        tensors = {"pixels": np.clip(pixels, -_LARGEST, _LARGEST), "labels": labels}
        tensors = {n: a.astype(_DTYPES[n]) for n, a in tensors.items()}
        write_tensors(path, tensors, {"name": name, "of": self._of}, kind=FORMAT)


def first_of_each(
    labels: np.ndarray, *, most: int | None = None, classes: np.ndarray | None = None
) -> Int[np.ndarray, " places"]:
    """The places of the first images of each class, in the order of the classes.

    Args:
        labels: of all images.
        most: images of a class; None takes what keeps all of them at 200 or so.
        classes: which; None takes all that there are.
    """
    classes = np.unique(labels) if classes is None else classes
    classes = classes[:_MOST_IMAGES]
    most = most or max(1, min(_MOST_PER_CLASS, _MOST_IMAGES // len(classes)))
    return np.concatenate([np.flatnonzero(labels == label)[:most] for label in classes])


def read_frame(
    path: Path, *, of: str | None = None
) -> tuple[Float[np.ndarray, "images height width channels"], Int[np.ndarray, " images"]]:
    """The pixels of a frame, as float32, and its labels.

    Args:
        path: of the frame.
        of: what it must be of, as a digest; None does not ask.

    Raises:
        InputError: the file is damaged, or another's.
        OSError: it cannot be read.
    """
    try:
        tensors, values = read_tensors(path, kind=FORMAT)
        kinds = {name: array.dtype for name, array in tensors.items()}
        if values.get("name") != path.stem or kinds != _DTYPES:
            raise InputError(f"{path} is damaged: it holds {values} and {kinds}")
        if None not in (of, values.get("of")) and values["of"] != of:
            raise InputError(f"{path} is of another distillation")
        pixels, labels = tensors["pixels"].astype(np.float32), tensors["labels"]
        if pixels.ndim != 4 or pixels.size == 0 or labels.shape != pixels.shape[:1]:
            raise InputError(f"{path} is damaged: pixels {pixels.shape}, labels {labels.shape}")
        if not np.isfinite(pixels).all() or labels.min() < 0 or labels.max() >= _MOST_CLASSES:
            raise InputError(f"{path} is damaged: its pixels or labels are out of range")
    except InputError as error:
        raise InputError(f"{error}; delete it, and the report goes without it") from error
    return pixels, labels
