"""The commands as processes of their own."""

import fcntl
import json
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

_PRELOADED = (
    *("ddpp_jax.cli.distill", "flax.linen", "orbax.checkpoint", "sklearn.datasets"),
    *("matplotlib.pyplot", "matplotlib.backends.backend_svg", "PIL.JpegImagePlugin"),
)
_PER_TEST = ("PYTEST_", "KMP_")
"""Of the environment, what no command reads; the latter are set by importing scikit-learn."""

_FORKS = sys.platform == "linux"
"""Elsewhere libraries are not sure to survive it."""

_servers = multiprocessing.get_context("forkserver")
_servers.set_forkserver_preload(list(_PRELOADED))
_environments = []
"""The one that the server of processes was started in, once it is."""


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


def call(folder, stage, *flags, anew=False):
    """Run one command to its end, while tests of other workers run none in the same folder.

    It is forked from a process that has the libraries loaded, unless it is to begin anew.
    """
    forks = _FORKS and not anew and _plain_environment()
    with (folder.parent / f"{folder.name}.calls.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = (_forked if forks else _begun)(folder, stage, flags)
    done.stderr = without_flags(done.stderr)
    return done


def _begun(folder, stage, flags):
    arguments, options = command(folder, stage, *flags)
    return subprocess.run(arguments, capture_output=True, check=False, timeout=600, **options)


def _plain_environment():
    """Whether the environment is still that of the server, in which libraries are loaded."""
    environment = {n: v for n, v in os.environ.items() if not n.startswith(_PER_TEST)}
    if not _environments:
        _environments.append(environment)
    return environment == _environments[0]


def _forked(folder, stage, flags):
    """As `_begun`, by a fork of a process that has the libraries loaded but no device yet."""
    arguments, options = command(folder, stage, *flags)
    with tempfile.TemporaryDirectory() as streams:
        paths = [Path(streams) / name for name in ("out", "err")]
        process = _servers.Process(
            target=_run,
            args=(stage, [str(flag) for flag in flags], folder, options["env"]["COLUMNS"], *paths),
        )
        for path in paths:
            path.touch()
        process.start()
        try:
            process.join(600)
            if process.exitcode is None:
                raise subprocess.TimeoutExpired(arguments, 600)
        finally:
            process.kill()
        said = (path.read_text() for path in paths)
        return subprocess.CompletedProcess(arguments, process.exitcode, *said)


def _run(stage, flags, folder, columns, out, err):
    """One command in a process that was made for it."""
    for path, stream in ((out, 1), (err, 2)):
        opened = os.open(path, os.O_WRONLY)
        os.dup2(opened, stream)
        os.close(opened)
    os.chdir(folder)
    os.environ["COLUMNS"] = columns
    sys.argv = [stage, *flags]
    runpy.run_module(f"ddpp_jax.{stage}", run_name="__main__", alter_sys=True)


def without_flags(error):
    """What a command says on stderr, less the line about the flags that tests compile with."""
    lines = error.splitlines(keepends=True)
    return "".join(line for line in lines if not line.startswith("warning: XLA_FLAGS has"))


def call_once(tmp_path_factory, name, stage, *flags):
    """Run one command to its end, once for all workers, and return its folder and outcome.

    It begins anew, as a user's does.
    """
    base = tmp_path_factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with (folder.parent / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        outcome = folder / "outcome.json"
        if not outcome.exists():
            folder.mkdir()
            done = call(folder, stage, *flags, anew=True)
            outcome.write_text(json.dumps([done.returncode, done.stdout, done.stderr]))
    done = subprocess.CompletedProcess([], *json.loads(outcome.read_text()))
    assert done.returncode == 0, done.stderr
    return folder, done


def start(folder, stage, *flags):
    """Begin one command and return its process."""
    arguments, options = command(folder, stage, *flags)
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)
