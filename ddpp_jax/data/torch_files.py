"""Files that `torch.save` wrote: tensors, read without running anything that they hold."""

import hashlib
import importlib
import re
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from ddpp_jax.data.carried import LAYOUT, TRANSFORM_NAMES
from ddpp_jax.data.checks import CHANNELS_FIRST, require_memory
from ddpp_jax.errors import InputError
from ddpp_jax.storage import plain_file

SUFFIXES = (".pt", ".pth")

TRANSFORM_FILE = "transform.pt"
"""Beside files of one tensor each: the transform of their images."""

IMAGES_DIGEST = "images_sha256"
"""Its entry that says of which images it is."""

_ALIASES = {"image_syn": "images", "label_syn": "labels", "syn_lr": "lr"}
"""What the programs of the field call them."""

_TENSORS = {"images", "pixels", "labels", "lr", "alpha", *TRANSFORM_NAMES}
_OF_A_STEP = re.compile(r"images_(\d+)\.pt")


def require_torch(what: str) -> Any:
    """PyTorch.

    Args:
        what: needs it, in the plural, for the message.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("torch")
    except ImportError:
        raise InputError(f'{what} need PyTorch: pip install "ddpp-jax[torch]"') from None


def load_torch(path: Path, *, mapped: bool = False) -> Any:
    """What a file holds: tensors, plain values, and lists and mappings of them.

    Args:
        path: the file.
        mapped: read tensors from the disk only when they are used.

    Raises:
        InputError: PyTorch is not installed, or the file is damaged, or holds anything else.
    """
    torch = require_torch("files of PyTorch's torch.save, .pt and .pth,")
    plain_file(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Of how PyTorch reads its older files.
            mapped = mapped and zipfile.is_zipfile(path)
            return torch.load(path, map_location="cpu", weights_only=True, mmap=mapped)
    except MemoryError:
        raise
    except Exception as error:  # A damaged file may raise anything.
        said = "it is damaged, or no file of torch.save"
        if re.search("unsupported (global|class)", str(error).lower()):
            said = "it holds more than tensors and plain values, and no code of it is run"
        raise InputError(
            f"{path} cannot be read by torch.load(weights_only=True): {said}"
        ) from error


def tensor_array(value: Any, what: str) -> Shaped[np.ndarray, "..."]:
    """A tensor, or a number, as an array; bfloat16 as float32.

    Raises:
        InputError: it is neither.
    """
    torch = require_torch("tensors")
    if isinstance(value, bool | int | float):
        return np.asarray(value)
    if not isinstance(value, torch.Tensor):
        raise InputError(f"{what} is a {type(value).__name__}; wanted a tensor")
    size = value.numel() * value.element_size()
    if value.layout == torch.strided and size > value.untyped_storage().nbytes():
        raise InputError(
            f"{what} is a tensor of shape {tuple(value.shape)} that holds fewer numbers than that; "
            "save its clone()"
        )
    require_memory(2 * size, what=f"the numbers of {what}", remedy="make it smaller")
    try:
        tensor = value.detach()
        return (tensor.float() if tensor.dtype == torch.bfloat16 else tensor).numpy()
    except (TypeError, RuntimeError, ValueError) as error:
        raise InputError(
            f"{what} is a tensor of {value.dtype} that NumPy cannot hold; wanted float32"
        ) from error


def torch_set(path: Path) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays of a small set: one file with a mapping of names to tensors, or three with one.

    Args:
        path: a file with a mapping; or one of the images alone, `images_NAME.pt`, beside which lie
            `labels_NAME.pt` and maybe `lr_NAME.pt`, as MTT (`best`) and DD-Ranking (no name) have
            them; there `transform.pt` may hold the transform of the images.

    Raises:
        InputError: it is not so, or damaged.
    """
    content = load_torch(path)
    arrays = _mapping(path, content) if isinstance(content, Mapping) else _beside(path, content)
    images = arrays.get("images")
    if images is not None and images.ndim == 4 and images.shape[1] in (1, 3):
        arrays.setdefault(LAYOUT, np.asarray(CHANNELS_FIRST))  # PyTorch's, where both could be.
    return arrays


def images_file(folder: Path) -> Path | None:
    """The file of images in a folder of PyTorch's files: the best, the only, or the latest ones."""
    for name in ("images_best.pt", "images.pt"):
        if (folder / name).is_file():
            return folder / name
    names = (_OF_A_STEP.fullmatch(path.name) for path in folder.iterdir())
    found = [name for name in names if name is not None]
    return folder / max(found, key=lambda name: int(name[1]))[0] if found else None


def images_digest(images: Shaped[np.ndarray, "..."]) -> str:
    """Hexadecimal digits that change with any pixel."""
    return hashlib.sha256(np.ascontiguousarray(images).tobytes()).hexdigest()


def _beside(path: Path, content: Any) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays of a file of images and of those beside it."""
    images = tensor_array(content, str(path))
    if not path.stem.startswith("images"):
        raise InputError(
            f"{path} is one tensor; wanted a mapping of names to tensors (images, labels and maybe "
            "lr), or a file called images*.pt with labels*.pt beside it"
        )
    ending = path.name.removeprefix("images")
    labels, rate = (path.with_name(f"{name}{ending}") for name in ("labels", "lr"))
    if not labels.is_file():
        raise InputError(f"{path} is of images alone; wanted their labels in {labels}")
    arrays = {"images": images, "labels": tensor_array(load_torch(labels), str(labels))}
    if rate.is_file():
        arrays["lr"] = _rate(tensor_array(load_torch(rate), str(rate)))
    place = path.with_name(TRANSFORM_FILE)
    if place.is_file():
        beside = load_torch(place)
        if not isinstance(beside, Mapping):
            raise InputError(f"{place} is a {type(beside).__name__}; wanted a mapping of tensors")
        if beside.get(IMAGES_DIGEST, images_digest(images)) != images_digest(images):
            raise InputError(f"{place} is of other images than {path}; remove it, or export again")
        arrays |= _mapping(place, beside)
    return arrays


def _mapping(path: Path, content: Mapping[Any, Any]) -> dict[str, Shaped[np.ndarray, "..."]]:
    """The arrays that are known by name; what else a mapping holds is ignored."""
    found = {}
    for name, value in content.items():
        own = _ALIASES.get(name, name)
        if own in found:
            raise InputError(f"{path} holds {own} under two names; wanted one of them")
        if own in _TENSORS:
            array = tensor_array(value, f"{path}: {name}")
            found[own] = _rate(array) if own in ("lr", "alpha") else array
        elif own in ("class_names", LAYOUT):
            found[own] = _texts(value, f"{path}: {name}")
    return found


def _texts(value: Any, what: str) -> Shaped[np.ndarray, "..."]:
    """A text, or a list of them, as an array."""
    listed = isinstance(value, list | tuple) and all(isinstance(text, str) for text in value)
    if not listed and not isinstance(value, str):
        raise InputError(f"{what} is no text and no list of texts; write it so, or leave it out")
    return np.asarray(value)


def _rate(array: Shaped[np.ndarray, "..."]) -> Shaped[np.ndarray, "..."]:
    """A whole number is a rate too, as Python may write it."""
    return array.astype(np.float64) if array.dtype.kind in "iu" else array
