"""The one exception that a person, not a programmer, is meant to read, and warnings likewise."""

import sys


class InputError(ValueError):
    """Something given to the program is wrong and the user can mend it.

    The message is one line: what came, what was wanted, what to do. The commands print it and exit
    with a non-zero status instead of showing a traceback.
    """


def warn(text: str) -> None:
    """Show one line on stderr: something is not as it should be, and work goes on."""
    print(f"warning: {' '.join(text.split())}", file=sys.stderr, flush=True)
