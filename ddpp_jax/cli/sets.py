"""Small sets of any origin, brought to what evaluation takes."""

import hashlib
from collections.abc import Mapping, Sequence, Set
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Float32

from ddpp_jax.cli.transforms import Seen, require_no_contradiction, seen_by_networks
from ddpp_jax.configs import EvaluateJob, digest
from ddpp_jax.data import (
    Dataset,
    GivenSet,
    Hard,
    Soft,
    Transform,
    read_given,
    require_learnable,
    test_fingerprint,
    transform_arrays,
)
from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report
from ddpp_jax.sets import (
    DistilledSet,
    is_distilled,
    own_transform,
    read_distilled,
    refuse_without_set,
    set_path,
)
from ddpp_jax.storage import differences

_SHOWN = ("method", "ipc", "seed", "which", "step")
_EXPORTED = ("distilled.safetensors", "distilled.npz", "images_best.pt", "images.pt", "images")
"""What an export may hold, in the order in which it is taken."""
_FREE = ("which", "networks", "held_out", "per_class")
"""Settings that may differ between sets that are compared."""


class SmallSet(NamedTuple):
    """A small set as evaluation takes it.

    Attributes:
        path: as it was named.
        images: as the networks are trained on them.
        labels: a class for each image, or a row with the probability of each class.
        rate: the learning rate of the networks at first.
        transform: what makes test images of the same kind.
        about: what is known of its origin: `method`, and maybe `ipc`, `seed`, `which`, `step` and
            a digest of the `settings`.
        settings: of the job that made it, if a job of this program did.
        said: how its images are seen, for a person; empty for a set of this program.
    """

    path: Path
    images: Float32[np.ndarray, "images size size channels"]
    labels: Hard | Soft
    rate: float
    transform: Transform
    about: Mapping[str, Any]
    settings: Mapping[str, Any] | None
    said: str

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits that change with the images, the labels or the transform."""
        content = hashlib.sha256(self.images.tobytes() + self.labels.tobytes())
        for name, array in transform_arrays(self.transform).items():
            content.update(name.encode() + np.ascontiguousarray(array).tobytes())
        return content.hexdigest()[:16]


def settings_of(path: Path) -> Mapping[str, Any] | None:
    """The settings that a set of this program was made with; None where it is another's."""
    path = set_path(path, "last") if path.is_dir() else path
    return read_distilled(path).origin.get("settings") if is_distilled(path) else None


def read_set(
    job: EvaluateJob,
    path: Path,
    raw: Dataset,
    cache_dir: Path | None,
    report: Report,
    *,
    explicit: Set[str] = frozenset(),
) -> SmallSet:
    """The set of a run folder, a file, or a folder of images.

    Args:
        job: which of a run's sets, the learning rate, and how images are normalised where their
            file does not say it.
        path: of the folder or the file.
        raw: the data that it is evaluated by.
        cache_dir: where a ZCA whitening of the data is kept; None keeps it nowhere.
        report: told of classes that are missing.
        explicit: which of `zca`, `contrast` and `normalised` the job has from flags, so that a file
            may not say otherwise.

    Raises:
        InputError: it is damaged, does not belong to the data, cannot be trained on, or says
            something else of its images than the flags do.
    """
    file = _in_folder(path, job.evaluation.which) if path.is_dir() else path
    distilled = read_distilled(file) if is_distilled(file) else None
    found = distilled or read_given(file, job.data, normalised=job.normalised, scale=raw.scale)
    require_no_contradiction(job, path, found, explicit)
    _check_shape(path, found.images.shape[1:], raw)
    labels = _labels(path, found, raw)
    rate = found.alpha if job.rate is None else job.rate
    if rate is None:
        raise InputError(f"{path} comes with no learning rate; give --rate")
    about: dict[str, Any] = {"method": path.name}
    settings = None
    if isinstance(found, GivenSet):
        seen = seen_by_networks(job, file, found, raw, cache_dir)
    else:
        about, settings = _origin(path, found, raw)
        seen = Seen(found.images, own_transform(path, found), "")
    present = labels if labels.ndim == 1 else np.flatnonzero((labels > 0).any(axis=0))
    missing = [n for label, n in enumerate(raw.class_names) if label not in present]
    if missing:
        report.warn(f"{path} has no image of {', '.join(missing)}")
    images, transform, said = seen
    return SmallSet(path, images, labels, rate, transform, about, settings, said)


