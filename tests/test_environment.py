"""Commands under any environment: JAX's settings, devices, encodings, streams and homes."""

import errno
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest
from processes import command, without_flags

from ddpp_jax.cli import environment, running
from ddpp_jax.cli.notices import plain_notices
from ddpp_jax.cli.program import run as run_command
from ddpp_jax.errors import InputError
from ddpp_jax.planning.programs import compiler_flags, forget_program
from ddpp_jax.storage import Replacement, TeacherStore, append_row, expanded

FULL = Path("/dev/full")
TINY = ("--teachers", "1", "--epochs", "1", "--width", "4", "--depth", "1")


def call(folder, stage, *flags, stdout=subprocess.PIPE, **environ):
    arguments, options = command(folder, stage, *flags)
    options["env"] |= environ
    for name in [name for name, value in options["env"].items() if value == ""]:
        del options["env"][name]
    done = subprocess.run(
        arguments, stdout=stdout, stderr=subprocess.PIPE, check=False, timeout=300, **options
    )
    done.stderr = without_flags(done.stderr)
    return done


def test_what_decides_the_bits_is_fixed_said_and_given_back(capsys):
    before = dict(jax.config.values)
    jax.config.update("jax_enable_x64", True)
    jax.config.update("jax_default_prng_impl", "rbg")
    jax.config.update("jax_transfer_guard", "disallow")
    try:
        with environment.own_numbers() as others:
            assert str(jax.random.key_impl(jax.random.key(0))) == "threefry2x32"
            assert jax.numpy.zeros(2).dtype == jax.numpy.float32
        assert others[:2] == ("JAX_ENABLE_X64=True", "JAX_DEFAULT_PRNG_IMPL=rbg")
        assert jax.config.jax_enable_x64
        with pytest.raises(SystemExit):
            run_command("teachers", ["--print-settings"])
        assert "JAX_ENABLE_X64=True, JAX_DEFAULT_PRNG_IMPL=rbg" in capsys.readouterr().err
    finally:
        for name in ("jax_enable_x64", "jax_default_prng_impl", *before):
            if "guard" in name or name in ("jax_enable_x64", "jax_default_prng_impl"):
                jax.config.update(name, before[name])


def test_every_fixed_setting_is_one_that_jax_has_with_that_default():
    values = jax.config.values
    for name, own in environment.NUMBERS.items():
        assert name in values
        assert values[name] == own


def test_jax_without_its_device_is_one_line(monkeypatch):
    def lacks():
        raise AssertionError

    monkeypatch.setattr(jax, "devices", lacks)
    monkeypatch.setenv("JAX_PLATFORMS", "cuda")
    with pytest.raises(InputError, match="unset JAX_PLATFORMS, or give JAX_PLATFORMS=cpu"):
        environment.require_device()
    monkeypatch.delenv("JAX_PLATFORMS")
    with pytest.raises(InputError, match="JAX_PLATFORMS=cpu works without it"):
        environment.require_device()


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({"JAX_PLATFORMS": "nonsense"}, "or give JAX_PLATFORMS=cpu"),
        ({"JAX_ENABLE_X64": "maybe"}, "JAX_ENABLE_X64"),
    ],
)
def test_an_environment_that_jax_cannot_take_is_one_line(tmp_path, environ, words):
    done = call(tmp_path, "teachers", *TINY, "--dry-run", **environ)
    assert done.returncode == 2
    assert words in done.stderr
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("python -m ddpp_jax.teachers: ")


def test_an_interrupt_while_jax_is_imported_is_one_line(tmp_path):
    arguments, options = command(tmp_path, "distill", "--dry-run")
    options |= {"stderr": subprocess.PIPE, "stdout": subprocess.DEVNULL}
    process = subprocess.Popen(arguments, **options)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:  # Until Python reads our own files, and no longer.
        if "_jax" in Path(f"/proc/{process.pid}/maps").read_text():
            break
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    assert error.count("\n") == 1
    assert "interrupted" in error


