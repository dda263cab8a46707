"""A command from its arguments to an exit status, and every error as one line."""

import errno
import io
import os
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn

from ddpp_jax.errors import InputError
from ddpp_jax.text import printable

_GOES_ON = "the same command goes on from what is saved"
_LESS_MEMORY = {
    "distill": "; lower --width or --ipc, or give --read stream",
    "evaluate": "; lower --networks, --eval-batch or --width",
    "select": "; lower --width",
    "teachers": "; lower --width",
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
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    previous = signal.signal(signal.SIGINT, lambda *_: _interrupted(program))
    try:
        body(program, list(sys.argv[1:] if arguments is None else arguments))
    except InputError as error:
        _leave(f"{program}: {error}", status=2)
    except OSError as error:
        _leave(f"{program}: {_system_error(error)}", status=1)
    except Exception as error:
        if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
            _leave(f"{program}: out of memory{_LESS_MEMORY.get(name, '')}", status=1)
        raise
    finally:
        signal.signal(signal.SIGINT, previous)
    sys.exit(0)


def _system_error(error: OSError) -> str:
    if error.errno == errno.ENOSPC:
        place = f" ({error.filename})" if error.filename else ""
        return f"the disk is full{place}; make room, and the same command goes on from what is kept"
    return str(error)


def _interrupted(program: str) -> NoReturn:
    """Leave at once: all that is on disk is whole, and an exception could be lost in a callback."""
    if sys.stdout.isatty():
        os.write(1, b"\x1b[?25h\n")
    os.write(2, f"{program}: interrupted; {_GOES_ON}\n".encode())
    os._exit(130)


def _leave(line: str, *, status: int) -> NoReturn:
    sys.stdout.flush()
    print(printable(" ".join(line.split())), file=sys.stderr)
    sys.exit(status)
