"""Image files: which are opened, what their headers say, and their pixels at full depth."""

import ctypes
import io
import struct
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from PIL import Image, ImageFile

from ddpp_jax.data.depth import EIGHT_BITS, FLOATS, Scale, to_unit
from ddpp_jax.errors import InputError, words
from ddpp_jax.storage import plain_file

FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
"""What is opened, whatever a file is called; other formats may run programs or fetch files."""

Encoded: TypeAlias = Path | bytes
"""An image file, or what is in one."""

_UNREADABLE = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    LookupError,
    TypeError,
    OverflowError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Image.DecompressionBombWarning,
)
"""What Pillow raises for damaged files; an unknown kind of file is an OSError."""

_GREY = ("1", "L", "LA", "La", "I", "F")
_ORIENTATION, _BITS, _PHOTOMETRIC, _PLANES, _SAMPLES = 274, 258, 262, 284, 339  # Tags of TIFF.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (5, 6, 7, 8)
_WITH_ORIENTATION = frozenset({"exif", "Raw profile type exif", "xmp", "XML:com.adobe.xmp"})
# Pillow reads 16 bits of colour as the upper eight, by the byte order that the file has; in the
# other order they are the lower eight.
_LOWER = {"B": "L", "L": "B", "N": "B" if sys.byteorder == "little" else "L"}


class Header(NamedTuple):
    """What an image file says of its pixels, before they are read.

    Attributes:
        size: width and height as they are shown, turned as EXIF has it.
        grey: whether there is no colour.
        depth: `8-bit`, `16-bit`, `32-bit` or `floating-point`.
    """

    size: tuple[int, int]
    grey: bool
    depth: str


@contextmanager
def quietly() -> Iterator[list[warnings.WarningMessage]]:
    """Keep messages of Pillow and its libraries off the screen; what Pillow said so far.

    A picture of more pixels than Pillow thinks safe is an error within.
    """
    with _silent_libtiff(), warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        yield said


def read_header(file: Encoded, what: str) -> Header:
    """What an image file says of its pixels; `what` names it in a message.

    Raises:
        InputError: it is no plain file, or no image of `FORMATS`.
    """
    with _opened(file, what) as image:
        width, height = image.size
        return Header(
            size=(height, width) if _orientation(image) in _SIDEWAYS else (width, height),
            grey=image.mode in _GREY or image.mode.startswith("I;16"),
            depth=_depth(image, what),
        )


def values(
    file: Encoded, what: str, channels: int | None = None
) -> Shaped[np.ndarray, "height width channels"]:
    """The pixels of an image file as they are in it, whatever their depth.

    Those of eight bits have `channels`, 1 for grey or 3 for colour, or else what the file has:
    palettes and other colours become RGB, and what is transparent lies over white. Deeper ones have
    one or three, and one more, the opacity, if some is transparent. Of an animation it is the first
    frame. The image is turned as its EXIF data say.

    Raises:
        InputError: it cannot be read, or holds more than eight bits in a way that Pillow does not
            read.
    """
    clear = None
    with _opened(file, what) as image:
        if _depth(image, what) == EIGHT_BITS:
            image.load()
            plain = _over_white(_turned(image))
            mode = {None: "L" if plain.mode == "L" else "RGB", 1: "L", 3: "RGB"}[channels]
            found = np.asarray(plain.convert(mode))
        else:
            if image.mode in ("RGB", "RGBA"):
                lower = _lower_bits(file, what)
                found = np.asarray(_turned(image)).astype(np.uint16) * np.uint16(256) + lower
            else:
                found = _grey_values(image, what)
            clear = image.info.get("transparency")
    found = found.reshape(*found.shape[:2], -1)
    if clear is not None:
        solid = (found != np.asarray(clear)).any(axis=-1, keepdims=True)
        found = np.concatenate([found, solid * found.dtype.type(65535)], axis=-1)
    return found


def unit_values(
    found: Shaped[np.ndarray, "height width channels"], scale: Scale
) -> Float32[np.ndarray, "height width colours"]:
    """What `values` gave, on the scale from 0 to 1, with what is transparent over white."""
    colours = 3 if found.shape[-1] >= 3 else 1
    unit = to_unit(found[..., :colours], scale)
    if found.shape[-1] == colours:
        return unit
    solid = found[..., colours:].astype(np.float32) / np.float32(65535)
    return unit * solid + (1 - solid)


@contextmanager
def _opened(file: Encoded, what: str) -> Iterator[Image.Image]:
    """The image of a file; Pillow's errors become one line."""
    source = io.BytesIO(file) if isinstance(file, bytes) else plain_file(file)
    try:
        with Image.open(source, formats=FORMATS) as image:
            yield image
    except InputError:
        raise
    except Image.UnidentifiedImageError as error:
        raise InputError(
            f"{what} is not an image of a kind that is read here ({', '.join(FORMATS)}); replace "
            "or remove it"
        ) from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise InputError(
            f"{what} is not an image that is read here: it has more than "
            f"{Image.MAX_IMAGE_PIXELS:,} pixels; make it smaller or remove it"
        ) from error
    except _UNREADABLE as error:
        raise InputError(
            f"{what} is not an image that can be read ({words(error)}); replace or remove it"
        ) from error


