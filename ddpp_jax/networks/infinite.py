"""The ConvNet of infinite width: its kernels NNGP and NTK, in closed form.

Blocks of 3x3 convolution, ReLU and 2x2 average pooling, then a linear layer, without normalisation,
in the NTK parametrisation (Jacot et al., NeurIPS 2018; Arora et al., NeurIPS 2019; Novak et al.,
ICLR 2020; used by Nguyen et al., NeurIPS 2021, for KIP).

A layer is described by the covariance of its features at a place p of one image and a place q of
another. Convolution and ReLU keep the offset q - p, and pooling halves it, so that only offsets up
to 2^k - 1 before the k-th pooling from the end ever reach the output. These alone are computed: for
32x32 and three blocks that is a fifth of all pairs of places.
"""

import functools
import operator
from typing import NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Bool, Float

from ddpp_jax._types import MapFn

Image: TypeAlias = Float[Array, "height width channels"]

Band: TypeAlias = Float[Array, "down right height width"]
"""By offset, shifted so that the middle is none, and by the place in the first image."""

Variances: TypeAlias = tuple[Float[Array, "..."], ...]
"""Of each ReLU's input, at each place of an image; or of several images, stacked."""


class Infinite(NamedTuple):
    """An infinitely wide ConvNet.

    Attributes:
        blocks: how many there are; each halves the image.
        front: whether a convolution and a ReLU without pooling come first.
        weight_variance: of each layer, times the number of its inputs.
        bias_variance: of each layer.
    """

    blocks: int
    front: bool = False
    weight_variance: float = 2.0
    bias_variance: float = 0.01

    @property
    def reach(self) -> int:
        """The largest offset that counts, in pixels of the image."""
        return 2**self.blocks - 1

    def entries(self, side: int) -> int:
        """Numbers in the largest covariance of a pair of images."""
        return (2 * self.reach + 1) ** 2 * side**2


class Kernels(NamedTuple):
    """Two kernels of the same pairs of images.

    Attributes:
        nngp: the covariance of the outputs of random networks.
        ntk: the neural tangent kernel.
    """

    nngp: Float[Array, "..."]
    ntk: Float[Array, "..."]


def variances(network: Infinite, image: Image) -> tuple[Variances, Kernels]:
    """What pairs with an image need of it, and its kernels with itself.

    Args:
        network: the architecture.
        image: shape (height, width, channels).
    """
    return _through(network, image, image, None)


def kernels(
    network: Infinite, first: Image, second: Image, of_first: Variances, of_second: Variances
) -> Kernels:
    """The kernels of two images.

    Args:
        network: the architecture.
        first: an image.
        second: another one; equal pixels are no trouble, but an image is cheaper and more exact
            with itself by `variances`.
        of_first: what `variances` gives of it.
        of_second: likewise.
    """
    return _through(network, first, second, (of_first, of_second))[1]


def among(
    network: Infinite,
    images: Float[Array, "images height width channels"],
    *,
    tile: int = 1,
    map_fn: MapFn = lax.map,
) -> tuple[Kernels, Variances]:
    """The kernels of all pairs of some images, shape (images, images), and the variances.

    Args:
        network: the architecture.
        images: some images.
        tile: how many pairs are worked on at once.
        map_fn: takes them in turn; another one may spread them over devices.
    """
    own, diagonal = map_fn(jax.checkpoint(lambda image: variances(network, image)), images)
    count = len(images)
    rows, cols = (jnp.asarray(x) for x in np.triu_indices(count, 1))

    @jax.checkpoint
    def pair(places: tuple[Array, Array]) -> Kernels:
        (i, j), of = places, own
        sides = ([leaf[n] for leaf in of] for n in (i, j))
        return kernels(network, images[i], images[j], *(tuple(side) for side in sides))

    found = map_fn(pair, (rows, cols), batch_size=tile)

    def whole(above: Array, diagonal: Array) -> Array:
        half = jnp.zeros((count, count), above.dtype).at[rows, cols].set(above)
        return half + half.T + jnp.diag(diagonal)

    return jax.tree.map(whole, found, diagonal), own