def _origin(
    path: Path, distilled: DistilledSet, raw: Dataset
) -> tuple[dict[str, Any], Mapping[str, Any] | None]:
    """What is known of where a set of this program comes from, and the settings that made it."""
    origin: dict[str, Any] = {"method": path.name} | dict(distilled.origin)
    require_test_images(path, origin, raw, other=", or evaluate it alone")
    about = {name: origin[name] for name in _SHOWN if name in origin}
    settings = origin.get("settings")
    if settings is not None:
        about["settings"] = digest(_making(settings))
    return about, settings


def require_test_images(
    path: Path, origin: Mapping[str, Any], raw: Dataset, *, other: str = ""
) -> None:
    """Refuse a set that may hold test images.

    Args:
        path: of the set.
        origin: what it says of where it comes from.
        raw: the data with the test images.
        other: what else may be done about it, for the message.

    Raises:
        InputError: it was made with other test images.
    """
    if "test" in origin and origin["test"] != test_fingerprint(raw):
        raise InputError(
            f"{path} was made with other test images, and may hold some of these; give the "
            "--dataset, --split-seed, --test-share, --image-size and --channels that it was "
            f"made with{other}"
        )


def _in_folder(folder: Path, which: str) -> Path:
    """What a folder's set lies in: a file of a run or of an export, or the folder itself."""
    if not (folder / "export.json").exists():
        return _in_run(folder, which)
    for name in _EXPORTED:
        if (folder / name).exists():
            return folder / name
    raise InputError(
        f"{folder} is an export without a set that can be evaluated; export it again with "
        "--formats npz"
    )


def _in_run(folder: Path, which: str) -> Path:
    """The file of a run folder that is asked for; the folder itself where it is none."""
    last, file = set_path(folder, "last"), set_path(folder, which)
    if not last.exists():
        refuse_without_set(folder)
        return folder
    if file.exists():
        return file
    if "which" not in read_distilled(last).origin:
        return last  # Real images that were selected: there is only one set.
    needed = "--eval-every above 0" + (" and --held-out" if which == "best-held-out" else "")
    raise InputError(f"{folder} has no {file.name}; a distillation keeps it with {needed}")


def _check_shape(path: Path, shape: tuple[int, ...], raw: Dataset) -> None:
    theirs = raw.x_train.shape[1:]
    if shape != theirs:
        raise InputError(
            f"{path} holds images of {shape}, but {raw.name} has {theirs}; give the --setting or "
            "the --dataset that it was made from"
        )


def _labels(path: Path, found: GivenSet | DistilledSet, raw: Dataset) -> Hard | Soft:
    """The labels in the order of the data's classes, if something can be learnt from them."""
    labels, names = found.labels, found.class_names
    soft = labels.ndim == 2
    strangers = [name for name in names or () if name not in raw.class_names]
    if strangers or (soft and names not in (None, raw.class_names)):
        raise InputError(
            f"{path} and {raw.name} differ in their classes"
            + (f": {strangers[0]} is not among them" if strangers else " or in their order")
            + "; give its --setting or --dataset"
        )
    if names is not None and not soft:
        require_learnable(labels, len(names), str(path))
        labels = np.array([raw.class_names.index(name) for name in names], np.int32)[labels]
    require_learnable(labels, raw.classes, str(path))
    return labels


def warn_of_other_settings(sets: Sequence[SmallSet], report: Report) -> None:
    """Say where sets were made with other data, networks or schedules than the first."""
    made = [(small.path, _fixed(small.settings)) for small in sets if small.settings is not None]
    for path, settings in made[1:]:
        for line in differences(settings, made[0][1]):
            report.warn(f"{path} and {made[0][0]} were made with different settings: {line}")


def _making(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that decide what a set is, the seed left out."""
    parts = ("data", "model", "teaching", "distillation", "selection")
    made = {part: dict(settings[part]) for part in parts if part in settings}
    made.get("distillation", {}).pop("eval_every", None)
    return made


def _fixed(settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        part: {name: value for name, value in settings.get(part, {}).items() if name not in _FREE}
        for part in ("data", "model", "evaluation")
    }
