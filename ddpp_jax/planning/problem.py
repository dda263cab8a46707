"""What all commands set out from: the data, the network, and where its teachers are kept."""

import contextlib
import functools
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ddpp_jax import cluster, teachers
from ddpp_jax._types import Params, PRNGKey
from ddpp_jax.configs import (
    ModelConfig,
    Places,
    TeachersJob,
    digest,
)
from ddpp_jax.core import named_key
from ddpp_jax.data import (
    Dataset,
    fit_transform,
    normalised,
    whitening_words,
)
from ddpp_jax.errors import InputError
from ddpp_jax.networks import Network, make_model, make_network
from ddpp_jax.planning.identities import Job, manifest_of, plain
from ddpp_jax.planning.programs import compiler_flags
from ddpp_jax.planning.sources import data_of, describe_data
from ddpp_jax.progress import Report, versions
from ddpp_jax.results import read_result, tables
from ddpp_jax.storage import TeacherStore, check_claim, claimed_folder, gib

_IMPORT_AGAIN = "python -m ddpp_jax.teachers --import with the same files and settings"
TEACHERS = "full data (the teachers)"
"""What tables call them."""

_NETWORKS = 16
"""So many are kept, with what was compiled for them."""

_MOST_PARAMETERS = 2**31 - 1  # XLA numbers the entries of a vector by 32 bits.


@dataclass(frozen=True, kw_only=True)
class Problem:
    """The data, the network, and where its teachers are kept.

    Attributes:
        raw: the images as they came.
        network: the architecture.
        store: of its teachers.
        manifest: what the store must hold.
    """

    raw: Dataset
    network: Network
    store: TeacherStore
    manifest: dict[str, Any]


def prepare(job: TeachersJob, places: Places, raw: Dataset | None = None) -> Problem:
    """The problem that a job sets; nothing is computed or written yet.

    Args:
        job: what is asked for.
        places: where things are kept.
        raw: the job's data, where they were read before.

    Raises:
        InputError: it asks for imported teachers that are not there.
    """
    problem = problem_of(job, places, data_of(job.data, places) if raw is None else raw)
    if job.teaching.imported is not None:
        _require_imported(job, problem)
    return problem


def problem_of(job: TeachersJob, places: Places, raw: Dataset) -> Problem:
    """The problem that a job sets with some data, whether or not its teachers are there."""
    manifest = manifest_of(job, raw)
    kind = "" if job.teaching.imported is None else "imported-"
    of = digest(manifest)
    store = TeacherStore(places.teachers_dir / f"{raw.name}-{kind}{of}", of=of)
    return Problem(raw=raw, network=network_for(job, raw), store=store, manifest=manifest)


def network_for(job: Job, raw: Dataset, architecture: str = "convnet") -> Network:
    """A network of the job's size for images of the data's shape.

    One that is equal to an earlier one is that one, so that what was compiled for it is found.
    """
    network = _network(architecture, job.model, raw.classes, raw.x_train.shape[1:])
    if network.num_params > _MOST_PARAMETERS:
        raise InputError(
            f"the network has {network.num_params:,} parameters, more than the "
            f"{_MOST_PARAMETERS:,} that XLA can number; lower --width {job.model.width}"
        )
    return network


@functools.lru_cache(maxsize=_NETWORKS)
def _network(
    architecture: str, model: ModelConfig, classes: int, shape: tuple[int, ...]
) -> Network:
    made = make_model(architecture, model, classes=classes, image_size=shape[0], channels=shape[2])
    return make_network(made, shape, precision=model.precision)


def teacher_params(problem: Problem, number: int, epoch: int) -> Params:
    """The parameters of one teacher after an epoch."""
    vector = problem.store.read(number, [epoch], num_params=problem.network.num_params)[0]
    return problem.network.unflatten(jnp.asarray(vector))


def load(job: TeachersJob, problem: Problem, places: Places, report: Report) -> Dataset:
    """The data as the networks see them: normalised, or whitened by a transform that is cached."""
    zca, contrast = job.data.zca, job.data.contrast
    if zca:
        words = whitening_words(contrast=contrast)
        report.say(f"{words}, cached in {places.cache_dir}")
    # Eigenvectors of one machine need not be those of another.
    fit = partial(
        fit_transform, problem.raw, zca=zca, contrast=contrast, cache_dir=places.cache_dir
    )
    transform = cluster.agreed(fit)
    return normalised(problem.raw, transform)


def train_teachers(job: TeachersJob, problem: Problem, dataset: Dataset, report: Report) -> None:
    """Train the teachers that the problem's store lacks; imported ones must be there.

    Several processes may do so at once, and share the teachers among them. The store is held by one
    only where it lacks some, so that several runs may read it.

    Raises:
        InputError: an imported teacher is damaged.
    """
    store = problem.store
    if job.teaching.imported is not None:
        for damage in teachers.lacking(job.teaching, store, report).values():
            raise InputError(f"{damage or store.folder}; {_IMPORT_AGAIN} replaces it")
        return
    # The store's folder is named by the digest of the manifest.
    claim = {"identity": problem.manifest, "name": "manifest.json", "proven": True}

    def lacks() -> bool:
        claimed = check_claim(store.folder, **claim)
        missing = store.missing(job.teaching.teachers)
        return bool(not claimed or missing or teachers.lacking(job.teaching, store, report))

    if cluster.agreed(lacks):
        with contextlib.ExitStack() as stack:
            if stack.enter_context(claimed_folder(store.folder, **claim, shared=True)):
                stack.enter_context(report.run(store.folder, problem.manifest))
            teachers.run(job, dataset, problem.network, store, report)


