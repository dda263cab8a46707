"""The processes of one job, on one machine or many, and what they agree on.

Every process of a job runs the same command, and all take part in what is computed, over the
devices of all of them (`jax.distributed`). One of them leads: it alone says, draws and writes, and
what it finds on disk decides for all.
"""

import os
import pickle
import re
import socket
import sys
import time
import zlib
from collections.abc import Callable
from typing import TypeVar, cast

import jax
import numpy as np
from jax.experimental import multihost_utils

from ddpp_jax.errors import InputError, one_line

Found = TypeVar("Found")

_LEAST_BYTES = 256
"""Messages are padded to a power of two from here on, since each size is a program of its own."""

_COUNTS = ("SLURM_NTASKS", "OMPI_COMM_WORLD_SIZE")
"""Variables that say how many processes a job has."""

_ADDRESS = re.compile(r"[^:\s]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}")
_LAST_PORT = 65535
_SECONDS_OF_WAITING = 120.0
"""For the leading process; the others may have been started first."""

_INDEXED_JOB = {"KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"}
_STARTED_IN_STEP = "SLURM_STEP_NODELIST"
_BY_HAND = "give --coordinator HOST:PORT, --processes N and --process-id I"


class ToldError(InputError):
    """An error of which the leading process tells."""


def join(
    coordinator: str | None = None, processes: int | None = None, process_id: int | None = None
) -> None:
    """Join the other processes of this job; before JAX is asked for a device.

    Without arguments the job is found as Slurm, Open MPI or an indexed Kubernetes job announces it,
    and a process that nobody announces is alone.

    Args:
        coordinator: HOST:PORT at which the leading process listens.
        processes: how many there are; 1 alone stays alone whatever is announced.
        process_id: which of them this one is, from 0; 0 leads.

    Raises:
        InputError: the arguments do not fit together, or the others cannot be found.
    """
    given = (coordinator, processes, process_id)
    if processes == 1 and coordinator is process_id is None:
        return
    if given == (None, None, None):
        if not _announced():
            return
    elif coordinator is None or processes is None or process_id is None:
        raise InputError(
            "--coordinator, --processes and --process-id belong together; give all three, or none "
            "where Slurm, Open MPI or Kubernetes says them"
        )
    elif not _ADDRESS.fullmatch(coordinator) or int(coordinator.rpartition(":")[2]) > _LAST_PORT:
        raise InputError(
            f"--coordinator is {coordinator!r}; wanted HOST:PORT, the port at most {_LAST_PORT}"
        )
    elif processes < 1:
        raise InputError(f"--processes is {processes}; wanted 1 or more")
    elif not 0 <= process_id < processes:
        raise InputError(
            f"--process-id is {process_id} of --processes {processes}; wanted 0 to {processes - 1}"
        )
    if coordinator is not None and process_id:
        _await(coordinator)
    # XLA would take a request to end (SIGTERM) for a wish to be asked about, and go on.
    jax.config.update("jax_enable_preemption_service", False)
    try:
        jax.distributed.initialize(coordinator, processes, process_id)
        _own_output()
        alike = jax.device_count() == jax.process_count() * jax.local_device_count()
        if alike:
            multihost_utils.sync_global_devices("joined")
    except (RuntimeError, ValueError, TypeError) as error:
        raise InputError(
            f"the processes of this job do not find one another: {one_line(str(error))}; {_BY_HAND}"
        ) from error
    if not alike:
        raise InputError(
            f"this process has {jax.local_device_count()} devices, and all {jax.process_count()} "
            f"processes together {jax.device_count()}; wanted as many in each"
        )


def _await(coordinator: str) -> None:
    """Wait until the leading process listens; XLA itself would end this one by a signal."""
    host, _, port = coordinator.rpartition(":")
    until = time.monotonic() + _SECONDS_OF_WAITING
    while True:
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=5).close()
            return
        except OSError as error:
            if time.monotonic() > until:
                raise InputError(
                    f"the processes of this job do not find one another: no process 0 answers at "
                    f"{coordinator} ({error.strerror or error}); start it, and give all processes "
                    "its HOST:PORT"
                ) from error
            time.sleep(0.5)


def require_same(words: str) -> None:
    """Refuse a job whose processes were started by different commands.

    Args:
        words: the command of this process, with all its flags.

    Raises:
        InputError: they were; ToldError in those that do not lead.
    """
    if count() == 1:
        return
    digest = np.int32(zlib.crc32(words.encode()) & 0x7FFFFFFF)
    if len(set(np.asarray(multihost_utils.process_allgather(digest)).tolist())) > 1:
        kind = InputError if leads() else ToldError
        raise kind(
            f"the {count()} processes of this job were given different flags; start all of them by "
            "the same command, --process-id apart"
        )


def _announced() -> bool:
    """Whether the environment says that this process is one of several."""
    counts = [int(os.environ.get(name, "1")) for name in _COUNTS]
    in_slurm, in_mpi = counts[0] > 1 and _STARTED_IN_STEP in os.environ, counts[1] > 1
    return in_slurm or in_mpi or os.environ.keys() >= _INDEXED_JOB


def count() -> int:
    """How many processes this job has."""
    return jax.process_count() if jax.distributed.is_initialized() else 1


def leads() -> bool:
    """Whether this process is the one that says, draws and writes."""
    return count() == 1 or jax.process_index() == 0


def agreed(fn: Callable[[], Found]) -> Found:
    """What the leading process finds, in every process; all must ask.

    A process that is alone asks itself.

    Args:
        fn: called by the leading process alone; what it returns must be picklable.

    Raises:
        ToldError: the leading process raised an InputError or OSError; there it is raised itself.
    """
    if count() == 1:
        return fn()
    trouble, message = None, b""
    if leads():
        try:
            message = pickle.dumps((fn(), None))
        except (InputError, OSError) as error:
            trouble, message = error, pickle.dumps((None, str(error)))
    found, told = pickle.loads(_sent(message))
    if trouble is not None:
        raise trouble
    if told is not None:
        raise ToldError(told)
    return found


def together(fn: Callable[[], Found]) -> Found:
    """What a function gives in each process, where it gives something in the leading one.

    Of what all processes would find wrong, the leading one alone tells.

    Raises:
        ToldError: the leading process raised an InputError or OSError; there it is raised itself.
        InputError: of this process alone, as is OSError.
    """
    if count() == 1:
        return fn()
    found, trouble = None, None
    try:
        found = fn()
    except (InputError, OSError) as error:
        trouble = error
    told = agreed(lambda: None if trouble is None else str(trouble))
    if trouble is not None and (leads() or told is None):
        raise trouble
    if told is not None:
        raise ToldError(told)
    return cast(Found, found)


def _sent(message: bytes) -> bytes:
    """The message of the leading process."""
    size = int(multihost_utils.broadcast_one_to_all(np.int32(len(message))))
    padded = np.zeros(max(_LEAST_BYTES, 1 << (size - 1).bit_length()), np.uint8)
    if leads():
        padded[:size] = np.frombuffer(message, np.uint8)
    return np.asarray(multihost_utils.broadcast_one_to_all(padded))[:size].tobytes()


def _own_output() -> None:
    """Leave the process's output to Python alone: Gloo and others print lines of their own there.

    Of processes that do not lead, nothing is shown.
    """
    sys.stdout.flush()
    kept, nowhere = os.dup(1), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    shown = kept if leads() else nowhere
    encoding, errors = sys.stdout.encoding, sys.stdout.errors
    sys.stdout = os.fdopen(shown, "w", encoding=encoding, errors=errors)
