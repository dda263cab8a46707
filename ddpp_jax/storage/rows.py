"""JSON-lines files that grow a row at a time, each row with a checksum."""

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TextIO

from ddpp_jax.errors import InputError
from ddpp_jax.storage.files import Replacement, name_file, plain_file
from ddpp_jax.storage.sealed import decode_json

CHECKSUM = "crc"
"""The last entry of a row: the CRC-32 of the row without it, in eight hexadecimal digits."""


def append_row(file: TextIO, row: Mapping[str, Any]) -> None:
    """Add a row to an open JSON-lines file, at once."""
    try:
        file.write(_line(row))
        file.flush()
    except OSError as error:
        name_file(error, Path(file.name))
        raise


def write_rows(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """Write a JSON-lines file, whole or not at all."""
    with Replacement(path, sync=True) as temporary:
        temporary.write_text("".join(_line(row) for row in rows))


def read_rows(
    path: Path, damaged: Callable[[int, str], None] | None = None
) -> list[dict[str, Any]]:
    """The rows of a JSON-lines file; none if there is no file.

    A kill can leave the last line unfinished; that line is not a row. `damaged(line, reason)` is
    called for each damaged line, which is then left out.

    Raises:
        InputError: a line is damaged, and `damaged` is None.
        OSError: the file cannot be read.
    """
    if not path.exists():
        return []
    rows = []
    *lines, _ = plain_file(path).read_bytes().split(b"\n")
    for number, line in enumerate(lines, start=1):
        try:
            rows.append(_row(line))
        except ValueError as error:
            if damaged is None:
                raise InputError(
                    f"{path}, line {number} is damaged: {error}; delete that line"
                ) from error
            damaged(number, str(error))
    return rows


def cut_torn_row(path: Path) -> int:
    """The number of whole lines in a JSON-lines file, after cutting off an unfinished last one."""
    if not path.exists():
        return 0
    content = plain_file(path).read_bytes()
    end = content.rfind(b"\n") + 1
    if end < len(content):
        os.truncate(path, end)
    return content.count(b"\n")


def _line(row: Mapping[str, Any]) -> str:
    return json.dumps({**row, CHECKSUM: _checksum(row)}, allow_nan=False) + "\n"


def _row(line: bytes) -> dict[str, Any]:
    row = decode_json(line)
    if not isinstance(row, dict):
        raise ValueError("it is no object")
    if CHECKSUM not in row:
        raise ValueError(f"it has no {CHECKSUM}")
    if row.pop(CHECKSUM) != _checksum(row):
        raise ValueError("its checksum is not that of what it holds")
    return row


def _checksum(row: Mapping[str, Any]) -> str:
    return f"{zlib.crc32(json.dumps(row).encode()):08x}"
