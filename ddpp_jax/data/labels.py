"""Labels in the forms that people keep them in, as whole numbers from 0."""

from collections.abc import Mapping
from typing import TypeAlias

import numpy as np
from jaxtyping import Int32, Shaped

from ddpp_jax.errors import InputError
from ddpp_jax.text import checked_names

Arrays: TypeAlias = Mapping[str, Shaped[np.ndarray, "..."]]
"""Labels by the name of their array; the first are those to train on."""

_LARGEST = 2**31 - 1
_UNIQUE = "numpy.unique(labels, return_inverse=True) numbers them so"


Labels: TypeAlias = tuple[dict[str, Int32[np.ndarray, " images"]], tuple[str, ...], list[str]]
"""Whole numbers from 0, by the name of the array; a name for each; what was converted, in lines."""


def label_arrays(
    arrays: Arrays, counts: Mapping[str, int], class_names: tuple[str, ...] | None, what: str
) -> Labels:
    """Labels of one meaning, converted to whole numbers from 0.

    They are whole numbers from 0 or from 1, of any type; in a row or a column; rows with a single 1
    at the place of the class; or strings, names of the classes.

    Args:
        arrays: by name; the first are those to train on, which decide what the classes are.
        counts: how many images there are to each.
        class_names: in the order of the labels, if they are known.
        what: stands before the name of an array in a message.

    Raises:
        InputError: they are nothing of that, or nobody can tell what they are.
    """
    notes: list[str] = []
    flat = {n: _flat(array, counts[n], f"{what} {n}", notes) for n, array in arrays.items()}
    strings = [array.dtype.kind in "US" for array in flat.values()]
    if any(strings):
        if not all(strings):
            shown = " and ".join(f"{name} is {array.dtype}" for name, array in flat.items())
            raise InputError(f"{what} {shown}; wanted one type")
        return _from_names(flat, class_names, what, notes)
    numbers = {
        name: array if array.ndim == 2 else _whole(array, f"{what} {name}", notes)
        for name, array in flat.items()
    }
    convert = _from_rows if any(array.ndim == 2 for array in numbers.values()) else _from_zero
    numbers, classes = convert(numbers, class_names, what, notes)
    names = class_names or tuple(str(label) for label in range(classes))
    for name, labels in numbers.items():
        wrong = labels[(labels < 0) | (labels >= len(names))]
        if len(wrong):
            raise InputError(f"{what} {name} hold {wrong[0]}; wanted 0 to {len(names) - 1}")
    return {n: a.astype(np.int32) for n, a in numbers.items()}, names, notes


def as_texts(array: Shaped[np.ndarray, "..."], what: str) -> Shaped[np.ndarray, "..."] | None:
    """An array of strings or of bytes as one of strings; None if it is neither.

    Raises:
        InputError: bytes are not UTF-8.
    """
    if array.dtype.kind == "U":
        return array
    if array.dtype.kind != "S":
        return None
    try:
        return np.char.decode(array, "utf-8")
    except UnicodeDecodeError as error:
        raise InputError(f"{what}: a name is not UTF-8; write it again, as UTF-8") from error


def _flat(
    array: Shaped[np.ndarray, "..."], count: int, what: str, notes: list[str]
) -> Shaped[np.ndarray, "..."]:
    """Labels in a row, or in rows that are longer than 1."""
    if array.dtype.kind not in "biufUS":
        raise InputError(f"{what} are {array.dtype}; wanted whole numbers or strings")
    if array.ndim == 2 and array.shape[1] == 1 and len(array) == count:
        notes.append(f"{what} is a column of shape {array.shape}; taken as {count} labels")
        array = array[:, 0]
    if array.ndim not in (1, 2) or len(array) != count:
        raise InputError(
            f"{what} are of shape {array.shape} for {count} images; wanted one for each"
        )
    if array.ndim == 2 and array.dtype.kind in "US":
        raise InputError(f"{what} are strings of shape {array.shape}; wanted one for each image")
    return array


