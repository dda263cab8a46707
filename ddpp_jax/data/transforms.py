"""Transforms that normalise images: of each channel, ZCA whitening, or KIP's ZCA whitening.

None in place of a transform means that images are as they came.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple, TypeAlias, TypeVar

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


class Contrast(NamedTuple):
    """KIP's ZCA whitening: of images that are brought to mean 0 and length 1, one by one.

    Channels are standardised, then each image is taken as a vector, rows first and channels last:
    less its own mean, divided by its own length, times the matrix. An image whose standardised
    numbers are all the same, such as a grey one of one level, becomes 0. From the code of Nguyen,
    Novak, Xiao and Lee, NeurIPS 2021.

    Attributes:
        mean: of the training pixels by channel, on the scale from 0 (black) to 1 (white).
        std: their deviation.
        length: one number, the mean length of the training images, by which `undo` shows images,
            since the length and the mean that each of them had are lost.
        matrix: symmetric; vectors of mean 0 and length 1 are multiplied by it.
        inverse: symmetric; undoes it; None until `with_inverse` computes it.
    """

    mean: Float[np.ndarray, " channels"]
    std: Float[np.ndarray, " channels"]
    length: Float[np.ndarray, " 1"]
    matrix: Float[np.ndarray, "pixels pixels"]
    inverse: Float[np.ndarray, "pixels pixels"] | None = None


Whitening: TypeAlias = Zca | Contrast
Transform: TypeAlias = PerChannel | Whitening
Either = TypeVar("Either", bound=Whitening)

TRANSFORM_ARRAYS: dict[type[Transform], dict[str, str]] = {
    PerChannel: {"mean": "mean", "std": "std"},
    Zca: {"mean": "zca_mean", "matrix": "zca_matrix"},
    Contrast: {
        "mean": "contrast_mean",
        "std": "contrast_std",
        "length": "contrast_length",
        "matrix": "contrast_matrix",
    },
}
"""What the fields of each kind of transform are called in files."""

DIVISORS = frozenset({"std", "contrast_std", "contrast_length"})
"""Those of them that something is divided by, so that they must not be 0."""


def field_shapes(kind: type[Transform], shape: tuple[int, ...]) -> dict[str, tuple[int, ...]]:
    """The shapes of a transform's fields, the inverse left out, for images of a shape."""
    size, channels = int(np.prod(shape)), shape[-1]
    shapes = {"mean": (channels,), "std": (channels,), "length": (1,), "matrix": (size, size)}
    if kind is Zca:
        shapes["mean"] = (size,)
    return {field: shapes[field] for field in TRANSFORM_ARRAYS[kind]}


def apply(transform: Transform, pixels: Pixels) -> Images:
    """Normalised images, in an array of their own that is not to be written to."""

    def change(chunk: Pixels) -> Images:
        found = unit(chunk)
        if isinstance(transform, PerChannel):
            return (found - transform.mean) / transform.std
        flat = found.reshape(len(found), -1)
        if isinstance(transform, Zca):
            flat = flat - transform.mean
        else:
            flat, _ = contrasted(_standardised(transform, found))
        return (flat @ transform.matrix).reshape(found.shape)

    images = _by_chunks(change, pixels)
    images.flags.writeable = False  # JAX may share the memory
    return images


def undo(transform: Transform | None, images: Images) -> Images:
    """True pixels of normalised images; they may lie below 0 (black) or above 1 (white).

    Of a `Contrast` they are true but for the mean and the length that each image had as a vector:
    the mean is that of the data, and a length of 1 is shown as the mean length.
    """
    if transform is None:
        return images
    if isinstance(transform, PerChannel):
        return _by_chunks(lambda chunk: chunk * transform.std + transform.mean, images)
    whole = with_inverse(transform)

    def change(chunk: Images) -> Images:
        flat = chunk.reshape(len(chunk), -1) @ whole.inverse
        if isinstance(whole, Zca):
            return (flat + whole.mean).reshape(chunk.shape)
        return (flat * whole.length).reshape(chunk.shape) * whole.std + whole.mean

    return _by_chunks(change, images)


def as_shown(transform: Transform | None, pixels: Pixels) -> Images:
    """Pixels of real images as a set shows its own: what `undo` gives after `apply`.

    That is how they are, from 0 to 1, but of a `Contrast`, which takes means and lengths away.
    """
    if not isinstance(transform, Contrast):
        return unit(pixels)

    def change(chunk: Pixels) -> Images:
        found = unit(chunk)
        flat, _ = contrasted(_standardised(transform, found))
        return (flat * transform.length).reshape(found.shape) * transform.std + transform.mean

    return _by_chunks(change, pixels)


