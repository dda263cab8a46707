"""`python -m ddpp_jax.teachers --import`: teachers that MTT's program trained."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path

import jax
import jax.numpy as jnp

from ddpp_jax import teachers
from ddpp_jax.configs import Places, TeachersJob
from ddpp_jax.data import Dataset, on_device
from ddpp_jax.errors import InputError
from ddpp_jax.planning.limits import require_data
from ddpp_jax.planning.problem import (
    Problem,
    describe,
    load,
    network_for,
    problem_of,
    result,
    show,
    teacher_row,
)
from ddpp_jax.planning.programs import keep_programs
from ddpp_jax.planning.sources import data_of
from ddpp_jax.progress import Report, versions
from ddpp_jax.storage import check_claim, check_unheld, claimed_folder, require_space
from ddpp_jax.teachers import TorchLayout, buffer_files, content_digest, read_buffers, torch_layout
from ddpp_jax.training import accuracies

_CHANCE = 1.5
"""Teachers that are right less often than this many times as chance are warned of."""


def run_import(
    job: TeachersJob, paths: Sequence[Path], places: Places, report: Report, *, dry: bool
) -> None:
    """Keep teachers of MTT's buffers in a store of their own, and show how good they are.

    Every file is read and checked before anything is written.

    Args:
        job: the data and the network that they are of, and how many teachers and epochs.
        paths: `replay_buffer_*.pt`, or their folder.
        places: where teachers are kept.
        report: told as it goes on.
        dry: only say what would be kept.

    Raises:
        InputError: a file is not so, or holds other networks, or fewer.
    """
    teaching = job.teaching
    if teaching.imported is not None:
        raise InputError(
            "--import brings teachers in, and --imported names some that are; give one of the two"
        )
    raw = data_of(job.data, places)
    layout = torch_layout(network_for(job, raw).tensors)
    files = buffer_files(paths)
    with report.progress("check buffers", teaching.teachers, unit="teacher") as tick:
        found = read_buffers(files, layout, teachers=teaching.teachers, epochs=teaching.epochs)
        name = content_digest(found, tick)
    job = dataclasses.replace(job, teaching=dataclasses.replace(teaching, imported=name))
    problem = problem_of(job, places, raw)
    describe(job, problem, report)
    if raw.x_train.shape[3] == 1:
        report.warn(
            "the first convolution of MTT's own ConvNet pads grey images by 3 pixels, not 1: "
            "teachers of MTT's networks.py are other networks here"
        )
    require_data(job, raw, places)
    check_claim(problem.store.folder, problem.manifest, name="manifest.json", proven=True)
    check_unheld(problem.store.folder)
    lacking = len(problem.store.missing(teaching.teachers))
    size = lacking * teachers.stored_bytes(teaching, problem.network)
    require_space(problem.store.folder, size, what=f"{lacking} teachers")
    if dry:
        report.say(f"They would be imported as {name} into {problem.store.folder}")
        return
    keep_programs(places.cache_dir)
    _keep(job, files, layout, problem, load(job, problem, places, report), report)
    row = teacher_row(job, problem)
    show(result(job, raw, [row]), report)
    if row["mean"] * raw.classes < _CHANCE:
        report.warn(
            f"they are right on {100 * row['mean']:.1f} % of the test images, hardly more than "
            "chance: they are of other data, of images normalised otherwise (--zca, --contrast), "
            "or of networks with another norm"
        )
    report.say(
        f"They are in {problem.store.folder}; distill with the same data, network and --teachers "
        f"takes them by --imported {name}"
    )


def _keep(
    job: TeachersJob,
    files: Sequence[Path],
    layout: TorchLayout,
    problem: Problem,
    dataset: Dataset,
    report: Report,
) -> None:
    """Write what the store lacks."""
    teaching, store, network = job.teaching, problem.store, problem.network
    test = (on_device(dataset.x_test), dataset.y_test)
    claim = {"identity": problem.manifest, "name": "manifest.json", "proven": True}
    with claimed_folder(store.folder, **claim):
        needed = teachers.lacking(teaching, store, report)
        for index, damage in needed.items():
            if damage is not None:
                report.warn(f"{damage}; set aside as {store.set_aside(index).name}, and read again")
        size = len(needed) * teachers.stored_bytes(teaching, network)
        require_space(store.folder, size, what=f"{len(needed)} teachers")
        if not needed:
            return
        found = read_buffers(files, layout, teachers=teaching.teachers, epochs=teaching.epochs)
        with report.progress("import", teaching.teachers, unit="teacher") as tick:
            for index, (source, trajectory) in enumerate(found):
                if index in needed:
                    params = network.unflatten(jnp.asarray(trajectory[-1]))
                    accuracy = accuracies(
                        jax.tree.map(lambda leaf: leaf[None], params),
                        *test,
                        apply_fn=network.apply_fn,
                        parts_fn=network.parts,
                    )
                    store.write(
                        index,
                        trajectory[: teaching.last_kept + 1],
                        {
                            "accuracy": float(accuracy[0]),
                            "source": source,
                            "tensors": network.tensors,
                            "versions": versions(),
                        },
                    )
                tick(index + 1, {})
