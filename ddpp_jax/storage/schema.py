"""Plain values held against the types that they must have."""

from collections.abc import Mapping
from typing import Any

from typeguard import CollectionCheckStrategy, TypeCheckError, check_type


def require_kind(values: Any, kind: Any) -> None:
    """Refuse values that are not of a kind; names that the kind does not know may be there.

    Args:
        values: a JSON object, or anything.
        kind: a `TypedDict`.

    Raises:
        ValueError: they are no object, a name is missing, or the value of one is of another type;
            says which.
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
        raise ValueError(" ".join(str(error).split())) from error
