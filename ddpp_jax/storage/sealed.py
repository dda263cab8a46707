"""JSON files sealed by a digest of what they hold, and plain values checked against a type."""

import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from ddpp_jax.errors import InputError, one_line
from ddpp_jax.storage.files import Replacement, plain_file

DIGEST = "digest"
"""The entry that holds the SHA-256 of everything else."""

_MAX_DEPTH = 40
_MAX_INTEGER = 2**63


def write_json(path: Path, values: Mapping[str, Any], *, sync: bool = True) -> None:
    """Write plain values as JSON with their digest, whole or not at all; `sync` as `Replacement`.

    Raises:
        ValueError: `read_sealed` would not give the values back.
    """
    plain = json.loads(json.dumps(values, allow_nan=False))
    _require_plain(plain)
    plain.pop(DIGEST, None)
    sealed = plain | {DIGEST: digest_of(plain)}
    with Replacement(path, sync=sync) as temporary:
        temporary.write_text(json.dumps(sealed, indent=2, allow_nan=False) + "\n")


def read_sealed(path: Path, *, remedy: str = "delete it", kind: Any = None) -> dict[str, Any]:
    """The values of a file that `write_json` wrote, which must match `kind`, a `TypedDict`, if any.

    Raises:
        InputError: it is damaged, has no digest, or holds another kind; `remedy` is what to do.
        OSError: it cannot be read.
    """
    values = read_json(path, remedy=remedy, sealed=True)
    if kind is not None:
        try:
            require_kind(values, kind)
        except ValueError as error:
            raise InputError(f"{path} is damaged: {error}; {remedy}") from error
    return values


def read_json(path: Path, *, remedy: str = "delete it", sealed: bool = False) -> dict[str, Any]:
    """The values of a JSON file that anybody may have written; a digest is checked if present.

    Raises:
        InputError: it holds no JSON object, its digest is that of something else, or it has none
            and `sealed` requires one; `remedy` is what to do.
        OSError: it cannot be read.
    """
    data = plain_file(path).read_bytes()
    try:
        values = decode_json(data)
        if not isinstance(values, dict):
            raise ValueError(f"it holds a {type(values).__name__}, wanted an object")
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}; {remedy}") from error
    if DIGEST not in values:
        if sealed:
            raise InputError(
                f"{path} is damaged, edited or of an earlier version: it has no digest; {remedy}"
            )
        return values
    digest = values.pop(DIGEST)
    if digest != digest_of(values):
        raise InputError(
            f"{path} is damaged or was edited: its digest is not that of what it holds; {remedy}"
        )
    return values


def digest_of(values: Mapping[str, Any]) -> str:
    """The SHA-256 of plain values, whatever their order."""
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


def decode_json(data: bytes | str) -> Any:
    """The values of strict JSON in UTF-8, with bounds on depth and numbers.

    Raises:
        ValueError: it is anything else; the message says why.
    """
    try:
        text = data if isinstance(data, str) else data.decode()
        values = json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels") from None
    _require_plain(values)
    return values


def require_kind(values: Any, kind: Any) -> None:
    """Refuse values that do not match a `TypedDict`; unknown names are allowed.

    Raises:
        ValueError: they are no object, or a name is missing or of another type; says which.
    """
    if not isinstance(values, Mapping):
        raise ValueError(f"a {type(values).__name__} is there, wanted an object")
    known = {name: value for name, value in values.items() if name in kind.__annotations__}
    require_type(known, kind)


def require_type(value: Any, kind: Any) -> None:
    """Refuse a value that is not of a type, down to every entry.

    Raises:
        ValueError: it is not; says what is.
    """
    try:
        check_type(value, kind, collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
    except TypeCheckError as error:
        raise ValueError(one_line(str(error))) from error


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a name appears twice in one object")
    return found


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _require_plain(values: Any) -> None:
    """Refuse deep nesting, and numbers that neither 64 bits nor a float holds."""
    level = [values]
    for _ in range(_MAX_DEPTH):
        deeper = []
        for value in level:
            if isinstance(value, dict):
                deeper += value.values()
            elif isinstance(value, list):
                deeper += value
            elif isinstance(value, float) and not math.isfinite(value):
                raise ValueError("a number in it is too large")
            elif isinstance(value, int) and abs(value) >= _MAX_INTEGER:
                raise ValueError("a whole number in it is too large")
        if not deeper:
            return
        level = deeper
    raise ValueError(f"it is nested deeper than {_MAX_DEPTH} levels")
