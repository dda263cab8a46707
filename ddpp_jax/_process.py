"""What the process of a command needs before JAX is imported, which takes a second or more.

Importing this module prepares the process where it was started by `python -m ddpp_jax.NAME`, and
does nothing elsewhere.
"""

import importlib
import os
import signal
import sys
from typing import NoReturn


def command_name() -> str | None:
    """The command as it is called, where this process is one that is just starting."""
    # Python sets the first argument so while it looks for the module.
    if sys.argv[:1] != ["-m"]:
        return None
    names = [name for name in sys.orig_argv if name.split(".")[0] == "ddpp_jax"]
    return f"python -m {names[0]}" if names else None


def prepare(program: str) -> None:
    """Make an early interrupt, and settings that JAX cannot take, one line each."""
    early = f"{program}: interrupted; nothing was begun"
    signal.signal(signal.SIGINT, lambda *_: leave(early, 130))
    if "--quiet" in sys.orig_argv:
        os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # Of XLA's own log, fatal errors alone.
    try:
        importlib.import_module("jax")
    except Exception as error:  # Each of JAX's settings has checks of its own.
        said = " ".join(str(error).split())
        leave(f"{program}: JAX cannot be started: {said}; change or unset what is named", 2)


def leave(line: str, status: int) -> NoReturn:
    """End the process at once."""
    os.write(2, f"{line}\n".encode())
    os._exit(status)


_PROGRAM = command_name()
if _PROGRAM is not None:
    prepare(_PROGRAM)
