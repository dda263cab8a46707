"""A run's set, for other people's code."""

from pathlib import Path

from ddpp_jax.errors import InputError
from ddpp_jax.sets.files import DistilledSet, own_transform, read_distilled, set_path


def refuse_without_set(folder: Path) -> None:
    """Refuse a folder of this program that holds no set.

    Args:
        folder: where no set was found.

    Raises:
        InputError: its run is not finished, or is one of a command that leaves none.
    """
    if (folder / "result.json").exists():
        raise InputError(
            f"{folder} holds results and no set of its own; name the folder of a set below it, as "
            "mtt or seed-0 is one, or that of a run of distill or select"
        )
    if (folder / "config.json").exists() or (folder / "metrics.jsonl").exists():
        raise InputError(f"{folder} is of a run that is not finished; start its command again")


def load_distilled(path: str | Path, *, which: str = "last") -> DistilledSet:
    """The set that a run left.

    Args:
        path: a run folder, or a `.safetensors` of this program.
        which: which of a run's sets: `last`, `best-held-out` or `best-test`.

    Raises:
        InputError: there is no such set, or it is damaged. (`ddpp_jax.errors.InputError`, a
            `ValueError`.)
    """
    path = Path(path)
    file = set_path(path, which) if path.is_dir() else path
    if not file.exists() and not set_path(path, "last").exists():
        refuse_without_set(path)
    if (file.parent / "export.json").exists():
        raise InputError(f"{path} is an export of a set; name the folder of the run that made it")
    if not file.exists():
        raise InputError(
            f"there is no {file}; wanted the folder of a finished run, or a .safetensors of one"
        )
    found = read_distilled(file)
    own_transform(file, found)
    return found
