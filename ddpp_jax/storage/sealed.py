"""JSON files with a digest of what they hold, which is checked when they are read."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpp_jax.errors import InputError
from ddpp_jax.storage.plain import plain_file
from ddpp_jax.storage.replacement import Replacement

DIGEST = "digest"
"""The entry of a JSON object that holds the SHA-256 of the others."""

_MOST_LEVELS = 40
_LARGEST = 2**63


def write_json(path: Path, values: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write values as JSON for people and programs, with their digest, whole or not at all.

    Args:
        path: of the file.
        values: plain ones.
        sync: as for `Replacement`.

    Raises:
        ValueError: they are none that `read_sealed` would give back.
    """
    plain = json.loads(json.dumps(values, allow_nan=False))
    _require_plain(plain)
    rest = {name: value for name, value in plain.items() if name != DIGEST}
    sealed = rest | {DIGEST: digest_of(rest)}
    with Replacement(path, sync=sync) as temporary:
        temporary.write_text(json.dumps(sealed, indent=2, allow_nan=False) + "\n")


def read_sealed(path: Path, *, remedy: str = "delete it") -> dict[str, Any]:
    """The values of a file that `write_json` wrote.

    Args:
        path: of the file.
        remedy: what to do where it is damaged.

    Raises:
        InputError: it is damaged, or has no digest.
        OSError: it cannot be read.
    """
    values = _object(path, remedy)
    if DIGEST not in values:
        raise InputError(
            f"{path} is damaged, edited or of an earlier version: it has no digest; {remedy}"
        )
    return _unsealed(path, values, remedy)


def read_json(path: Path, *, remedy: str = "delete it") -> dict[str, Any]:
    """The values of a JSON file that anybody may have written; a digest is checked where it is.

    Args:
        path: of the file.
        remedy: what to do where it is damaged.

    Raises:
        InputError: it holds no JSON object, or its digest is that of something else.
        OSError: it cannot be read.
    """
    values = _object(path, remedy)
    return _unsealed(path, values, remedy) if DIGEST in values else values


def digest_of(values: Mapping[str, Any]) -> str:
    """The SHA-256 of plain values, whatever their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def decode_json(data: bytes | str) -> Any:
    """The values of a JSON text: strict JSON in UTF-8, of a depth and of numbers that make sense.

    Raises:
        ValueError: it is not so; the message says why.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        values = json.loads(text, object_pairs_hook=_object_of, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {_MOST_LEVELS} levels") from None
    _require_plain(values)
    return values


def _object(path: Path, remedy: str) -> dict[str, Any]:
    data = plain_file(path).read_bytes()
    try:
        values = decode_json(data)
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; {remedy}") from error
    if not isinstance(values, dict):
        kind = type(values).__name__
        raise InputError(f"{path} is damaged: it holds a {kind}, wanted an object; {remedy}")
    return values


def _unsealed(path: Path, values: dict[str, Any], remedy: str) -> dict[str, Any]:
    digest = values.pop(DIGEST)
    if digest != digest_of(values):
        raise InputError(
            f"{path} is damaged or was edited: its digest is not that of what it holds; {remedy}"
        )
    return values


def _object_of(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _require_plain(values: Any) -> None:
    """Refuse deep nesting, and numbers that neither 64 bits nor a float holds."""
    level = [values]
    for _ in range(_MOST_LEVELS):
        deeper = []
        for value in level:
            if isinstance(value, dict):
                deeper += value.values()
            elif isinstance(value, list):
                deeper += value
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError("a number in it is too large")
            elif isinstance(value, int) and abs(value) >= _LARGEST:
                raise ValueError("a whole number in it is too large")
        if not deeper:
            return
        level = deeper
    raise ValueError(f"it is nested deeper than {_MOST_LEVELS} levels")
