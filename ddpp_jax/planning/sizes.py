"""What a job would take in memory and on disk, and its settings: for `--dry-run`."""

import math

import jax

from ddpp_jax import distill, teachers
from ddpp_jax.configs import DistillJob, TeachersJob
from ddpp_jax.data import Stored
from ddpp_jax.methods import Method, device_room
from ddpp_jax.planning.identities import say_settings
from ddpp_jax.planning.problem import Problem
from ddpp_jax.progress import Report
from ddpp_jax.storage import free_bytes, gib


def describe_teaching(job: TeachersJob, problem: Problem, report: Report) -> None:
    """Say what the first stage would take, and with which settings."""
    raw, teaching = problem.raw, job.teaching
    count = raw.x_train.size + raw.x_test.size
    if isinstance(raw.x_train, Stored):
        report.say(f"Images: {gib(raw.x_train.itemsize * count)}, read when they are asked for")
    else:
        report.say(f"Memory: {gib(4 * count)} for all images as the networks see them")
    missing = len(problem.store.missing(teaching.teachers))
    size = missing * teachers.stored_bytes(teaching, problem.network)
    free = free_bytes(problem.store.folder)
    enough = "enough" if size <= free else "too little"
    report.say(
        f"Disk: {gib(size)} for {missing} teachers of {teaching.last_kept + 1} snapshots, "
        f"{gib(free)} free: {enough}"
    )
    batches = math.ceil(len(raw.y_train) / teaching.teacher_batch)
    report.say(
        f"Teachers: {missing * teaching.epochs * batches:,} SGD steps of "
        f"{min(teaching.teacher_batch, len(raw.y_train))} images"
    )
    say_settings(job, raw, report)


def describe_distillation(
    job: DistillJob, problem: Problem, example: tuple[Method, distill.Member], report: Report
) -> int | None:
    """Say what the second stage would take.

    Args:
        job: what is asked for.
        problem: the data.
        example: the method, and a distillation of the job's sizes.
        report: told of it.

    Returns:
        The bytes that a step takes as compiled; None where the platform does not say.
    """
    settings = job.distillation
    leaves = jax.tree.leaves(jax.eval_shape(lambda: distill.begin(*example)))
    state = sum(leaf.size * leaf.dtype.itemsize for leaf in leaves)
    checkpoints = settings.steps // distill.CHECKPOINT_EVERY
    report.say(
        f"Checkpoints: one every {distill.CHECKPOINT_EVERY} steps, {checkpoints} of {gib(state)} "
        "for each distillation; the last two are kept while it runs"
    )
    needed = distill.memory(*example)
    size = "an amount unknown on this platform" if needed is None else gib(needed)
    report.say(f"Memory: {size} for the distillation steps as compiled for this device")
    return needed


def read_bytes(job: DistillJob, problem: Problem, *, copies: int = 1) -> int:
    """Bytes of the teachers' parameters that distillation may read.

    Args:
        job: which epochs are needed.
        problem: whose teachers they are.
        copies: how many such sets of teachers are read.
    """
    last = job.distillation.last_epoch or 0
    return job.teaching.teachers * (last + 1) * problem.network.num_params * 4 * copies


def choose_reading(
    job: DistillJob, problem: Problem, read: str, report: Report, *, copies: int = 1
) -> bool:
    """Whether the teachers' parameters are streamed from disk; says so, and how much they are.

    Args:
        job: which of them are needed.
        problem: whose teachers they are.
        read: `device`, `stream`, or `auto`.
        report: told of the choice.
        copies: how many such sets of teachers are read.
    """
    last = job.distillation.last_epoch or 0
    size = read_bytes(job, problem, copies=copies)
    room = device_room()
    stream = read == "stream" or (read == "auto" and size > room)
    how = "held on the device"
    if stream:
        how = f"streamed from disk ({gib(room)} may be used on the device)"
    report.say(f"Teachers' epochs 0 to {last} ({gib(size)}) will be {how}")
    return stream