def _depth(image: Image.Image, what: str) -> str:
    """How deep the pixels of a file are, by its header.

    Raises:
        InputError: deeper than what Pillow gives of them.
    """
    raw = _raw_modes(image)
    deep_ppm = image.format == "PPM" and any(most > 255 or name == "I;16B" for name, most in raw)
    bits = _tag(image, _BITS)
    if image.mode == "F":
        return FLOATS
    if image.mode.startswith("I;16") or (image.mode == "I" and (deep_ppm or bits == 16)):
        return "16-bit"
    if image.mode == "I":
        return "32-bit"
    sixteen = {f"{image.mode};16{order}" for order in _LOWER}
    colour = image.mode in ("RGB", "RGBA") and _tag(image, _PLANES) == 1
    if colour and raw and all(name in sixteen for name, _ in raw):
        return "16-bit"
    if deep_ppm or bits > 8 or any(name == "LA;16B" for name, _ in raw):
        raise InputError(
            f"{what} has more than 8 bits in a form that is not read here ({image.format}, "
            f"{image.mode}); save it as PNG, grey or RGB, without transparency"
        )
    return EIGHT_BITS


def _raw_modes(image: Image.Image) -> list[tuple[str, int]]:
    """How the parts of a file hold their pixels; and, of PPM, the greatest value, else 0."""
    found = []
    for tile in image.tile if isinstance(image, ImageFile.ImageFile) else []:
        args = _args(tile)
        most = int(args[1]) if image.format == "PPM" and tile.codec_name.startswith("ppm") else 0
        found.append((str(args[0]) if args else "", most))
    return found


def _args(tile: Any) -> tuple[Any, ...]:
    return tile.args if isinstance(tile.args, tuple) else (tile.args,)


def _tag(image: Image.Image, tag: int) -> int:
    """What a TIFF says, the most if of several channels; 1 if it says nothing, or is another."""
    found = getattr(image, "tag_v2", {}).get(tag, 1)
    return max(found) if isinstance(found, tuple) else int(found)


def _grey_values(image: Image.Image, what: str) -> Shaped[np.ndarray, "height width"]:
    scaled = [most for _, most in _raw_modes(image) if 0 < most < 65535]
    bits, inverted = _tag(image, _BITS), _tag(image, _PHOTOMETRIC) == 0
    unsigned = image.mode == "I" and bits == 32 and _tag(image, _SAMPLES) == 1
    sixteen = image.mode.startswith("I;16")
    image.load()
    found = np.asarray(_turned(image))
    if scaled:  # PPM: Pillow stretches what the file holds to 16 bits.
        return np.rint(found * (scaled[0] / 65535)).astype(np.int32)
    if unsigned:
        found = found.view(np.uint32)
    if inverted:
        if not sixteen:
            raise InputError(f"{what} has 0 for white at 32 bits; save it with 0 for black")
        found = np.uint16(2**bits - 1) - found
    return found


def _lower_bits(file: Encoded, what: str) -> UInt8[np.ndarray, "height width channels"]:
    """The lower eight of 16 bits of colour."""
    with _opened(file, what) as image:
        assert isinstance(image, ImageFile.ImageFile)
        tiles = []
        for tile in image.tile:
            name, *rest = _args(tile)
            tiles.append(tile._replace(args=(f"{name[:-1]}{_LOWER[name[-1]]}", *rest)))
        image.tile = tiles
        image.load()
        return np.asarray(_turned(image))


def _orientation(image: Image.Image) -> int:
    """How EXIF has the image turned; Pillow turns a TIFF by itself.

    What a PNG says behind its pixels is known once they are read.
    """
    if image.format == "TIFF" or _WITH_ORIENTATION.isdisjoint(image.info):
        return 1
    try:
        found = image.getexif().get(_ORIENTATION, 1)
    except _UNREADABLE as error:
        warnings.warn(f"Corrupt EXIF data: {words(error)}", stacklevel=2)
        return 1
    return found if isinstance(found, int) else 1


def _turned(image: Image.Image) -> Image.Image:
    turn = _TURNS.get(_orientation(image))
    return image if turn is None else image.transpose(turn)


def _over_white(image: Image.Image) -> Image.Image:
    if not image.has_transparency_data:
        return image
    image = image.convert("RGBA")
    return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)


@contextmanager
def _silent_libtiff() -> Iterator[None]:
    """Keep libtiff, which Pillow brings, from writing its own lines to stderr."""
    library = ctypes.CDLL(Image.core.__file__)
    try:
        handler = library.TIFFSetErrorHandler
    except AttributeError:  # A Pillow without it, or that hides it.
        yield
        return
    handler.restype, handler.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
    before = handler(None)
    try:
        yield
    finally:
        handler(before)
