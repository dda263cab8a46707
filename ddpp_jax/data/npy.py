"""Images in a `.npy` file, read by index."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ddpp_jax.errors import InputError, words
from ddpp_jax.storage import plain_file


@dataclass(frozen=True)
class NpyImages:
    """An array that stays in its file; it is used as one in memory is, along its first axis alone.

    The file is read rather than mapped, so that what was read does not stay part of the process.

    Attributes:
        path: of the file.
        shape: images first.
        dtype: of a number.
        offset: bytes before the first image.
    """

    path: Path
    shape: tuple[int, ...]
    dtype: np.dtype
    offset: int

    @staticmethod
    def open(path: Path) -> "NpyImages":
        """The array of a file.

        Raises:
            InputError: it cannot be read, holds something else than numbers row by row, or less
                than it says.
        """
        try:
            with plain_file(path).open("rb") as file:
                version = np.lib.format.read_magic(file)
                read = {
                    (1, 0): np.lib.format.read_array_header_1_0,
                    (2, 0): np.lib.format.read_array_header_2_0,
                }[version]
                shape, fortran, dtype = read(file)
                offset = file.tell()
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path} cannot be read as an .npy file: {words(error)}") from error
        if fortran and len(shape) > 1:
            raise InputError(
                f"{path} is kept column by column; numpy.ascontiguousarray, saved again, has rows"
            )
        if dtype.hasobject or dtype.kind not in "biuf":
            raise InputError(f"{path} is {dtype}; wanted uint8, other integers or floats")
        found = NpyImages(path, shape, dtype, offset)
        held, wanted = path.stat().st_size - offset, found.size * dtype.itemsize
        if held < wanted:
            raise InputError(
                f"{path} holds {held:,} bytes of numbers and says {wanted:,}; it was cut short: "
                "write it again"
            )
        return found

    @property
    def ndim(self) -> int:
        """How many axes there are."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Numbers in all."""
        return int(np.prod(self.shape))

    def __len__(self) -> int:
        """How many images there are."""
        return self.shape[0]

    def grey(self) -> "NpyImages":
        """The same with an axis for a single channel."""
        return replace(self, shape=(*self.shape, 1))

    def __getitem__(self, chosen: slice | Shaped[np.ndarray, " _chosen"]) -> np.ndarray:
        """The images at some indices, read now."""
        indices = np.arange(len(self))[chosen]
        images = np.empty((len(indices), *self.shape[1:]), self.dtype)
        row = images[:1].nbytes
        ends = [*(np.flatnonzero(np.diff(indices) != 1) + 1).tolist(), len(indices)]
        low = 0
        try:
            with self.path.open("rb", buffering=0) as file:
                for high in ends:  # Neighbours are read at once.
                    if high > low:
                        file.seek(self.offset + int(indices[low]) * row)
                        self._read_into(file, images[low:high])
                    low = high
        except OSError as error:
            raise InputError(f"{self.path} cannot be read: {words(error)}") from error
        return images

    def _read_into(self, file: Any, images: Any) -> None:
        left = memoryview(images).cast("B")
        while left:
            count = file.readinto(left)
            if not count:
                raise InputError(f"{self.path} is shorter than it was; write it again")
            left = left[count:]
