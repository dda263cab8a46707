"""The commands as processes of their own."""

import fcntl
import json
import os
import subprocess
import sys


def command(folder, stage, *flags):
    """The arguments and options of a process that runs one command in a folder."""
    return [sys.executable, "-m", f"ddpp_jax.{stage}", *flags], {
        "cwd": folder,
        "env": os.environ
        | {
            "JAX_PLATFORMS": "cpu",
            "COLUMNS": "100",
            # What one process has compiled, the next need not.
            "JAX_COMPILATION_CACHE_DIR": os.environ["DDPP_TEST_CACHE"],
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        },
        "text": True,
    }


def call(folder, stage, *flags):
    """Run one command to its end, while tests of other workers run none in the same folder."""
    arguments, options = command(folder, stage, *flags)
    with (folder.parent / f"{folder.name}.calls.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = subprocess.run(arguments, capture_output=True, check=False, timeout=600, **options)
    done.stderr = without_flags(done.stderr)
    return done


def without_flags(error):
    """What a command says on stderr, less the line about the flags that tests compile with."""
    lines = error.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("warning: XLA_FLAGS has"))


def call_once(tmp_path_factory, name, stage, *flags):
    """Run one command to its end, once for all workers, and return its folder and outcome."""
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = folder / "outcome.json"
        if not outcome.exists():
            folder.mkdir()
            done = call(folder, stage, *flags)
            outcome.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
    done = subprocess.CompletedProcess([], *json.loads(outcome.read_text()))
    assert done.returncode == 0, done.stderr
    return folder, done


def start(folder, stage, *flags):
    """Begin one command and return its process."""
    arguments, options = command(folder, stage, *flags)
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
