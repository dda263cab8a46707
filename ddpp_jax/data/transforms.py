"""Transforms that normalise images: of each channel, or ZCA whitening.

None in place of a transform means that images are as they came.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float, Float32, Shaped

from ddpp_jax.data.checks import ByIndex, Pixels
from ddpp_jax.errors import InputError
from ddpp_jax.storage import aligned_empty

Images: TypeAlias = Float32[np.ndarray, "images height width channels"]

_CHUNK = 48 * 2**20
"""Bytes of float32 images that are worked on at once."""
_FLAT = 1e-6
"""A deviation below this is rounding."""
_ROUNDING = 1e-2
"""What float32 may lose when a whitening is undone and done again, of the largest pixel."""


class PerChannel(NamedTuple):
    """Normalisation of each channel on its own, on the scale from 0 (black) to 1 (white).

    Attributes:
        mean: of the training pixels.
        std: their deviation.
    """

    mean: Float32[np.ndarray, " channels"]
    std: Float32[np.ndarray, " channels"]


class Zca(NamedTuple):
    """ZCA whitening of images as vectors, rows first and channels last; as float32 where applied.

    Attributes:
        mean: of the training images, on the scale from 0 (black) to 1 (white).
        matrix: symmetric; images less the mean are multiplied by it.
        inverse: symmetric; undoes it; None until `with_inverse` computes it.
    """

    mean: Float[np.ndarray, " pixels"]
    matrix: Float[np.ndarray, "pixels pixels"]
    inverse: Float[np.ndarray, "pixels pixels"] | None = None


Transform: TypeAlias = PerChannel | Zca


def apply(transform: Transform, pixels: Pixels) -> Images:
    """Normalised images, in an array of their own that is not to be written to."""

    def change(chunk: Pixels) -> Images:
        found = unit(chunk)
        if isinstance(transform, PerChannel):
            return (found - transform.mean) / transform.std
        flat = found.reshape(len(found), -1) - transform.mean
        return (flat @ transform.matrix).reshape(found.shape)

    images = _by_chunks(change, pixels)
    images.flags.writeable = False  # JAX may share the memory
    return images


def undo(transform: Transform | None, images: Images) -> Images:
    """True pixels of normalised images; they may lie below 0 (black) or above 1 (white)."""
    if transform is None:
        return images
    if isinstance(transform, PerChannel):
        return _by_chunks(lambda chunk: chunk * transform.std + transform.mean, images)
    mean, _, inverse = with_inverse(transform)
    return _by_chunks(
        lambda chunk: (chunk.reshape(len(chunk), -1) @ inverse + mean).reshape(chunk.shape), images
    )


def agrees(transform: Transform, pixels: Images, images: Images) -> bool:
    """Whether the transform makes these images of these pixels, up to rounding."""
    most = max(1.0, float(np.abs(images).max()))
    with np.errstate(all="ignore"):  # What overflows does not agree.
        return bool(np.abs(apply(transform, pixels) - images).max() <= _ROUNDING * most)


def unit(
    pixels: Shaped[np.ndarray, "images *shape"],
    dtype: type[np.float32] | type[np.float64] = np.float32,
) -> Shaped[np.ndarray, "images *shape"]:
    """Pixels on the scale from 0 to 1: uint8 divided by 255, floats as they are."""
    floats = pixels.astype(dtype)
    if pixels.dtype == np.uint8:
        floats /= dtype(255)
    return floats


def fit_per_channel(pixels: ByIndex, *, remedy: str = "") -> PerChannel:
    """The mean and the deviation of each channel of the training images.

    Raises:
        InputError: a channel is the same everywhere; `remedy` adds what else may be done about it.
    """
    count = pixels.size // pixels.shape[-1]
    axes = tuple(range(pixels.ndim - 1))
    parts = chunks(pixels)
    mean = sum(unit(pixels[chunk], np.float64).sum(axes) for chunk in parts) / count

    def squares(chunk: slice) -> Float[np.ndarray, " channels"]:
        centred = unit(pixels[chunk], np.float64)
        centred -= mean  # In its place, since it is large.
        return np.square(centred, out=centred).sum(axes)

    std = np.sqrt(sum(map(squares, parts)) / count).astype(np.float32)
    if std.min() < _FLAT:
        advice = "--channels 1 or other images" if len(std) > 1 else "other images"
        raise InputError(
            f"channel {int(np.argmin(std))} of the training images is the same everywhere and "
            f"cannot be normalised; give {advice}{remedy}"
        )
    return PerChannel(np.asarray(mean, np.float32), std)


def transform_arrays(transform: Transform | None) -> dict[str, np.ndarray]:
    """The arrays to keep of a transform: `mean` and `std`, or `zca_mean` and `zca_matrix`."""
    if transform is None:
        return {}
    if isinstance(transform, Zca):
        return {"zca_mean": transform.mean, "zca_matrix": transform.matrix}
    return {"mean": transform.mean, "std": transform.std}


def transform_from(arrays: Mapping[str, np.ndarray]) -> Transform:
    """The transform of which `transform_arrays` gave the arrays.

    Raises:
        InputError: neither kind's arrays are there.
    """
    for kind, names in ((Zca, ("zca_mean", "zca_matrix")), (PerChannel, ("mean", "std"))):
        if all(name in arrays for name in names):
            return kind(*(np.asarray(arrays[name], np.float32) for name in names))
    raise InputError(
        f"a transform has the arrays {', '.join(sorted(arrays)) or 'none'}; "
        "wanted mean and std, or zca_mean and zca_matrix"
    )


def with_inverse(zca: Zca) -> Zca:
    """The whitening with its inverse, computed in double precision if it is missing."""
    if zca.inverse is not None:
        return zca
    inverse = np.linalg.inv(zca.matrix.astype(np.float64))
    return zca._replace(inverse=((inverse + inverse.T) / 2).astype(np.float32))


def _by_chunks(change: Callable[[Pixels], Images], pixels: Pixels) -> Images:
    images = aligned_empty(pixels.shape)
    for chunk in chunks(pixels):
        images[chunk] = change(pixels[chunk])
    return images


def chunks(images: ByIndex) -> list[slice]:
    """What to work on at once, from the first image to the last, in parts of bounded memory."""
    rows = max(1, _CHUNK // (4 * max(1, int(np.prod(images.shape[1:])))))
    return [slice(start, start + rows) for start in range(0, len(images), rows)]