def _require_imported(job: TeachersJob, problem: Problem) -> None:
    """Refuse imported teachers that are not there, or of which too little is kept."""
    teaching, store = job.teaching, problem.store
    if not check_claim(store.folder, problem.manifest, name="manifest.json", proven=True):
        raise InputError(
            f"no teachers were imported as {teaching.imported} for these data and this network: "
            f"there is no {store.folder}; give the flags that they were imported with, or "
            f"{_IMPORT_AGAIN} brings them"
        )
    for index in store.missing(teaching.teachers):
        has = f"give --teachers {index}, or " if index else ""
        raise InputError(
            f"{store.folder} lacks teacher {index}; {has}{_IMPORT_AGAIN} brings it back"
        )
    kept = min(_snapshots(store, index) for index in range(teaching.teachers)) - 1
    if kept < teaching.last_kept:
        name = "epochs" if teaching.keep_epochs is None else "keep-epochs"
        raise InputError(
            f"{store.folder} keeps epochs 0 to {kept} of its teachers, fewer than --{name} "
            f"{teaching.last_kept}; give --{name} {kept}"
        )


def _snapshots(store: TeacherStore, index: int) -> int:
    """How many snapshots an imported teacher has."""
    try:
        return len(store.known(index)["arrays"])
    except InputError as error:
        raise InputError(
            f"what {store.folder} knows of teacher {index} is damaged; {_IMPORT_AGAIN} replaces it"
        ) from error


def describe(
    job: TeachersJob, problem: Problem, report: Report, *, with_teachers: bool = True
) -> None:
    """Say what there is and how large it is.

    Args:
        job: what is asked for.
        problem: the data, the network and the teachers' folder.
        report: told of it.
        with_teachers: whether there are to be teachers.
    """
    teaching = job.teaching
    describe_data(problem.raw, report)
    flags = compiler_flags()
    if flags:
        report.warn(
            f"XLA_FLAGS has {' '.join(flags)}, on which results may depend; teachers and runs are "
            "kept apart from those without"
        )
    report.say(
        f"ConvNet of width {job.model.width} and depth {job.model.depth}: "
        f"{problem.network.num_params:,} parameters, on {jax.local_devices()[0].device_kind}"
    )
    if not with_teachers:
        return
    missing = len(problem.store.missing(teaching.teachers))
    size = teachers.stored_bytes(teaching, problem.network)
    kept = "" if teaching.keep_epochs is None else f", the first {teaching.keep_epochs} kept"
    report.say(
        f"{teaching.teachers} teacher{'s' if teaching.teachers > 1 else ''} of {teaching.epochs} "
        f"epochs{kept} ({gib(teaching.teachers * size)}) in {problem.store.folder}: "
        f"{teaching.teachers - missing} found, {missing} to "
        f"{'train' if teaching.imported is None else 'import'}"
    )


def result(job: Job, raw: Dataset, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What every result file says: the rows, and all that is needed to read them."""
    return {
        "dataset": raw.name,
        "seed": job.seed,
        "rows": rows,
        "std": "population, over all networks of a row",
        "class_names": raw.class_names,
        "data": {
            "training_images": len(raw.y_train),
            "test_images": len(raw.y_test),
            "held_out_images": len(raw.y_held),
            "shape": list(raw.x_train.shape[1:]),
        },
        "config": plain(job, raw),
        "fingerprint": raw.fingerprint,
        "versions": versions(),
        "device": jax.local_devices()[0].device_kind,
    }


def show(found: dict[str, Any], report: Report) -> None:
    """Show what a result file says."""
    report.say(tables.title(found))
    report.show(tables.table(found))
    for row in found["rows"]:
        if row.get("diverged"):
            name = " by ".join(str(row[n]) for n in ("method", "architecture") if n in row)
            report.warn(
                f"{name}: {row['diverged']} of {row['networks']} networks diverged, and their "
                "figures mean nothing; lower the rate"
            )
    for line in found.get("doubts", []):
        report.warn(line)


def finished(folder: Path) -> dict[str, Any]:
    """What `result.json` of a complete run holds.

    Raises:
        InputError: it is damaged.
    """
    return read_result(folder / "result.json")


def evaluation_key(seed: int) -> PRNGKey:
    """The key of all evaluations of a job."""
    return named_key(jax.random.key(seed), "evaluation")


def teacher_row(job: TeachersJob, problem: Problem) -> dict[str, Any]:
    """The teachers as a row of the results: what training on all real images gives."""
    count = job.teaching.teachers
    found = np.asarray([problem.store.known(index)["accuracy"] for index in range(count)])
    return tables.row(TEACHERS, len(problem.raw.y_train), [found])
