"""MTT's expert trajectories, `replay_buffer_*.pt`, read and written.

MTT: Cazenavette et al., CVPR 2022.
A file is a list of teachers, a teacher a list of epochs from its initialisation on, an epoch the
list of its network's tensors in PyTorch's order and layout.
"""

import hashlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32, Int

from ddpp_jax.data import load_torch, require_torch, tensor_array
from ddpp_jax.errors import InputError
from ddpp_jax.storage import Replacement, TeacherStore

TEACHERS_A_FILE = 10
"""As MTT's program writes them."""

_NUMBER = re.compile(r"(\d+)\D*$")
_BLOCK = ("Conv3x3_{}/kernel", "Conv3x3_{}/bias", "InstanceNorm_{}/scale", "InstanceNorm_{}/shift")
_LAST = ("Dense_0/kernel", "Dense_0/bias")


class TorchLayout(NamedTuple):
    """How PyTorch's ConvNet holds what our vector of parameters holds.

    Attributes:
        shapes: of its tensors, in the order of `net.parameters()`.
        order: for each of their numbers, in C order one tensor after another, its place in our
            vector.
    """

    shapes: tuple[tuple[int, ...], ...]
    order: Int[np.ndarray, " parameters"]


def torch_layout(tensors: Sequence[tuple[str, tuple[int, ...]]]) -> TorchLayout:
    """How PyTorch's ConvNet holds a vector of this library.

    Kernels (3, 3, in, out) are (out, in, 3, 3) there, and the rows of the linear layer, here by
    place and then by feature, go by feature and then by place.

    Args:
        tensors: names and shapes in the order of our vector, as `Network.tensors` gives them.

    Raises:
        InputError: they are not those of a ConvNet.
    """
    places, start = {}, 0
    for name, shape in tensors:
        size = int(np.prod(shape))
        places[name] = np.arange(start, start + size).reshape(shape)
        start += size
    depth = len(places) // len(_BLOCK)
    blocks = [name.format(block) for block in range(depth) for name in _BLOCK]
    if places.keys() != {*blocks, *_LAST}:
        raise InputError(f"MTT's buffers are of ConvNets; this network has {', '.join(places)}")
    found = [
        places[name].transpose(3, 2, 0, 1) if places[name].ndim == 4 else places[name]
        for name in blocks
    ]
    kernel, bias = (places[name] for name in _LAST)
    width, classes = len(found[-1]), len(bias)
    side = round((len(kernel) // width) ** 0.5)
    by_place = kernel.reshape(side, side, width, classes)
    found += [by_place.transpose(3, 2, 0, 1).reshape(classes, -1), bias]
    order = np.concatenate([tensor.ravel() for tensor in found])
    return TorchLayout(tuple(tensor.shape for tensor in found), order)


def buffer_files(paths: Sequence[Path]) -> list[Path]:
    """The files of buffers that some paths stand for, in the order of their numbers.

    Args:
        paths: files, or folders of `replay_buffer_*.pt`.

    Raises:
        InputError: there are none, or one is named twice.
    """
    found = []
    for path in paths:
        if path.is_dir():
            within = list(path.glob("replay_buffer_*.pt"))
            if not within:
                raise InputError(f"{path} holds no replay_buffer_*.pt; name the folder that does")
            found += within
        elif path.is_file():
            found.append(path)
        else:
            raise InputError(f"there is no file {path}; wanted replay_buffer_*.pt or their folder")
    resolved = [path.resolve() for path in found]
    if len(set(resolved)) < len(resolved):
        twice = next(p for p, full in zip(found, resolved, strict=True) if resolved.count(full) > 1)
        raise InputError(f"{twice} is named twice; name each file once")
    return sorted(found, key=_number)


def read_buffers(
    files: Sequence[Path], layout: TorchLayout, *, teachers: int, epochs: int
) -> Iterator[tuple[str, Float32[np.ndarray, "snapshots parameters"]]]:
    """The first teachers of some files, one by one: what names each, and its trajectory.

    Args:
        files: in their order.
        layout: of the network.
        teachers: how many are wanted.
        epochs: the last epoch that is read of each.

    Raises:
        InputError: a file is damaged or holds something else, another network, too few teachers or
            epochs, or a teacher that does not move.
    """
    found = 0
    for path in files:
        content = load_torch(path, mapped=True)
        if not isinstance(content, list) or not content:
            raise InputError(
                f"{path} holds {_words(content)}; wanted MTT's list of teachers, each a list of "
                "epochs, each a list of tensors"
            )
        for number, teacher in enumerate(content):
            if found == teachers:
                return
            yield f"{path.name}, {number}", _trajectory(teacher, layout, epochs, path, number)
            found += 1
    if found < teachers:
        raise InputError(
            f"{files[0].parent} holds {found} teachers in {len(files)} files, fewer than "
            f"--teachers {teachers}; give --teachers {found}"
        )


def content_digest(
    trajectories: Iterator[tuple[str, Float32[np.ndarray, "snapshots parameters"]]],
    tick: Callable[[int, Mapping[str, float]], None],
) -> str:
    """Eight hexadecimal digits that change with any parameter of any teacher."""
    content = hashlib.sha256()
    for number, (_, trajectory) in enumerate(trajectories, start=1):
        content.update(f"{trajectory.shape}".encode())
        content.update(trajectory.tobytes())
        tick(number, {})
    return content.hexdigest()[:8]


def write_buffers(store: TeacherStore, folder: Path) -> list[Path]:
    """Write all teachers of a store as MTT's program does; the files.

    Args:
        store: trained or imported.
        folder: where to; it need not exist.

    Raises:
        InputError: PyTorch is not installed, or a teacher is damaged, or they are none of a
            ConvNet.
        OSError: the folder cannot be written to.
    """
    torch = require_torch("files of mtt-buffers")
    count = teachers_in(store)
    written = []
    for number, start in enumerate(range(0, count, TEACHERS_A_FILE)):
        several = range(start, min(start + TEACHERS_A_FILE, count))
        content = [_tensors(torch, store, index) for index in several]
        path = folder / f"replay_buffer_{number}.pt"
        with Replacement(path) as temporary:
            torch.save(content, temporary)
        written.append(path)
    return written


def teachers_in(store: TeacherStore) -> int:
    """How many teachers a store holds.

    Raises:
        InputError: it holds none, or lacks one of those before the last.
    """
    names = [path.name for path in store.folder.glob("teacher-*") if path.is_dir()]
    numbers = [int(name[8:]) for name in names if name[8:].isdecimal()]
    if not numbers:
        raise InputError(f"{store.folder} holds no teachers; name a folder below runs/teachers")
    missing = store.missing(max(numbers) + 1)
    if missing:
        raise InputError(
            f"{store.folder} lacks teacher {missing[0]} of {max(numbers) + 1}; the command that "
            "made them makes it again"
        )
    return max(numbers) + 1


def _tensors(torch: Any, store: TeacherStore, index: int) -> list[list[Any]]:
    """A teacher's epochs as PyTorch's tensors."""
    damage = store.damaged(index)
    if damage is not None:
        raise InputError(f"{damage}; the command that made these teachers makes it again")
    known = store.known(index)
    if "tensors" not in known:
        raise InputError(
            f"teacher {index} of {store.folder} was kept by an earlier version, which did not note "
            "its tensors; train these teachers anew, with another --teachers-dir"
        )
    layout = torch_layout([(name, tuple(shape)) for name, shape in known["tensors"]])
    snapshots = range(len(known["arrays"]))
    cuts = np.cumsum([int(np.prod(shape)) for shape in layout.shapes])[:-1]
    epochs = []
    for vector in store.read(index, snapshots, num_params=len(layout.order)):
        pieces = np.split(vector[layout.order], cuts)
        epochs.append(
            [
                torch.from_numpy(piece.reshape(shape).copy())
                for piece, shape in zip(pieces, layout.shapes, strict=True)
            ]
        )
    return epochs


def _trajectory(
    teacher: Any, layout: TorchLayout, epochs: int, path: Path, number: int
) -> Float32[np.ndarray, "snapshots parameters"]:
    what = f"{path}: teacher {number}"
    if not isinstance(teacher, list) or not all(isinstance(e, list | tuple) for e in teacher):
        raise InputError(f"{what} is {_words(teacher)}; wanted a list of epochs, lists of tensors")
    if len(teacher) < epochs + 1:
        has = len(teacher) - 1
        raise InputError(
            f"{what} has {max(has, 0)} epochs, fewer than --epochs {epochs}; "
            + (f"give --epochs {has}" if has > 0 else "it cannot be used")
        )
    found = np.empty((epochs + 1, len(layout.order)), np.float32)
    for epoch, tensors in enumerate(teacher[: epochs + 1]):
        arrays = [tensor_array(tensor, f"{what}, epoch {epoch}") for tensor in tensors]
        _check_tensors(arrays, layout, f"{what}, epoch {epoch}")
        found[epoch, layout.order] = np.concatenate([array.ravel() for array in arrays])
    if not np.isfinite(found).all():
        raise InputError(f"{what} holds NaN or infinite parameters; leave its file out")
    if (found == found[0]).all():
        raise InputError(
            f"{what} is the same in all of its epochs: MTT's program keeps one array for all where "
            "it trains on a CPU; nothing can be learnt from it: train it on a GPU, or here"
        )
    return found


def _check_tensors(arrays: Sequence[np.ndarray], layout: TorchLayout, what: str) -> None:
    shapes = tuple(array.shape for array in arrays)
    if shapes != layout.shapes:
        place = next(
            (i for i, (a, b) in enumerate(zip(shapes, layout.shapes, strict=False)) if a != b),
            min(len(shapes), len(layout.shapes)),
        )
        theirs, wanted = (
            f"{len(all_)} tensors"
            + (f", number {place} {all_[place]}" if place < len(all_) else "")
            for all_ in (shapes, layout.shapes)
        )
        raise InputError(f"{what} has {theirs}; wanted {wanted}{_advice(shapes, layout.shapes)}")
    for array in arrays:
        if array.dtype not in (np.float16, np.float32):
            raise InputError(f"{what} holds {array.dtype}; wanted float32")


def _advice(shapes: Sequence[tuple[int, ...]], wanted: Sequence[tuple[int, ...]]) -> str:
    """What to do where another network was found, if it is a ConvNet."""
    depth, rest = divmod(len(shapes) - len(_LAST), len(_BLOCK))
    if depth < 1 or rest or [len(s) for s in shapes] != [4, 1, 1, 1] * depth + [2, 1]:
        return ": these are no ConvNets with instance norm, and cannot be taken"
    width = shapes[0][0]
    if (depth, width) != ((len(wanted) - 2) // 4, wanted[0][0]):
        return f": give --width {width} and --depth {depth}"
    if shapes[0][1] != wanted[0][1]:
        return f": give data of {shapes[0][1]} channels"
    if len(shapes[-1]) and shapes[-1] != wanted[-1]:
        return f": give data of {shapes[-1][0]} classes"
    return ": give data of the images' size, by --image-size"


def _words(content: Any) -> str:
    return f"a {type(content).__name__}" + (" of nothing" if content in ([], {}) else "")


def _number(path: Path) -> tuple[int, str]:
    found = _NUMBER.search(path.stem)
    return (int(found[1]) if found else 0, str(path))
