"""Whether a file lies in the folder of the run that wrote it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpp_jax.errors import InputError
from ddpp_jax.storage import differences, read_claim

_CLAIM = "config.json"


def require_own(path: Path, settings: Mapping[str, Any]) -> None:
    """Refuse a file of a run folder that another run, or another part of this one, has written.

    Where no folder of a run is around the file, nothing is asked. The parts of a run, such as
    `mtt`, have the settings of the run but for what `members` of its `config.json` says.

    Args:
        path: of the file, in the folder of a run or in one of its parts.
        settings: those that the file says it was made with.

    Raises:
        InputError: the folder's settings are others.
    """
    place = path.parent
    part = "" if _is_claimed(place) else place.name
    folder = place if not part else place.parent
    if not _is_claimed(folder):
        return
    claim = read_claim(folder, name=_CLAIM, warn_fn=lambda _: None)
    config, members = claim.get("config"), claim.get("members", {})
    if not isinstance(config, Mapping):
        return
    if part:
        if not isinstance(members, Mapping) or not isinstance(members.get(part), Mapping):
            raise InputError(f"{path} is of another run than {folder}, which has no part {part}")
        config = _changed(config, members[part])
    differing = sorted(
        {line.split(" was ")[0] for line in differences(dict(config), dict(settings))}
    )
    if differing:
        raise InputError(f"{path} is of another run than {folder} ({', '.join(differing)})")


def _changed(config: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Settings with some values, by their names with dots, in place of their own."""
    changed: dict[str, Any] = dict(config)
    for name, value in changes.items():
        outer, _, inner = name.partition(".")
        if inner and isinstance(changed.get(outer), Mapping):
            changed[outer] = _changed(changed[outer], {inner: value})
        else:
            changed[outer] = value
    return changed


def _is_claimed(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (_CLAIM, f".{_CLAIM}"))