def from_shown(transform: Transform, pixels: Pixels) -> Images:
    """The images whose `undo` gave these pixels, in an array of their own.

    That is `apply`, but of a `Contrast`: distilled images need not have mean 0 and length 1 before
    they are whitened, so `apply` would make others of their pixels, and this keeps what they have.
    """
    if not isinstance(transform, Contrast):
        return apply(transform, pixels)

    def change(chunk: Pixels) -> Images:
        flat = _standardised(transform, unit(chunk)) / transform.length
        return (flat @ transform.matrix).reshape(chunk.shape)

    return _by_chunks(change, pixels)


def agrees(transform: Transform, pixels: Images, images: Images) -> bool:
    """Whether the transform makes these images of these pixels, up to rounding.

    Of a `Contrast` the pixels may be those of real images or such as `undo` shows.
    """
    most = max(1.0, float(np.abs(images).max()))
    makers = (apply, from_shown) if isinstance(transform, Contrast) else (apply,)
    with np.errstate(all="ignore"):  # What overflows does not agree.
        return any(
            bool(np.abs(make(transform, pixels) - images).max() <= _ROUNDING * most)
            for make in makers
        )


def contrasted(
    flat: Float[np.ndarray, "images pixels"],
) -> tuple[Float[np.ndarray, "images pixels"], Float[np.ndarray, " images"]]:
    """Vectors brought to mean 0 and length 1, and the lengths that they had without their means.

    One that is the same everywhere, up to rounding, becomes 0 and had the length 0.
    """
    # Less their first number, images that are the same everywhere are 0 before any rounding.
    found = flat - flat[:, :1]
    found -= found.mean(axis=1, dtype=np.float64).astype(found.dtype)[:, None]
    lengths = np.linalg.norm(found, axis=1)
    lengths[lengths <= least_length(flat.shape[1])] = 0
    found *= (lengths > 0)[:, None]
    found /= np.where(lengths > 0, lengths, 1)[:, None]
    return found, lengths


def least_length(size: int) -> float:
    """The length of a vector of so many numbers at or below which it counts as 0."""
    return _FLAT * size**0.5


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
    """The arrays to keep of a transform, by the names that `TRANSFORM_ARRAYS` gives its kind."""
    if transform is None:
        return {}
    fields = transform._asdict()
    return {name: fields[field] for field, name in TRANSFORM_ARRAYS[type(transform)].items()}


def transform_from(arrays: Mapping[str, np.ndarray]) -> Transform:
    """The transform of which `transform_arrays` gave the arrays.

    Raises:
        InputError: no kind's arrays are there.
    """
    for kind, names in TRANSFORM_ARRAYS.items():
        if all(name in arrays for name in names.values()):
            return kind(*(np.asarray(arrays[name], np.float32) for name in names.values()))
    raise InputError(
        f"a transform has the arrays {', '.join(sorted(arrays)) or 'none'}; "
        f"wanted {' or '.join(', '.join(names.values()) for names in TRANSFORM_ARRAYS.values())}"
    )


def is_whitening(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays of a transform are those of a whitening, whose matrix is large."""
    return any(TRANSFORM_ARRAYS[kind]["matrix"] in arrays for kind in (Zca, Contrast))


def same_transform(a: Transform, b: Transform) -> bool:
    """Whether two transforms make the same of images, to the bit."""
    ours, theirs = transform_arrays(a), transform_arrays(b)  # The inverse does not count.
    return ours.keys() == theirs.keys() and all(np.array_equal(ours[n], theirs[n]) for n in ours)


def with_inverse(whitening: Either) -> Either:
    """The whitening with its inverse, computed in double precision if it is missing."""
    if whitening.inverse is not None:
        return whitening
    inverse = np.linalg.inv(whitening.matrix.astype(np.float64))
    return whitening._replace(inverse=((inverse + inverse.T) / 2).astype(np.float32))


def _standardised(transform: Contrast, pixels: Images) -> Float[np.ndarray, "images pixels"]:
    """Pixels from 0 to 1 as vectors, each channel less its mean and divided by its deviation."""
    return ((pixels - transform.mean) / transform.std).reshape(len(pixels), -1)


def _by_chunks(change: Callable[[Pixels], Images], pixels: Pixels) -> Images:
    images = aligned_empty(pixels.shape)
    for chunk in chunks(pixels):
        images[chunk] = change(pixels[chunk])
    return images


def chunks(images: ByIndex) -> list[slice]:
    """What to work on at once, from the first image to the last, in parts of bounded memory."""
    rows = max(1, _CHUNK // (4 * max(1, int(np.prod(images.shape[1:])))))
    return [slice(start, start + rows) for start in range(0, len(images), rows)]
