"""The transform that fits a training set: per channel, or a ZCA whitening kept in a file.

ZCA: A. Krizhevsky, Learning Multiple Layers of Features from Tiny Images, 2009. KIP's, of images of
mean 0 and length 1: the code (kip/KIP.ipynb) of Nguyen, Novak, Xiao and Lee, Dataset Distillation
with Infinitely Wide Convolutional Networks, NeurIPS 2021.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from ddpp_jax.configs.stages import check_contrast
from ddpp_jax.data.checks import ByIndex, require_memory, shape_words
from ddpp_jax.data.dataset import Dataset, keep
from ddpp_jax.data.stored import Stored
from ddpp_jax.data.transforms import (
    Contrast,
    PerChannel,
    Transform,
    Whitening,
    Zca,
    contrasted,
    field_shapes,
    fit_per_channel,
    unit,
    with_inverse,
)
from ddpp_jax.errors import InputError
from ddpp_jax.storage import (
    check_unheld,
    read_sealed,
    read_tensors,
    require_space,
    write_json,
    write_tensors,
)

FORMATS: dict[type[Whitening], str] = {
    Zca: "ddpp-jax zca 2",
    Contrast: "ddpp-jax contrast 1",
}
"""The key of a cache file's metadata, by the kind of whitening."""

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

    def flat(chunk: slice) -> np.ndarray:
        found = images[chunk]
        return unit(found.reshape(len(found), size), np.float64)

    mean = np.zeros(size)
    for chunk in _parts(images):
        mean += flat(chunk).sum(axis=0)
    mean /= count
    covariance = np.zeros((size, size))
    for chunk in _parts(images):
        centred = flat(chunk) - mean
        covariance += centred.T @ centred
    covariance /= count - 1
    variances, vectors = np.linalg.eigh(covariance)
    # Rounding can leave a variance of nothing slightly below zero.
    half = vectors * (np.maximum(variances, 0) + eps) ** -0.25
    return Zca(mean, half @ half.T)


def fit_contrast(images: ByIndex, channels: PerChannel, *, share: float = 0.1) -> Contrast:
    """KIP's ZCA whitening of a set of images, in double precision.

    With F the images as vectors of mean 0 and length 1, channels standardised, and V and S from the
    eigendecomposition of C = F^T F / N over d pixels, the matrix is
    V diag(1 / sqrt(S + share trace(C) / d)) V^T. Of fewer images than pixels, 1 stands in place of
    the d - N factors of the smallest S; and of those that are 0, where images are alike, since
    which of these the d - N would be, rounding alone decides.

    Args:
        images: of the training set, as they came.
        channels: what standardises their channels.
        share: of the mean variance, which is added to each; 0.1 in KIP.

    Raises:
        InputError: the memory does not suffice, or all standardised images are the same everywhere.
    """
    size, count = int(np.prod(images.shape[1:])), len(images)
    _require_memory(images, contrast=True)
    covariance, total = np.zeros((size, size)), 0.0
    for chunk in _parts(images):
        found = unit(images[chunk], np.float64)
        found -= channels.mean
        found /= channels.std
        flat, lengths = contrasted(found.reshape(len(found), size))
        covariance += flat.T @ flat
        total += float(lengths.sum())
    if not total:
        raise InputError(
            "every training image is the same everywhere once its channels are standardised, and "
            "--contrast would leave nothing of it; give --no-contrast, or other images"
        )
    covariance /= count
    variances, vectors = np.linalg.eigh(covariance)  # In ascending order.
    factors = 1 / np.sqrt(np.maximum(variances, 0) + share * np.trace(covariance) / size)
    if count < size:
        nothing = variances <= size * np.finfo(np.float64).eps * variances[-1]
        factors[: max(size - count, int(nothing.sum()))] = 1
    half = vectors * np.sqrt(factors)
    mean, std = (np.asarray(part, np.float64) for part in channels)
    return Contrast(mean, std, np.asarray([total / count]), half @ half.T)


