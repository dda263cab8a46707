"""A labelled image dataset in memory."""

import hashlib
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped


@dataclass(frozen=True, kw_only=True, eq=False)
class Dataset:
    """Train and test images, normalised per channel by the training set's mean and deviation.

    Attributes:
        name: as given on the command line.
        class_names: a name for each label.
        x_train: normalised training images.
        y_train: labels, 0 to classes - 1.
        x_test: test images, normalised by the training set's numbers.
        y_test: labels.
        mean: per channel, on the scale from 0 (black) to 1 (white).
        std: per channel, likewise.
        fingerprint: changes with any pixel or label.
    """

    name: str
    class_names: tuple[str, ...]
    x_train: Float[np.ndarray, "train size size channels"]
    y_train: Int[np.ndarray, " train"]
    x_test: Float[np.ndarray, "test size size channels"]
    y_test: Int[np.ndarray, " test"]
    mean: Float[np.ndarray, " channels"]
    std: Float[np.ndarray, " channels"]
    fingerprint: str

    @property
    def classes(self) -> int:
        """How many classes there are."""
        return len(self.class_names)


def normalised(
    *,
    name: str,
    class_names: tuple[str, ...],
    x_train: Float[np.ndarray, "train size size channels"],
    y_train: Int[np.ndarray, " train"],
    x_test: Float[np.ndarray, "test size size channels"],
    y_test: Int[np.ndarray, " test"],
) -> Dataset:
    """A dataset from images between 0 (black) and 1 (white), with their labels."""
    mean = x_train.mean(axis=(0, 1, 2), dtype=np.float64).astype(np.float32)
    std = x_train.std(axis=(0, 1, 2), dtype=np.float64).astype(np.float32)
    return Dataset(
        name=name,
        class_names=class_names,
        x_train=((x_train - mean) / std).astype(np.float32),
        y_train=y_train.astype(np.int32),
        x_test=((x_test - mean) / std).astype(np.float32),
        y_test=y_test.astype(np.int32),
        mean=mean,
        std=std,
        fingerprint=_fingerprint(x_train, y_train, x_test, y_test),
    )


def _fingerprint(*arrays: Shaped[np.ndarray, "..."]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.shape}{array.dtype.str}".encode())
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()[:16]
