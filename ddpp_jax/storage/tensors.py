"""Arrays and plain values in one file (safetensors), with a digest that is checked on reading."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors
import safetensors.numpy
from jaxtyping import Shaped

from ddpp_jax.errors import InputError, one_line
from ddpp_jax.storage.files import Replacement, plain_file
from ddpp_jax.storage.sealed import DIGEST, decode_json

_TYPES = frozenset(
    ["BOOL", "U8", "I8", "U16", "I16", "U32", "I32", "U64", "I64", "F16", "F32", "F64"]
)
"""The types of safetensors that NumPy has too."""

_UNREADABLE = (OSError, ValueError, safetensors.SafetensorError)


def write_tensors(
    path: Path,
    tensors: Mapping[str, Shaped[np.ndarray, "..."]],
    values: Mapping[str, Any],
    *,
    kind: str,
) -> None:
    """Write arrays and plain values with their digest, whole or not at all.

    The values are kept as JSON under one key of the metadata, `kind`, which says what the file is.
    Equal content gives equal files.
    """
    arrays = {name: np.asarray(tensor, order="C") for name, tensor in tensors.items()}
    plain = json.loads(json.dumps(values, allow_nan=False))
    sealed = json.dumps(plain | {DIGEST: _digest(arrays, plain)})
    with Replacement(path, sync=True) as temporary:
        # One entry, since safetensors writes several in an order that changes from run to run.
        # By way of bytes, since safetensors' own writing leaves a file of its own behind a kill.
        temporary.write_bytes(safetensors.numpy.save(arrays, metadata={kind: sealed}))


def read_tensors(
    path: Path, *, kind: str
) -> tuple[dict[str, Shaped[np.ndarray, "..."]], dict[str, Any]]:
    """The arrays and the plain values of a file that `write_tensors` wrote.

    Raises:
        InputError: it is damaged, or of another kind.
        OSError: it cannot be read.
    """
    tensors, metadata = load_tensors(path)
    if kind not in metadata:
        raise InputError(f"{path} is damaged or of another kind; wanted a {kind!r}")
    try:
        values = decode_json(metadata[kind])
        if not isinstance(values, dict):
            raise ValueError("its values are no JSON object")
        if values.pop(DIGEST, None) != _digest(tensors, values):
            raise ValueError("its digest is not that of what it holds")
    except ValueError as error:
        raise InputError(f"{path} is damaged: {error}") from error
    return tensors, values


def load_tensors(path: Path) -> tuple[dict[str, Shaped[np.ndarray, "..."]], dict[str, str]]:
    """All arrays of any safetensors file, and its metadata.

    Raises:
        InputError: it is damaged, or holds a type that NumPy lacks.
        OSError: it cannot be read.
    """
    _require_readable(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            types = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
            for name, dtype in types.items():
                if dtype not in _TYPES:
                    raise InputError(
                        f"{path} holds {name!r} as {dtype}, which NumPy has no type for; wanted F32"
                    )
            return {name: file.get_tensor(name) for name in types}, dict(file.metadata() or {})
    except InputError:
        raise
    except _UNREADABLE as error:
        raise InputError(f"{path} is damaged: {one_line(str(error))}") from error


def metadata_of(path: Path) -> dict[str, str]:
    """The metadata of a safetensors file; empty if it is none.

    Raises:
        OSError: it cannot be read.
    """
    _require_readable(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            return dict(file.metadata() or {})
    except _UNREADABLE:
        return {}


def _require_readable(path: Path) -> None:
    """Let an unreadable file raise its own OSError in place of safetensors' error."""
    with plain_file(path).open("rb"):
        pass


def _digest(tensors: Mapping[str, np.ndarray], values: Mapping[str, Any]) -> str:
    digest = hashlib.sha256(json.dumps(values, sort_keys=True).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, tensor.dtype.str, tensor.shape]).encode())
        digest.update(np.ascontiguousarray(tensor).data)
    return digest.hexdigest()
