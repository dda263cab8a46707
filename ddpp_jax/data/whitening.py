"""The transform that fits a training set: per channel, or ZCA whitening kept in a file.

ZCA: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009.
"""

from pathlib import Path

import numpy as np

from ddpp_jax.data.checks import ByIndex, require_memory, shape_words
from ddpp_jax.data.dataset import Dataset, keep
from ddpp_jax.data.stored import Stored
from ddpp_jax.data.transforms import PerChannel, Transform, Zca, fit_per_channel, unit, with_inverse
from ddpp_jax.errors import InputError
from ddpp_jax.storage import (
    check_unheld,
    read_sealed,
    read_tensors,
    require_space,
    write_json,
    write_tensors,
)

FORMAT = "ddpp-jax zca 2"
"""The key of a cache file's metadata."""

_REMEDY = "delete it, and the same command makes it again"
_SQUARES = 6
"""Square float64 matrices that are alive at once while the eigenvectors are found."""
_ROWS = 2048
"""Images that the covariance takes in at once."""


def fit_zca(images: ByIndex, *, eps: float = 0.1) -> Zca:
    """The ZCA whitening of a set of images, in double precision.

    With V and S from the eigendecomposition of the covariance over N - 1, the matrix is
    V diag(1 / sqrt(S + eps)) V^T.

    Raises:
        InputError: the memory does not suffice.
    """
    size = int(np.prod(images.shape[1:]))
    _require_memory(images)
    count = len(images)
    chunks = [slice(start, start + _ROWS) for start in range(0, count, _ROWS)]

    def flat(chunk: slice) -> np.ndarray:
        found = images[chunk]
        return unit(found.reshape(len(found), size), np.float64)

    mean = np.zeros(size)
    for chunk in chunks:
        mean += flat(chunk).sum(axis=0)
    mean /= count
    covariance = np.zeros((size, size))
    for chunk in chunks:
        centred = flat(chunk) - mean
        covariance += centred.T @ centred
    covariance /= count - 1
    variances, vectors = np.linalg.eigh(covariance)
    # Rounding can leave a variance of nothing slightly below zero.
    half = vectors * (np.maximum(variances, 0) + eps) ** -0.25
    return Zca(mean, half @ half.T)


def fit_transform(raw: Dataset, *, zca: bool, cache_dir: Path | None) -> Transform:
    """The transform that fits the training images.

    Args:
        raw: the dataset, as it came.
        zca: whitening; otherwise normalisation per channel.
        cache_dir: where the whitening is kept as `zca-FINGERPRINT.safetensors`, and read from the
            next time, and the mean and deviation of images that are read by index likewise, as
            `channels-FINGERPRINT.json`; None keeps them nowhere.

    Raises:
        InputError: the memory or the disk does not suffice, or the file there is damaged.
    """
    keep(raw)
    if not zca:
        return _per_channel(raw, cache_dir, keep=True)
    path = None if cache_dir is None else _kept(cache_dir, raw)
    if path is not None and path.exists():
        return _read(path, raw)
    mean, matrix, _ = fit_zca(raw.x_train)
    transform = with_inverse(Zca(mean.astype(np.float32), matrix.astype(np.float32)))
    if path is not None:
        _require_disk(path, mean.size)
        values = {"fingerprint": raw.fingerprint}
        try:
            write_tensors(path, transform._asdict(), values, kind=FORMAT)
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}; choose another folder") from error
    return transform


def require_transform(raw: Dataset, *, zca: bool, cache_dir: Path) -> None:
    """Refuse what `fit_transform` would refuse, without a whitening's work.

    Raises:
        InputError: as there.
    """
    path = _kept(cache_dir, raw)
    if not zca:
        _per_channel(raw, cache_dir, keep=False)
    elif path.exists():
        _read(path, raw)
    else:
        _require_memory(raw.x_train)
        _require_disk(path, int(np.prod(raw.x_train.shape[1:])))
        check_unheld(cache_dir)


def _per_channel(raw: Dataset, cache_dir: Path | None, *, keep: bool) -> PerChannel:
    """The mean and deviation of each channel; kept where it takes the reading of all images."""
    remedy = ""
    if raw.scale is not None:
        _, low, high = raw.scale
        remedy = f", or another --range, since this one cuts all to {low:g} or {high:g}"
    if cache_dir is None or not isinstance(raw.x_train, Stored):
        return fit_per_channel(raw.x_train, remedy=remedy)
    path = cache_dir / f"channels-{raw.fingerprint}.json"
    if path.exists():
        kept = read_sealed(path, remedy=_REMEDY)
        return PerChannel(*(np.asarray(kept[name], np.float32) for name in PerChannel._fields))
    try:
        found = raw.x_train.per_channel
    except InputError as error:
        raise InputError(f"{error}{remedy}") from error
    if keep:  # Every float32 is a float64, whose shortest decimals come back as the same bits.
        write_json(path, {name: part.tolist() for name, part in found._asdict().items()})
    return found


def _kept(cache_dir: Path, raw: Dataset) -> Path:
    return cache_dir / f"zca-{raw.fingerprint}.safetensors"


def _require_memory(images: ByIndex) -> None:
    size = int(np.prod(images.shape[1:]))
    require_memory(
        8 * (_SQUARES * size**2 + 2 * _ROWS * size),
        what=f"images of {shape_words(images.shape[1:])} with ZCA whitening",
        remedy="give a lower --image-size, or --no-zca",
    )


def _require_disk(path: Path, size: int) -> None:
    needed = 4 * (size + 2 * size**2)
    require_space(path.parent, needed, what=f"the ZCA whitening {path.name}")


def _read(path: Path, raw: Dataset) -> Zca:
    size = int(np.prod(raw.x_train.shape[1:]))
    try:
        tensors, values = read_tensors(path, kind=FORMAT)
    except InputError as error:
        raise InputError(f"{error}; {_REMEDY}") from error
    shapes = {"mean": (size,), "matrix": (size, size), "inverse": (size, size)}
    found = {name: tensor.shape for name, tensor in tensors.items()}
    whole = found == shapes and all(t.dtype == np.float32 for t in tensors.values())
    if not whole or values != {"fingerprint": raw.fingerprint}:
        raise InputError(
            f"{path} is damaged or of other data: its numbers are not those written for these "
            f"data; {_REMEDY}"
        )
    return Zca(**tensors)