def between(
    network: Infinite,
    first: Float[Array, "images height width channels"],
    second: Float[Array, "others height width channels"],
    of_second: Variances,
    *,
    tile: int = 1,
    map_fn: MapFn = lax.map,
) -> Kernels:
    """The kernels of images of one set with those of another, shape (images, others).

    Activations are held for one tile of pairs, in the gradient too.

    Args:
        network: the architecture.
        first: images, such as many real ones.
        second: the other set, such as the distilled one.
        of_second: what `among` gives of it.
        tile: how many pairs are worked on at once.
        map_fn: takes the images of the first set in turn, likewise.
    """

    def row(image: Image) -> Kernels:
        of_first, _ = variances(network, image)

        @jax.checkpoint
        def pair(x: tuple[Image, Variances]) -> Kernels:
            return kernels(network, image, x[0], of_first, x[1])

        return lax.map(pair, (second, of_second), batch_size=min(tile, len(second)))

    return map_fn(row, first, batch_size=max(1, min(tile // len(second), len(first))))


def _through(
    network: Infinite, first: Image, second: Image, given: tuple[Variances, Variances] | None
) -> tuple[Variances, Kernels]:
    """The kernels of a pair of images, and the variances of an image paired with itself.

    Args:
        network: the architecture.
        first: an image.
        second: another one, or the same.
        given: the variances of both; None where they are one image.
    """
    reach, found = network.reach, []
    covariance = _inputs(first, second, reach)
    tangent = jnp.zeros_like(covariance)
    for layer in range(network.blocks + network.front):
        mask = _inside(covariance.shape)
        covariance = _convolved(network, covariance * mask)
        tangent = covariance + network.weight_variance * _box(tangent * mask)
        own = covariance[reach, reach]
        found.append(own)
        sides = (own, own) if given is None else (given[0][layer], given[1][layer])
        covariance, factor = _rectified(covariance, *sides, mask, same=given is None)
        tangent = tangent * factor
        if layer >= network.front:
            covariance, tangent = _pooled(covariance, reach), _pooled(tangent, reach)
            reach //= 2
    nngp = network.weight_variance * covariance[0, 0].mean() + network.bias_variance
    ntk = nngp + network.weight_variance * tangent[0, 0].mean()
    return tuple(found), Kernels(nngp, ntk)


def _inputs(first: Image, second: Image, reach: int) -> Band:
    """Mean products of the channels.

    Channel by channel: as one `mean` over them, vectorised over both images, jaxlib 0.10.2 gets it
    wrong on the CPU in float32.
    """
    channels = first.shape[-1]
    products = [
        _shifted(second[..., c], reach) * first[None, None, ..., c] for c in range(channels)
    ]
    return functools.reduce(operator.add, products) / channels


def _shifted(array: Float[Array, "height width *rest"], reach: int) -> Float[Array, "..."]:
    """An array as seen from each place at each offset; 0 where that leads outside."""
    height, width = array.shape[:2]
    pads = [(reach, reach), (reach, reach)] + [(0, 0)] * (array.ndim - 2)
    padded = jnp.pad(array, pads)
    rows = jnp.stack([padded[down : down + height] for down in range(2 * reach + 1)])
    return jnp.stack([rows[:, :, right : right + width] for right in range(2 * reach + 1)], axis=1)


def _inside(shape: tuple[int, ...]) -> Float[np.ndarray, "down right height width"]:
    """1 where the second place lies in the image."""
    offsets, _, height, width = shape
    reach = offsets // 2

    def within(size: int) -> Bool[np.ndarray, "offsets size"]:
        there = np.arange(size)[None] + np.arange(-reach, reach + 1)[:, None]
        return (there >= 0) & (there < size)

    both = within(height)[:, None, :, None] & within(width)[None, :, None, :]
    return both.astype(np.float32)


def _convolved(network: Infinite, covariance: Band) -> Band:
    return network.weight_variance * _box(covariance) + network.bias_variance


def _box(band: Band) -> Band:
    """The mean over 3x3 places around both, at the same offset; outside the image it is 0."""
    for axis in (2, 3):
        pads = [(1, 1) if n == axis else (0, 0) for n in range(4)]
        size, padded = band.shape[axis], jnp.pad(band, pads)
        before, here, after = (lax.slice_in_dim(padded, n, n + size, axis=axis) for n in range(3))
        band = (before + here + after) / 3
    return band


def _rectified(
    covariance: Band,
    of_first: Float[Array, "height width"],
    of_second: Float[Array, "height width"],
    mask: Float[np.ndarray, "down right height width"],
    *,
    same: bool,
) -> tuple[Band, Band]:
    """The covariance after a ReLU, and the factor of the tangent (Cho and Saul, NeurIPS 2009).

    By the arctangent, whose slope is finite where images are equal.
    """
    reach = covariance.shape[0] // 2
    product = of_first[None, None] * _shifted(of_second, reach)
    residue = product - jnp.square(covariance)
    apart = residue > 4 * jnp.finfo(covariance.dtype).eps * product
    if same:  # A place with itself.
        apart &= ~_middle(covariance.shape)
    sine = jnp.where(apart, jnp.sqrt(jnp.where(apart, residue, 1)), 0)
    cosine = jnp.where(mask > 0, covariance, 1)
    angle = jnp.where(
        apart,
        jnp.arctan2(jnp.where(apart, sine, 1), jnp.where(apart, cosine, 1)),
        jnp.where(cosine < 0, jnp.pi, 0),
    )
    factor = (jnp.pi - angle) / (2 * jnp.pi)
    return sine / (2 * jnp.pi) + factor * covariance, factor


def _middle(shape: tuple[int, ...]) -> Bool[np.ndarray, "down right 1 1"]:
    middle = np.zeros((*shape[:2], 1, 1), bool)
    middle[shape[0] // 2, shape[1] // 2] = True
    return middle


def _pooled(band: Band, reach: int) -> Float[Array, "..."]:
    """Means over 2x2 windows of both places; the offsets that are left are those of windows."""
    return _pooled_along(_pooled_along(band, reach, 0), reach, 1)


def _pooled_along(band: Band, reach: int, axis: int) -> Float[Array, "..."]:
    """Means over windows along one axis of the image."""
    left, places = reach // 2, axis + 2
    size = band.shape[places] // 2

    def part(a: int, b: int) -> Array:
        """Places a and b in their windows, whose offset d is of the places 2 d + b - a."""
        first = reach - 2 * left + b - a
        kept = lax.slice_in_dim(band, first, first + 4 * left + 1, stride=2, axis=axis)
        return lax.slice_in_dim(kept, a, a + 2 * size - 1, stride=2, axis=places)

    return (part(0, 0) + part(0, 1) + part(1, 0) + part(1, 1)) / 4
