"""What packages warn of and log, as one line each, or nothing where a command is to be quiet."""

import logging
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ddpp_jax.errors import one_line
from ddpp_jax.text import warn

_READING = re.compile(r"Error reading persistent compilation cache entry for '([^']*)'")
_WRITING = re.compile(r"Error writing persistent compilation cache entry for '[^']*': (.*)")


@contextmanager
def plain_notices(*, quiet: bool, repair: Callable[[str], str]) -> Iterator[None]:
    """Show the warnings and logs of packages as lines on stderr while the block lasts.

    Args:
        quiet: show none of them.
        repair: `repair(name)` removes what is kept of a compiled program that JAX could not read,
            and says so. It is called, and its line shown, once for each program.
    """
    shown = set[str]()

    def show(line: str) -> None:
        if line not in shown:
            shown.add(line)
            warn(line)

    def warned(message: Warning | str, category: type[Warning], *_: Any, **__: Any) -> None:
        text = one_line(str(message))
        damaged, unkept = _READING.search(text), _WRITING.search(text)
        if damaged:
            show(repair(damaged[1]))
        elif unkept:
            show(f"compiled programs cannot be kept: {unkept[1]}")
        elif not quiet:
            show(f"{text} ({category.__name__})")

    class Lines(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not quiet:
                show(f"{one_line(record.getMessage())} ({record.name})")

    root, before = logging.getLogger(), warnings.showwarning
    handlers = list(root.handlers)
    root.handlers[:] = [Lines(logging.WARNING)]
    warnings.showwarning = warned
    try:
        yield
    finally:
        root.handlers[:], warnings.showwarning = handlers, before
