"""Whether a file lies in the folder of the run that wrote it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ddpp_jax.errors import InputError
from ddpp_jax.storage import differences, read_claim

_CLAIM = "config.json"
_OF_A_MEMBER = {"baselines", "distillation.eval_every"}
"""What members of a sweep have otherwise than the sweep, beside the number that differs."""


def require_own(path: Path, settings: Mapping[str, Any], method: str = "") -> None:
    """Refuse a file of a run folder that another run, or another part of this one, has written.

    Where no folder of a run is around the file, nothing is asked.

    Args:
        path: of the file, in the folder of a run or in one of its parts, such as `mtt`.
        settings: those that the file says it was made with.
        method: that it says it is of.

    Raises:
        InputError: the folder's settings are others.
    """
    place = path.parent
    part = "" if _is_claimed(place) else place.name
    folder = place if not part else place.parent
    if not _is_claimed(folder):
        return
    config = read_claim(folder, name=_CLAIM, warn_fn=lambda _: None).get("config")
    if not isinstance(config, Mapping):
        return
    differing = {line.split(" was ")[0] for line in differences(dict(config), dict(settings))}
    if part == "mtt":
        differing -= {"distillation.threshold"}
        own = method in ("", "MTT (no pruning)")
    elif part:
        name = part.rsplit("-", 1)[0].replace("-", "_")
        differing -= {*_OF_A_MEMBER, name, f"distillation.{name}"}
        own = method in ("", part) or method.replace(" ", "-", 1) == part
    else:
        own = True
    if differing or not own:
        what = ", ".join(sorted(differing)) or f"it is of {method}"
        raise InputError(f"{path} is of another run than {folder} ({what})")


def _is_claimed(folder: Path) -> bool:
    return any((folder / name).is_file() for name in (_CLAIM, f".{_CLAIM}"))
