"""Image files made by hand, independent of what reads them."""

import io
import struct
import zlib

import numpy as np
from PIL import Image

_COLOURS = {1: 0, 2: 4, 3: 2, 4: 6}


def png(values, *, chunks=()):
    """A PNG of 16 bits a channel, with another filter in each row."""
    height, width, channels = values.shape
    step, before, rows = 2 * channels, bytes(2 * channels * width), []
    for number, row in enumerate(values.astype(">u2")):
        line, kind = row.tobytes(), number % 3
        left = bytes(step) + line[:-step]
        rival = {0: bytes(len(line)), 1: left, 2: before}[kind]
        rows.append(bytes([kind, *((a - b) % 256 for a, b in zip(line, rival, strict=True))]))
        before = line
    head = struct.pack(">IIBBBBB", width, height, 16, _COLOURS[channels], 0, 0, 0)
    parts = [(b"IHDR", head), *chunks, (b"IDAT", zlib.compress(b"".join(rows))), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(map(_chunk, parts))


def _chunk(part):
    name, data = part
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def tiff(values, *, order="<", photometric=None, bits=16):
    """An uncompressed TIFF of unsigned numbers."""
    height, width, channels = values.shape
    kind = f"{order}u{bits // 8}"
    data = values.astype(kind).tobytes()
    if photometric is None:
        photometric = 2 if channels == 3 else 1
    more = b"" if channels == 1 else np.full(channels, bits, f"{order}u2").tobytes()
    fields = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, bits if channels == 1 else 8 + len(data)),
        (259, 3, 1, 1),
        (262, 3, 1, photometric),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
    ]
    entries = b"".join(
        struct.pack(f"{order}HHI", *field[:3])
        + (
            struct.pack(f"{order}HH", field[3], 0)
            if field[1:3] == (3, 1)
            else struct.pack(f"{order}I", field[3])
        )
        for field in fields
    )
    mark = b"II*\0" if order == "<" else b"MM\0*"
    start = struct.pack(f"{order}I", 8 + len(data) + len(more))
    return mark + start + data + more + struct.pack(f"{order}H", len(fields)) + entries + bytes(4)


def jpeg_or_png(pixels, kind, orientation=None):
    """A file of Pillow's, with an orientation in its EXIF data."""
    file, exif = io.BytesIO(), Image.Exif()
    if orientation is not None:
        exif[274] = orientation
    options = {"quality": 100, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(pixels).save(file, kind, exif=exif, **options)
    return file.getvalue()