def test_flags_of_xla_name_what_is_compiled_with_them(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_dump_to=/tmp/x --xla_cpu_enable_fast_math=true")
    assert compiler_flags() == ["--xla_cpu_enable_fast_math=true"]
    monkeypatch.delenv("XLA_FLAGS")
    assert compiler_flags() == []


@pytest.mark.parametrize("encoding", ["ascii", "latin-1", "utf-16"])
@pytest.mark.parametrize("columns", ["0", "20", "x"])
def test_a_wrong_flag_is_one_line_in_any_encoding(capsys, monkeypatch, encoding, columns):
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(sys.stdout, "reconfigure", lambda **_: None, raising=False)
    monkeypatch.setattr(type(sys.stdout), "encoding", encoding, raising=False)
    with pytest.raises(SystemExit):
        run_command("distill", ["--ipc", "two"])
    assert capsys.readouterr().err == (
        "python -m ddpp_jax.distill: --ipc: got 'two', wanted a whole number; "
        "--help lists the flags\n"
    )


@pytest.mark.parametrize("stage", ["teachers", "distill", "select"])
@pytest.mark.parametrize("flag", ["--teachers-dir", "--cache-dir", "--profile"])
def test_a_home_that_is_not_known_is_one_line(capsys, stage, flag):
    with pytest.raises(SystemExit):
        run_command(stage, [flag, "~nosuchuser/x", "--dry-run"])
    error = capsys.readouterr().err
    assert "~nosuchuser is no home folder that is known here" in error
    assert error.count("\n") == 1


@pytest.mark.parametrize("flags", [["~nosuchuser/x.npz"], ["x.npz", "--dataset", "~nosuchuser/x"]])
def test_so_it_is_for_sets_and_data(capsys, flags):
    with pytest.raises(SystemExit):
        run_command("evaluate", flags)
    assert "~nosuchuser is no home folder" in capsys.readouterr().err


def test_a_home_that_is_known_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert expanded("~/x") == tmp_path / "x"
    assert str(expanded("x/~y")) == "x/~y"


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (errno.EACCES, "it; change its permissions"),
        (errno.ENOSPC, "the disk is full; make room"),
        (errno.EROFS, "cannot be written to"),
        (errno.EMFILE, "ulimit -n"),
        (errno.ENOTDIR, "is a file"),
    ],
)
def test_system_errors_name_the_file_and_what_to_do(capsys, number, words):
    def work(*_):
        raise OSError(number, os.strerror(number), "place/metrics.jsonl")

    with pytest.raises(SystemExit) as leaving:
        running.run_command("report", [], work)
    assert leaving.value.code == 1
    error = capsys.readouterr().err
    assert error.startswith("python -m ddpp_jax.report: place/metrics.jsonl: ")
    assert words in error
    assert error.count("\n") == 1
    assert "No such file" not in error


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_disk_names_the_file(tmp_path):
    with pytest.raises(OSError, match="full") as caught, Replacement(tmp_path / "a.json"):
        raise OSError(errno.ENOSPC, "full")
    assert caught.value.filename == str(tmp_path / "a.json")
    full = FULL.open("a")
    with pytest.raises(OSError, match="No space") as caught:
        append_row(full, {"step": 1})
    assert caught.value.filename == str(FULL)
    with pytest.raises(OSError, match="No space"):
        full.close()


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_an_output_that_is_full_or_gone_is_no_traceback(tmp_path):
    with FULL.open("w") as full:
        done = call(tmp_path, "distill", "--print-settings", stdout=full)
    assert done.returncode == 1
    assert done.stderr == (
        "python -m ddpp_jax.distill: the output of this command: the disk is full; make room, and "
        "the same command goes on from what is saved\n"
    )
    reading, writing = os.pipe()
    os.close(reading)
    done = call(tmp_path, "distill", "--print-settings", stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, "")


@pytest.mark.parametrize("name", ["evaluate", "distill"])
def test_memory_that_ends_says_what_helps(capsys, name):
    def damaged(*_):
        raise MemoryError("Unable to allocate 7 PiB")

    def large(*_):
        raise RuntimeError("RESOURCE_EXHAUSTED: Out of memory allocating 1 bytes")

    for work, given, words in (
        (damaged, [], "Unable to allocate 7 PiB; free some; where a file is named"),
        (large, [], "lower --"),
        (large, ["--read", "stream"], "lower --"),
    ):
        with pytest.raises(SystemExit):
            running.run_command(name, given, work)
        error = capsys.readouterr().err
        assert words in error
        assert ("--read stream" in error) == (name == "distill" and work is large and not given)
        assert ("--width" in error) == (work is large)


@pytest.mark.parametrize("quiet", [False, True])
def test_warnings_and_logs_of_packages_are_lines_or_nothing(capsys, quiet):
    import logging

    with warnings.catch_warnings():
        warnings.simplefilter("always")
        with plain_notices(quiet=quiet, repair=lambda name: f"repaired {name}"):
            for _ in range(2):
                np.log(np.float32(-1))
                logging.getLogger("absl").warning("two\nlines")
                warnings.warn(
                    "Error reading persistent compilation cache entry for 'jit_f': x", stacklevel=1
                )
    error = capsys.readouterr().err
    assert error.count("repaired jit_f\n") == 1
    assert error.count("\n") == (1 if quiet else 3)
    if not quiet:
        assert "warning: invalid value encountered in log (RuntimeWarning)\n" in error
        assert "warning: two lines (absl)\n" in error


def test_a_damaged_compile_cache_is_repaired_and_said(tmp_path):
    code = (
        "import jax; from pathlib import Path; from ddpp_jax.planning import programs;"
        "from ddpp_jax.cli.notices import plain_notices;"
        "programs._LEAST_SECONDS = 0; programs.keep_programs(Path('cache'));\n"
        "with plain_notices(quiet=True, repair=programs.forget_program):\n"
        "    print(jax.jit(lambda x: x + 1)(1.0))"
    )
    environ = {k: v for k, v in os.environ.items() if "COMPILATION_CACHE" not in k}

    def once():
        return subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=tmp_path,
            env=environ,
        ).stderr

    assert once() == ""
    (kept,) = tmp_path.glob("cache/*/jit__lambda*-cache")
    whole = kept.read_bytes()
    for damaged in (whole[:50], b"x" * len(whole)):
        kept.write_bytes(damaged)
        said = once()
        assert said.count("\n") == 1
        assert "were damaged; they are removed and compiled again" in said
        assert kept.read_bytes() != damaged
    assert once() == ""


def test_a_folder_of_programs_that_is_none_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr("ddpp_jax.planning.programs._kept_in", lambda: str(tmp_path / "none"))
    assert "is no folder and cannot be made" in forget_program("jit_f")


def test_a_spoilt_teacher_is_named(tmp_path):
    store = TeacherStore(tmp_path)
    store.write(0, np.zeros((2, 3)), {})
    store.write(1, np.full((2, 3), np.nan, np.float32), {})
    assert store.damaged(0) == f"{tmp_path}/teacher-000 holds float64, wanted float32"
    assert store.damaged(1) is None
    with pytest.raises(InputError, match=r"teacher-001 holds NaN.*delete that folder"):
        store.read(1, [0], num_params=3)
