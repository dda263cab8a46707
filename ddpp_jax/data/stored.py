"""Images that stay where they are and are read by index, for data beyond memory."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TypeAlias, TypeVar

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float32, Int, Shaped, UInt8

from ddpp_jax._types import Images
from ddpp_jax.data.checks import Pixels
from ddpp_jax.data.normalising import Numbers, normalise, numbers_of
from ddpp_jax.data.transforms import PerChannel, Transform, apply, chunks, fit_per_channel
from ddpp_jax.errors import InputError

Item = TypeVar("Item")
Read = TypeVar("Read")

ReadFn: TypeAlias = Callable[[Int[np.ndarray, " chosen"]], Pixels]
"""`read_fn(places)`: the images of a source at ascending places, each once."""

_READ_AHEAD = 2
"""Pieces that are read while an earlier one is used."""


@dataclass(frozen=True, eq=False)
class Stored:
    """Images that are read when they are asked for; otherwise used as an array is.

    `stored[indices]`, with an integer, a slice, an array of indices or a mask, is an array in
    memory. Who needs all of them at once asks for them by `whole`.

    Attributes:
        read_fn: gives the pixels as they came.
        places: where each image is in the source.
        image_shape: height, width and channels.
        pixel: uint8 from 0 to 255, or float32 from 0 to 1.
        transform: normalises them as they are read; None leaves them as they came.
        failures: what went wrong where it could not be raised, in a step that fetches images.
    """

    read_fn: ReadFn
    places: Int[np.ndarray, " images"]
    image_shape: tuple[int, int, int]
    pixel: np.dtype
    transform: Transform | None = None
    failures: list[InputError | OSError] = field(default_factory=list)

    def __len__(self) -> int:
        """How many images there are."""
        return len(self.places)

    @property
    def shape(self) -> tuple[int, ...]:
        """As of an array: images, height, width, channels."""
        return (len(self.places), *self.image_shape)

    @property
    def ndim(self) -> int:
        """As of an array."""
        return len(self.shape)

    @property
    def dtype(self) -> np.dtype:
        """Of what is read."""
        return self.pixel if self.transform is None else np.dtype(np.float32)

    @property
    def itemsize(self) -> int:
        """Bytes of a number as it is kept."""
        return self.pixel.itemsize

    @property
    def size(self) -> int:
        """Numbers in all images."""
        return int(np.prod(self.shape))

    def __getitem__(self, chosen: int | slice | Shaped[np.ndarray, " _chosen"]) -> np.ndarray:
        """The images at some indices, in memory and in the order of the indices."""
        if isinstance(chosen, int | np.integer):
            return self[np.asarray([chosen])][0]
        pixels = self._pixels(chosen)
        return pixels if self.transform is None else apply(self.transform, pixels)

    def for_device(self, chosen: slice | Shaped[np.ndarray, " _chosen"]) -> Pixels:
        """The images at some indices as they are sent to a device, which `normalise` makes ready.

        That is uint8 as it came, a quarter of what float32 takes.
        """
        return self._pixels(chosen) if self.pixel == np.uint8 else self[chosen]

    def _pixels(self, chosen: slice | Shaped[np.ndarray, " _chosen"]) -> Pixels:
        places = self.places[chosen]
        if not len(places):
            return np.empty((0, *self.image_shape), self.pixel)
        if (np.diff(places) > 0).all():
            return self.read_fn(places)
        ascending, back = np.unique(places, return_inverse=True)
        return self.read_fn(ascending)[back]

    def batches(self, rows: int) -> Iterator[Images]:
        """All images in order, as networks see them, in batches on the device.

        The next batches are read while one is used. The last one is filled up with its last image.

        Args:
            rows: images in a batch.
        """
        numbers = self.numbers()

        def read(start: int) -> Pixels:
            return self.for_device(np.minimum(np.arange(start, start + rows), len(self) - 1))

        for pixels in read_ahead(read, range(0, len(self), rows)):
            yield _normalised(numbers, jnp.asarray(pixels))

    @cached_property
    def per_channel(self) -> PerChannel:
        """The mean and the deviation of each channel of the images as they came; reads all once."""
        return fit_per_channel(replace(self, transform=None))

    @cached_property
    def deviation(self) -> float:
        """The standard deviation of all pixels; reads all images once."""
        total = squares = 0.0
        for chunk in chunks(self):
            pixels = self[chunk].astype(np.float64)
            total += pixels.sum()
            squares += np.square(pixels, out=pixels).sum()
        mean = total / self.size
        return float(np.sqrt(max(0.0, squares / self.size - mean**2)))

    def numbers(self) -> Numbers:
        """What the device needs in order to make ready what `for_device` gives."""
        return numbers_of(self.transform, self.pixel)


ImageArray: TypeAlias = (
    UInt8[np.ndarray, "_images _height _width _channels"]
    | Float32[np.ndarray, "_images _height _width _channels"]
    | Stored
)
"""Images in memory, or such as are read when they are asked for."""


def part_of(images: ImageArray, chosen: Shaped[np.ndarray, " _chosen"]) -> ImageArray:
    """Some of the images, by their indices or a mask; stored ones are not read."""
    if isinstance(images, Stored):
        return replace(images, places=images.places[chosen])
    return images[chosen]


def transformed(transform: Transform, images: ImageArray) -> ImageArray:
    """The images, normalised by a transform; stored ones as they are read."""
    if isinstance(images, Stored):
        return replace(images, transform=transform)
    return apply(transform, images)


def whole(images: ImageArray, what: str) -> np.ndarray:
    """The images, all of which are needed in memory.

    Args:
        images: of a dataset.
        what: needs them, for people.

    Raises:
        InputError: they are read by index.
    """
    if isinstance(images, Stored):
        raise InputError(
            f"{what} needs all images in memory, and they are read by index; give --images device, "
            "with a lower --image-size or --per-class if they do not fit"
        )
    return images


def on_device(images: ImageArray) -> Images | Stored:
    """The images on the device; stored ones as they are, for what takes them in batches."""
    return images if isinstance(images, Stored) else jnp.asarray(images)


def deviation(images: ImageArray) -> float:
    """The standard deviation of all pixels, up to rounding."""
    return images.deviation if isinstance(images, Stored) else float(images.std(dtype=np.float32))


def read_ahead(read: Callable[[Item], Read], items: Iterable[Item]) -> Iterator[Read]:
    """What is read for each item, in order; the next ones in a thread while one is used."""
    with ThreadPoolExecutor(1, thread_name_prefix="images") as pool:
        pending: deque[Future[Read]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(read, item))
                if len(pending) > _READ_AHEAD:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()


_normalised = jax.jit(normalise)
