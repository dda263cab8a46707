"""The commands as processes of their own."""

import os
import subprocess
import sys


def command(folder, stage, *flags):
    """The arguments and options of a process that runs one command in a folder."""
    return [sys.executable, "-m", f"ddpp_jax.{stage}", *flags], {
        "cwd": folder,
        "env": os.environ | {"JAX_PLATFORMS": "cpu", "COLUMNS": "100"},
        "text": True,
    }


def call(folder, stage, *flags):
    """Run one command to its end."""
    arguments, options = command(folder, stage, *flags)
    return subprocess.run(arguments, capture_output=True, check=False, timeout=600, **options)


def start(folder, stage, *flags):
    """Begin one command and return its process."""
    arguments, options = command(folder, stage, *flags)
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
