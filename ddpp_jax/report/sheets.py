"""Images of all classes as one PNG each, within the page."""

import base64
import io
import zlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from PIL import Image

from ddpp_jax.report.read import Frame
from ddpp_jax.sets import shown_range


class Sheets(NamedTuple):
    """Pictures with a row for each class and the images of it from left to right.

    Attributes:
        name: by which the page refers to them.
        uris: of the pictures, as data.
        columns: images in a row.
        ratio: width over height of an image.
        contrast_lowered: whether what is black and white was moved to show more.
    """

    name: str
    uris: Sequence[str]
    columns: int
    ratio: float
    contrast_lowered: bool


def sheets(frames: Sequence[Frame]) -> Sheets:
    """A picture of each frame, all in the contrast that the last one needs."""
    last = frames[-1]
    low, high = shown_range(last.pixels)
    _, height, width, _ = last.pixels.shape
    columns = int(np.bincount(last.labels).max())
    uris = [_uri(frame, low, high, columns) for frame in frames]
    return Sheets(
        name=f"s{zlib.crc32(''.join(uris).encode()):08x}",
        uris=uris,
        columns=columns,
        ratio=width / height,
        contrast_lowered=(low, high) != (0.0, 1.0),
    )


def _uri(frame: Frame, low: float, high: float, columns: int) -> str:
    classes = np.unique(frame.labels)
    _, height, width, channels = frame.pixels.shape
    sheet = np.zeros((len(classes) * height, columns * width, channels), np.uint8)
    levels = _levels(frame.pixels, low, high)
    for row, label in enumerate(classes):
        for column, image in enumerate(levels[frame.labels == label][:columns]):
            top, left = row * height, column * width
            sheet[top : top + height, left : left + width] = image
    picture = Image.fromarray(sheet[:, :, 0] if channels == 1 else sheet)
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


def _levels(pixels: Float[np.ndarray, "..."], low: float, high: float) -> np.ndarray:
    return np.rint(np.clip((pixels - low) / (high - low), 0, 1) * 255).astype(np.uint8)
