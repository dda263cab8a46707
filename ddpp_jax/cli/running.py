"""A command from its arguments to an exit status, and every error as one line."""

import errno
import io
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

import jax

from ddpp_jax import cluster
from ddpp_jax.cli.environment import own_numbers
from ddpp_jax.cli.notices import plain_notices
from ddpp_jax.errors import InputError, one_line
from ddpp_jax.text import printable

_GOES_ON = "the same command goes on from what is saved"
_ROOM = f"make room, and {_GOES_ON}"
_FREE = "free some; where a file is named that is not so large, that file is damaged"
_STREAM = ", or give --read stream"
_LESS_MEMORY = {
    "continual": f"lower --width, --ipc or --networks{_STREAM}",
    "audit": "lower --width",
    "audit --attack": "lower --width, --ipc or --networks",
    "distill": f"lower --width, --ipc or --student-steps{_STREAM}",
    "evaluate": "lower --networks, --eval-batch or --width",
    "search": "lower --widths or --eval-batch",
    "select": "lower --width or --teacher-batch",
    "teachers": "lower --width or --teacher-batch",
}
_OF_OTHERS = re.compile(r"gloo|nccl|coordination|distributed service|peer", re.IGNORECASE)
_REMEDIES = {
    errno.ENOSPC: f"the disk is full; {_ROOM}",
    errno.EDQUOT: f"this user's share of the disk is full; {_ROOM}",
    errno.EACCES: "this user may not read or write it; change its permissions, or name another",
    errno.EPERM: "this user may not read or write it; change its permissions, or name another",
    errno.EROFS: "it is on a disk that cannot be written to; name another",
    errno.ENAMETOOLONG: "the name is too long for this disk; give a shorter one",
    errno.ENOTDIR: "a part of this path is a file; name another",
    errno.ELOOP: "its links lead to one another; name another",
    errno.EMFILE: "too many files are open; raise the limit by ulimit -n",
    errno.EIO: f"the disk does not answer as it should; see to it, and {_GOES_ON}",
}


def run_command(
    name: str, arguments: Sequence[str] | None, body: Callable[[str, list[str]], None]
) -> NoReturn:
    """Do what a command does, and leave the process with an exit status.

    Args:
        name: of the module that is run by `python -m ddpp_jax.NAME`.
        arguments: of the command; None takes those of the process.
        body: `body(program, arguments)`; what it raises for people to read becomes one line on
            stderr.
    """
    program = f"python -m ddpp_jax.{name}"
    given = list(sys.argv[1:] if arguments is None else arguments)
    _prepare_streams()
    previous = signal.signal(signal.SIGINT, lambda *_: _interrupted(program))
    try:
        with (
            plain_notices(quiet="--quiet" in given, repair=_forget_program),
            own_numbers() as others,
        ):
            if others and name in _LESS_MEMORY:
                print(
                    f"warning: {', '.join(others)} left aside, since results or the run would "
                    "depend on it",
                    file=sys.stderr,
                )
            body(program, given)
            sys.stdout.flush()
    except cluster.ToldError:
        os._exit(2)
    except InputError as error:
        _leave(f"{program}: {error}", status=2)
    except BrokenPipeError:
        _unread()
        if cluster.count() > 1:
            os._exit(1)
        sys.exit(1)
    except OSError as error:
        _leave(f"{program}: {_system_error(error)}", status=1)
    except Exception as error:
        if isinstance(error, MemoryError):  # Of Python and NumPy, such as for a file's arrays.
            _leave(f"{program}: out of memory: {error}; {_FREE}", status=1)
        if "RESOURCE_EXHAUSTED" in str(error):
            _leave(f"{program}: out of memory; {_less_memory(name, given)}", status=1)
        if cluster.count() > 1:
            _leave_job(program, error)
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
    sys.exit(0)


def _prepare_streams() -> None:
    """Streams that are there, and that show what their encoding lacks as a question mark."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:  # The process was started with it closed.
            setattr(sys, name, open(os.devnull, "w"))  # noqa: PTH123, SIM115 - for the process's life
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _less_memory(name: str, given: Sequence[str]) -> str:
    """What to do about it, less what is done already."""
    advice = _LESS_MEMORY.get(name, _FREE)
    return advice.removesuffix(_STREAM) if "stream" in " ".join(given) else advice


def _forget_program(name: str) -> str:
    from ddpp_jax.planning.programs import forget_program

    return forget_program(name)


def _system_error(error: OSError) -> str:
    place = None if error.filename is None else os.fsdecode(error.filename)
    if place is None and _is_of_output(error):
        _unread()
        place = "the output of this command"
    said = _REMEDIES.get(error.errno or 0) or error.strerror or str(error)
    return said if place is None else f"{place}: {said}"


def _is_of_output(error: OSError) -> bool:
    """Whether the error was raised by those who write to stdout alone, and name no file."""
    raised_in = Path(traceback.extract_tb(error.__traceback__)[-1].filename).parts
    return bool({"rich", "tyro", "cli"} & set(raised_in))


def _unread() -> None:
    """Let what is left for stdout go nowhere, or the end of the process would fail on it, too."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


def _leave_job(program: str, error: Exception) -> NoReturn:
    """End this process of a job, and with it the job, after an error that nobody foresaw."""
    lost = isinstance(error, jax.errors.JaxRuntimeError) and _OF_OTHERS.search(str(error))
    if not lost:
        traceback.print_exc()
    elif cluster.leads():
        print(f"{program}: another process of this job ended; {_GOES_ON}", file=sys.stderr)
    sys.stderr.flush()
    os._exit(1)


def _interrupted(program: str) -> NoReturn:
    """Leave at once: all that is on disk is whole, and an exception could be lost in a callback."""
    if not cluster.leads():
        os._exit(130)
    if sys.stdout.isatty():
        os.write(sys.stdout.fileno(), b"\x1b[?25h\n")
    os.write(2, f"{program}: interrupted; {_GOES_ON}\n".encode())
    os._exit(130)


def _leave(line: str, *, status: int) -> NoReturn:
    try:
        sys.stdout.flush()
    except OSError:
        _unread()
    print(printable(one_line(line)), file=sys.stderr, flush=True)
    if cluster.count() > 1:
        os._exit(status)  # The end of the interpreter would wait for the other processes.
    sys.exit(status)
