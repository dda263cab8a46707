"""Files of safetensors that others wrote, and those that are exported for them."""

from pathlib import Path

import numpy as np
from jaxtyping import Shaped

from ddpp_jax.data.carried import LAYOUT
from ddpp_jax.errors import InputError
from ddpp_jax.storage import DIGEST, decode_json, load_tensors, read_tensors

EXPORT_FORMAT = "ddpp-jax export 1"
"""The key of the metadata of an exported file: class names and layout, as JSON."""


def read_safetensors(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """Every tensor of a file as an array, and the class names and the layout of its metadata.

    Raises:
        InputError: the file is damaged, or holds numbers of a kind that NumPy lacks.
        OSError: it cannot be read.
    """
    arrays, entries = load_tensors(path)
    if DIGEST in entries.get(EXPORT_FORMAT, ""):  # Earlier versions wrote none.
        read_tensors(path, kind=EXPORT_FORMAT)
    return _entries(path, entries) | arrays


def _entries(path: Path, entries: dict[str, str]) -> dict[str, Shaped[np.ndarray, "..."]]:
    """What the metadata of a file say beside its tensors, as arrays of strings."""
    try:
        about = decode_json(entries.get(EXPORT_FORMAT, "{}"))
        if "class_names" in entries:
            about["class_names"] = decode_json(entries["class_names"])
        return {name: np.asarray(about[name]) for name in ("class_names", LAYOUT) if name in about}
    except (ValueError, TypeError) as error:
        raise InputError(f"{path}: its metadata are damaged: {error}") from error
