"""The whitening of a run's sets, once in its folder: its matrix is larger than any of them."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ddpp_jax.data import is_whitening
from ddpp_jax.errors import InputError
from ddpp_jax.storage import DIGEST, decode_json, metadata_of, read_tensors, write_tensors

FILE = "whitening.safetensors"
KIND = "ddpp-jax whitening 1"
"""The key of the file's metadata."""

_PLACES = (FILE, f"../{FILE}")


def share_whitening(
    run: Path, path: Path, transform: Mapping[str, np.ndarray]
) -> dict[str, str] | None:
    """What a set's file says of the whitening that lies in its run's folder, where it is kept now.

    Args:
        run: the folder of the run.
        path: of the set, in that folder or in one of its parts.
        transform: of the set; None comes back for one that is no whitening, which is small.
    """
    if not is_whitening(transform):
        return None
    place = run / FILE
    arrays = {name: np.asarray(array, np.float32) for name, array in transform.items()}
    if not place.exists() or not _holds(place, arrays):
        write_tensors(place, arrays, {}, kind=KIND)
    return {"file": os.path.relpath(place, path.parent), "digest": _digest(place)}


def shared_whitening(path: Path, said: Any) -> dict[str, np.ndarray]:
    """The whitening that a set's file names.

    Args:
        path: of the set.
        said: what its file says of the whitening.

    Raises:
        InputError: that makes no sense, or the whitening is missing, damaged or another.
        OSError: it cannot be read.
    """
    if not isinstance(said, dict) or said.get("file") not in _PLACES:
        raise InputError(f"{path} names its whitening as {said}; wanted {FILE} in the run's folder")
    place = path.parent / said["file"]
    if not place.exists():
        raise InputError(
            f"{path} needs the whitening {place}, which is not there; leave the set in the folder "
            "of its run, or take it elsewhere by python -m ddpp_jax.export"
        )
    arrays, _ = read_tensors(place, kind=KIND)
    if _digest(place) != said.get("digest"):
        raise InputError(f"{place} is another whitening than that of {path}")
    return arrays


def _holds(place: Path, arrays: Mapping[str, np.ndarray]) -> bool:
    try:
        found, _ = read_tensors(place, kind=KIND)
    except InputError:  # It is damaged, and written anew.
        return False
    return found.keys() == arrays.keys() and all(
        np.array_equal(found[name], array) for name, array in arrays.items()
    )


def _digest(place: Path) -> str:
    return decode_json(metadata_of(place)[KIND])[DIGEST]
