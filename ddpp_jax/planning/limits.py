"""What a run would be refused for before its first step, found out before anything is begun.

What is asked of memory here is what is needed at the least, so that nothing is refused which could
be done.
"""

from pathlib import Path
from typing import Any

import jax
import psutil

from ddpp_jax import teachers
from ddpp_jax.configs import DistillJob, EvaluateConfig, Places, TeachersJob
from ddpp_jax.data import Dataset, require_transform
from ddpp_jax.errors import InputError
from ddpp_jax.methods import Method
from ddpp_jax.networks import Network
from ddpp_jax.planning.problem import Problem
from ddpp_jax.storage import check_claim, check_unheld, check_writable, gib, require_space
from ddpp_jax.training import workers

_FLOAT = 4
_OF_TRAINING = 3  # Parameters, their gradient, and parameters after the step.
_OF_EVALUATION = 4  # And the velocity.
_OF_AN_IMAGE = 3  # A convolution's features, the same normalised, and their gradient.


def check_free(folder: Path, identity: dict[str, Any], *, proven: bool) -> None:
    """Refuse a run's folder that could not be claimed now, and touch nothing.

    Args:
        folder: it need not exist yet.
        identity: what the folder is to hold.
        proven: as for `check_claim`.

    Raises:
        InputError: it is somebody else's, held by another process, or not to be written to.
    """
    check_claim(folder, identity, name="config.json", proven=proven)
    check_unheld(folder)


def require_teaching(job: TeachersJob, problem: Problem, places: Places) -> None:
    """Refuse what the training of the missing teachers would be refused for.

    Args:
        job: how they are trained.
        problem: the data, the network and the teachers' folder.
        places: where the whitening is kept.

    Raises:
        InputError: too little memory or room on the disk, data that cannot be normalised, or a
            folder that is somebody else's, or not to be written to.
    """
    require_data(job, problem.raw, places)
    store, teaching, network = problem.store, job.teaching, problem.network
    check_claim(store.folder, problem.manifest, name="manifest.json", proven=True)
    missing = len(store.missing(teaching.teachers))
    if not missing:
        return
    size = teachers.stored_bytes(teaching, network)
    what = f"{missing} teachers of {teaching.last_kept + 1} snapshots"
    require_space(store.folder, missing * size, what=what)
    check_writable(store.folder)
    group = min(missing, teachers.group_size())
    at_once = group if jax.default_backend() != "cpu" else workers(group)
    _require_host(
        group * size,
        what=f"{teaching.last_kept + 1} snapshots of {group} teachers at a time",
        remedy=_lower(width=job.model.width, epochs=teaching.epochs, teachers=teaching.teachers),
    )
    _require_device(
        at_once * (_OF_TRAINING * network.num_params + _image(job.model.width, problem.raw)),
        what=f"the training of {at_once} networks of {network.num_params:,} parameters",
        remedy=_lower(width=job.model.width),
    )


def require_data(job: TeachersJob, raw: Dataset, places: Places) -> None:
    """Refuse data that could not be normalised, or whitened in this memory."""
    data = job.data
    require_transform(raw, zca=data.zca, contrast=data.contrast, cache_dir=places.cache_dir)


def require_distillation(
    job: DistillJob, problem: Problem, method: Method, *, stream: bool, copies: int = 1
) -> None:
    """Refuse what the distillation steps and the evaluations would be refused for.

    Args:
        job: what is asked for.
        problem: the data and the network.
        method: of distillation.
        stream: whether the teachers are read from disk as they are needed.
        copies: how many such sets of teachers are read.

    Raises:
        InputError: the memory does not suffice.
    """
    settings, network = job.distillation, problem.network
    _require_device(
        method.least_memory + _image(job.model.width, problem.raw),
        what=method.held,
        remedy=method.remedy or _lower(width=job.model.width),
    )
    if settings.last_epoch is not None and not stream:
        _require_device(
            job.teaching.teachers * (settings.last_epoch + 1) * network.num_params * copies,
            what=f"{job.teaching.teachers} teachers on the device",
            remedy="give --read auto",
        )
    require_evaluation(job.evaluation, network, job.model.width)


def require_evaluation(
    config: EvaluateConfig, network: Network, width: int, *, remedy: str | None = None
) -> None:
    """Refuse more networks than memory holds.

    Args:
        config: how many are trained.
        network: the architecture.
        width: of it.
        remedy: what to do; None advises to lower the width or the number.

    Raises:
        InputError: it does not.
    """
    count, size = config.networks, network.num_params
    _require_device(
        count * _OF_EVALUATION * size,
        what=f"the training of {count} networks of {size:,} parameters",
        remedy=remedy or _lower(width=width, networks=count),
    )


def _require_device(entries: int, *, what: str, remedy: str) -> None:
    stats = jax.local_devices()[0].memory_stats()
    if stats is None:  # The CPU's memory is the machine's.
        free = psutil.virtual_memory().available
    else:
        free = stats["bytes_limit"] - stats["bytes_in_use"]
    _require(_FLOAT * entries, free, what=what, remedy=remedy)


def _require_host(needed: int, *, what: str, remedy: str) -> None:
    _require(needed, psutil.virtual_memory().available, what=what, remedy=remedy)


def _require(needed: int, free: int, *, what: str, remedy: str) -> None:
    if needed > free:
        raise InputError(
            f"{what} needs {gib(needed)} of memory at the least, {gib(free)} are free; {remedy}"
        )


def _image(width: int, raw: Dataset) -> int:
    """Entries of what the first convolution makes of one image, and of what is kept beside it."""
    return _OF_AN_IMAGE * raw.x_train.shape[1] * raw.x_train.shape[2] * width


def _lower(**given: int) -> str:
    """What can be lowered, of what is not at its least already."""
    names = [f"--{name.replace('_', '-')} {value}" for name, value in given.items() if value > 1]
    return f"lower {' or '.join(names)}" if names else "use a machine with more memory"