def _from_names(
    arrays: Arrays, class_names: tuple[str, ...] | None, what: str, notes: list[str]
) -> Labels:
    unique = {name: np.unique(array, return_inverse=True) for name, array in arrays.items()}
    used = {
        name: checked_names(_texts(values, f"{what} {name}"), f"{what} {name}")
        for name, (values, _) in unique.items()
    }
    first = next(iter(arrays))
    if class_names is None:
        among, names = first, tuple(sorted(used[first]))
        notes.append(f"{what} {first} holds names; they are the classes, in alphabetical order")
    else:
        among, names = "class_names", class_names
        notes.append(f"{what} {first} holds names; taken as places in class_names")
    places = {label: number for number, label in enumerate(names)}
    found = {}
    for name, labels in used.items():
        for label in labels:
            if label not in places:
                raise InputError(f"{what} {name} holds {label!r}, which {among} does not have")
        numbers = np.array([places[label] for label in labels], np.int32)
        found[name] = numbers[unique[name][1].reshape(-1)]
    return found, names, notes


def _texts(array: Shaped[np.ndarray, " names"], what: str) -> list[str]:
    texts = as_texts(array, what)
    assert texts is not None
    return texts.tolist()


def _whole(
    labels: Shaped[np.ndarray, " images"], what: str, notes: list[str]
) -> Shaped[np.ndarray, " images"]:
    """Whole numbers of a type that can be negative."""
    if labels.dtype.kind == "f":
        odd = labels[~(np.isfinite(labels) & (labels == np.rint(labels)))]
        if len(odd):
            raise InputError(f"{what} are {labels.dtype} and hold {odd[0]:g}; wanted whole numbers")
        notes.append(f"{what} are {labels.dtype}, all of them whole; taken as whole numbers")
    elif labels.dtype.kind == "b":
        notes.append(f"{what} are False and True; taken as classes 0 and 1")
    low, high = float(labels.min()), float(labels.max())
    if low < 0 or high > _LARGEST:
        raise InputError(f"{what} hold {low if low < 0 else high:.0f}; wanted 0 or more; {_UNIQUE}")
    return labels.astype(np.int64)


def _from_rows(
    arrays: Arrays, class_names: tuple[str, ...] | None, what: str, notes: list[str]
) -> tuple[dict[str, Shaped[np.ndarray, " images"]], int]:
    """Labels of rows with a single 1 each, and how many classes there are."""
    first, rows = next((name, array) for name, array in arrays.items() if array.ndim == 2)
    classes = rows.shape[1]
    for name, array in arrays.items():
        if array.shape[1:] != (classes,):
            raise InputError(
                f"{what} {first} is of shape {rows.shape} and {name} of shape {array.shape}; "
                "wanted the same form in both"
            )
    if class_names is not None and len(class_names) != classes:
        raise InputError(
            f"{what} {first} has rows of {classes} and class_names {len(class_names)} names; "
            "wanted as many"
        )
    found = {}
    for name, rows in arrays.items():
        ones = rows == 1
        odd = np.flatnonzero((ones.sum(axis=1) != 1) | ((rows != 0) & ~ones).any(axis=1))
        if len(odd):
            shown = ", ".join(f"{float(value):g}" for value in rows[odd[0]][:6])
            raise InputError(
                f"{what} {name}, row {odd[0]}, is ({shown}{', ...' if classes > 6 else ''}); "
                "wanted a label for each image, or rows with a single 1 and 0 elsewhere "
                "(labels.argmax(1) takes the greatest of each)"
            )
        found[name] = ones.argmax(axis=1)
    names = " and ".join(arrays)
    notes.append(
        f"{what} {names}: rows of {classes} with a single 1; taken as classes by its place"
    )
    return found, classes


def _from_zero(
    arrays: Arrays, class_names: tuple[str, ...] | None, what: str, notes: list[str]
) -> tuple[dict[str, Shaped[np.ndarray, " images"]], int]:
    """Labels that may begin at 1, and how many classes there are."""
    first, train = next(iter(arrays.items()))
    used = np.unique(train)
    classes = len(used) if class_names is None else len(class_names)
    if used[0] == 1 and used[-1] == classes and len(used) == classes:
        for name, labels in arrays.items():
            if labels.min() < 1:
                raise InputError(
                    f"{what} {first} holds 1 to {classes} and {name} 0 to {labels.max()}; wanted 0 "
                    "as the first class in both"
                )
        notes.append(f"{what} labels are 1 to {classes}; taken as 0 to {classes - 1}")
        return {name: labels - 1 for name, labels in arrays.items()}, classes
    if class_names is None and used[-1] != classes - 1:
        raise InputError(
            f"{what} {first} holds {classes} labels from {used[0]} to {used[-1]}; "
            f"wanted every whole number from 0 to {classes - 1}; {_UNIQUE}"
        )
    return dict(arrays), classes