def fit_transform(
    raw: Dataset, *, zca: bool, contrast: bool = False, cache_dir: Path | None
) -> Transform:
    """The transform that fits the training images.

    Args:
        raw: the dataset, as it came.
        zca: whitening; otherwise normalisation per channel.
        contrast: KIP's whitening, of images of mean 0 and length 1; it goes with `zca` alone.
        cache_dir: where the whitening is kept as `zca-FINGERPRINT.safetensors`, or KIP's as
            `contrast-FINGERPRINT.safetensors`, and read from the next time, and the mean and
            deviation of images that are read by index likewise, as `channels-FINGERPRINT.json`;
            None keeps them nowhere.

    Raises:
        InputError: the memory or the disk does not suffice, or the file there is damaged.
    """
    keep(raw)
    kind = _kind(zca=zca, contrast=contrast)
    if kind is None:
        return _per_channel(raw, cache_dir, keep=True)
    path = None if cache_dir is None else _kept(cache_dir, raw, kind)
    if path is not None and path.exists():
        return _read(path, raw, kind)
    if kind is Zca:
        found = fit_zca(raw.x_train)
    else:
        found = fit_contrast(raw.x_train, _per_channel(raw, cache_dir, keep=True))
    transform = with_inverse(type(found)(*(part.astype(np.float32) for part in found[:-1])))
    if path is not None:
        _require_disk(path, int(np.prod(raw.x_train.shape[1:])))
        values = {"fingerprint": raw.fingerprint}
        try:
            write_tensors(path, transform._asdict(), values, kind=FORMATS[kind])
        except OSError as error:
            raise InputError(f"{path} cannot be written: {error}; choose another folder") from error
    return transform


def require_transform(raw: Dataset, *, zca: bool, contrast: bool = False, cache_dir: Path) -> None:
    """Refuse what `fit_transform` would refuse, without a whitening's work.

    Images that `contrast` would leave nothing of are found by that work alone.

    Raises:
        InputError: as there.
    """
    kind = _kind(zca=zca, contrast=contrast)
    if kind is None:
        _per_channel(raw, cache_dir, keep=False)
        return
    path = _kept(cache_dir, raw, kind)
    if path.exists():
        _read(path, raw, kind)
        return
    _require_memory(raw.x_train, contrast=contrast)
    _require_disk(path, int(np.prod(raw.x_train.shape[1:])))
    check_unheld(cache_dir)
    if kind is Contrast:  # Last, since it may take the reading of all images.
        _per_channel(raw, cache_dir, keep=False)


def _kind(*, zca: bool, contrast: bool) -> type[Whitening] | None:
    """The kind of whitening that is asked for; None where there is to be none."""
    check_contrast(zca=zca, contrast=contrast)
    return (Contrast if contrast else Zca) if zca else None


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


def _kept(cache_dir: Path, raw: Dataset, kind: type[Whitening]) -> Path:
    name = "contrast" if kind is Contrast else "zca"
    return cache_dir / f"{name}-{raw.fingerprint}.safetensors"


def _parts(images: ByIndex) -> Iterator[slice]:
    """What the covariance takes in at once, from the first image to the last."""
    return (slice(start, start + _ROWS) for start in range(0, len(images), _ROWS))


def _require_memory(images: ByIndex, *, contrast: bool = False) -> None:
    size = int(np.prod(images.shape[1:]))
    require_memory(
        8 * (_SQUARES * size**2 + 2 * _ROWS * size),
        what=f"images of {shape_words(images.shape[1:])} with ZCA whitening",
        remedy="give a lower --image-size, or --no-zca" + " --no-contrast" * contrast,
    )


def _require_disk(path: Path, size: int) -> None:
    needed = 4 * (size + 2 * size**2)
    require_space(path.parent, needed, what=f"the ZCA whitening {path.name}")


def _read(path: Path, raw: Dataset, kind: type[Whitening]) -> Whitening:
    try:
        tensors, values = read_tensors(path, kind=FORMATS[kind])
    except InputError as error:
        raise InputError(f"{error}; {_REMEDY}") from error
    shapes = field_shapes(kind, raw.x_train.shape[1:])
    shapes["inverse"] = shapes["matrix"]
    found = {name: tensor.shape for name, tensor in tensors.items()}
    whole = found == shapes and all(t.dtype == np.float32 for t in tensors.values())
    if not whole or values != {"fingerprint": raw.fingerprint}:
        raise InputError(
            f"{path} is damaged or of other data: its numbers are not those written for these "
            f"data; {_REMEDY}"
        )
    return kind(**tensors)
