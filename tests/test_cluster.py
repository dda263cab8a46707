"""Several processes of one job, over the loopback; and several jobs that share one store."""

import contextlib
import json
import os
import shlex
import shutil
import signal
import socket
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
from processes import call, command, start, without_flags
from test_resume import kill, wait_for
from test_stored import npy_folder

from ddpp_jax import cluster
from ddpp_jax.errors import InputError
from ddpp_jax.sets import read_distilled
from ddpp_jax.storage import Leases, TeacherStore, read_sealed
from ddpp_jax.storage import leases as lease_files
from ddpp_jax.storage.files import HOST

SMALL = shlex.split(
    "--width 4 --depth 1 --augment none --teachers 3 --epochs 4 --max-start-epoch 2 --steps 60 "
    "--student-steps 3 --eval-every 30 --networks 3 --eval-epochs 5 --random-draws 1 --out run"
)
DEVICES = " --xla_force_host_platform_device_count={}"


def start_with(folder, devices, stage, *flags):
    """Begin a command on several virtual devices."""
    arguments, options = command(folder, stage, *flags)
    env = options.pop("env")
    env = env | {"XLA_FLAGS": env.get("XLA_FLAGS", "") + DEVICES.format(devices)}
    pipe = subprocess.PIPE
    return subprocess.Popen(arguments, stdout=pipe, stderr=pipe, env=env, **options)


def job_flags(processes=2):
    """Where the processes of a job meet, up to the number of each."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return f"--coordinator 127.0.0.1:{port} --processes {processes} --process-id".split()


def start_job(folder, stage, *flags, processes=2, devices=2):
    """Begin the processes of a job, each with several virtual devices."""
    place = job_flags(processes)
    return [
        start_with(folder, devices, stage, *flags, *place, str(number))
        for number in range(processes)
    ]


def ends(processes):
    """What each process says, and how it ends."""
    found = [process.communicate(timeout=600) for process in processes]
    said = zip(processes, found, strict=True)
    return [(process.returncode, out, without_flags(error)) for process, (out, error) in said]


def accuracies(folder):
    return [row["accuracies"] for row in read_sealed(folder / "run" / "result.json")["rows"]]


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    """A whole run by two processes of two devices each."""
    folder = tmp_path_factory.mktemp("job")
    return folder, ends(start_job(folder, "distill", *SMALL))


def test_a_job_of_two_processes_does_what_one_process_does(job, tmp_path):
    folder, (first, second) = job
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "MTT (no pruning)" in first[1]
    assert "Gloo" not in first[1]
    assert second[1] == second[2] == "", "processes that do not lead are silent"
    ((code, _, error),) = ends([start_with(tmp_path, 4, "distill", *SMALL)])
    assert code == 0, error
    for place in (folder, tmp_path):
        names = {path.name for path in (place / "run").iterdir()}
        assert {"result.json", "report.html", "curves.png", "mtt"} <= names
        assert not [name for name in names if "evaluation" in name or "checkpoint" in name]
    for name in ("distilled.safetensors", "mtt/distilled.safetensors"):
        own, other = (read_distilled(place / "run" / name) for place in (folder, tmp_path))
        np.testing.assert_allclose(own.images, other.images, atol=1e-4)
        assert own.images.std() > 0.1
    np.testing.assert_allclose(accuracies(folder), accuracies(tmp_path), atol=0.02)


def test_one_process_finds_the_run_of_a_job_complete(job):
    folder, _ = job
    done = call(folder, "distill", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "run is complete" in done.stdout


def test_a_job_evaluates_what_one_process_evaluates(job, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(job[0], folder)
    flags = shlex.split("run --networks 3 --eval-epochs 5 --out evaluation")
    first, second = ends(start_job(folder, "evaluate", *flags))
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert second[1] == second[2] == ""
    done = call(folder, "evaluate", *flags[:-1], "alone")
    assert done.returncode == 0, done.stderr
    own, other = (read_sealed(folder / n / "result.json")["rows"] for n in ("evaluation", "alone"))
    for one, two in zip(own, other, strict=True):
        np.testing.assert_allclose(one["accuracies"], two["accuracies"], atol=0.02)


@pytest.mark.parametrize("lost", [0, 1])
def test_a_job_that_loses_a_process_ends_and_goes_on_elsewhere(job, tmp_path, lost):
    """On another mesh: by one process with one device."""
    processes = start_job(tmp_path, "distill", *SMALL)
    wait_for(tmp_path / "run" / "checkpoints", processes[lost])
    assert kill(processes[lost])
    ((code, _, error),) = ends([processes[1 - lost]])
    assert code != 0
    assert "Traceback" not in error
    if lost == 1:  # Of a leading process that is killed XLA itself tells the others.
        (line,) = [line for line in error.splitlines() if line.startswith("python -m")]
        assert "another process of this job ended; the same command goes on" in line
    assert not (tmp_path / "run" / "result.json").exists()
    done = call(tmp_path, "distill", *SMALL)
    assert done.returncode == 0, done.stderr
    np.testing.assert_allclose(accuracies(tmp_path), accuracies(job[0]), atol=0.02)


def test_an_error_of_the_leading_process_ends_the_job_with_one_line(job, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.txt").write_text("years of work")
    first, second = ends(start_job(tmp_path, "distill", *SMALL, devices=1))
    assert (first[0], second[0]) == (2, 2)
    assert first[2].count("\n") == 1
    assert "run holds other files" in first[2]
    assert second[2] == ""


def test_eight_devices_train_the_teachers_that_one_trains(tmp_path):
    flags = shlex.split("digits --width 4 --depth 1 --teachers 3 --epochs 2 --teachers-dir here")
    for devices in (1, 8):
        (tmp_path / str(devices)).mkdir()
        ((code, _, error),) = ends(
            [start_with(tmp_path / str(devices), devices, "teachers", *flags)]
        )
        assert code == 0, error
    for number in range(3):
        one, eight = (
            json.loads(next((tmp_path / n).glob(f"here/*/teacher-00{number}.json")).read_text())
            for n in ("1", "8")
        )
        np.testing.assert_allclose(one["losses"], eight["losses"], rtol=1e-4)


def test_processes_stream_images_for_their_own_teachers(tmp_path):
    """Four devices of two processes train on streamed images what four of one train in memory."""
    npy_folder(tmp_path / "set")
    flags = shlex.split(
        "--settings digits --dataset set --width 4 --depth 1 --augment none --teachers 5 "
        "--epochs 2 --teacher-batch 16"
    )
    first, second = ends(
        start_job(tmp_path, "teachers", *flags, "--teachers-dir", "job", "--images", "stream")
    )
    assert first[0] == second[0] == 0, first[2] + second[2]
    ((code, _, error),) = ends(
        [start_with(tmp_path, 4, "teachers", *flags, "--teachers-dir", "one")]
    )
    assert code == 0, error
    stores = [TeacherStore(next((tmp_path / place).iterdir())) for place in ("job", "one")]
    for index in range(5):
        tensors = stores[0].known(index)["tensors"]
        size = sum(int(np.prod(shape)) for _, shape in tensors)
        own, other = (store.read(index, range(3), num_params=size) for store in stores)
        np.testing.assert_allclose(own, other, atol=1e-5)
        assert np.abs(np.diff(other, axis=0)).max() > 0


def test_the_segments_of_a_step_are_spread(tmp_path):
    """Of a single distillation: half of them on each of two processes, or all on one."""
    flags = [*SMALL, "--threshold", "none", "--segments", "4"]
    alone = tmp_path / "alone"
    alone.mkdir()
    found = ends(start_job(tmp_path, "distill", *flags, devices=1))
    assert [code for code, _, _ in found] == [0, 0], found
    done = call(alone, "distill", *flags)
    assert done.returncode == 0, done.stderr
    own, other = (read_distilled(p / "run" / "distilled.safetensors") for p in (tmp_path, alone))
    np.testing.assert_allclose(own.images, other.images, atol=1e-4)


def test_processes_on_their_own_share_one_store(tmp_path):
    flags = shlex.split("digits --width 4 --depth 1 --teachers 8 --epochs 15 --quiet")
    processes = [start(tmp_path, "teachers", *flags) for _ in range(2)]
    holders: dict[str, set[int]] = {}
    while any(process.poll() is None for process in processes):
        for path in (tmp_path / "runs" / "teachers").glob("*/*.lease"):
            with contextlib.suppress(OSError, ValueError):
                holders.setdefault(path.stem, set()).add(json.loads(path.read_text())["pid"])
        time.sleep(0.02)
    said = ends(processes)
    assert [code for code, _, _ in said] == [0, 0], said
    (store,) = (tmp_path / "runs" / "teachers").iterdir()
    assert len(list(store.glob("teacher-*.json"))) == 8
    assert not list(store.glob("*.lease"))
    assert not list(store.glob("*damaged*"))
    assert len(holders) >= 4, "leases are there while teachers are trained"
    assert len(set.union(*holders.values())) == 2, "both processes train"
    alone = tmp_path / "alone"
    alone.mkdir()
    done = call(alone, "teachers", *flags, "--teachers", "3")
    assert done.returncode == 0, done.stderr
    (other,) = (alone / "runs" / "teachers").iterdir()
    for path in sorted(other.glob("teacher-*.json")):
        ours, theirs = (json.loads((place / path.name).read_text()) for place in (store, other))
        assert ours["digests"] == theirs["digests"]


PARTS = """
import jax, jax.numpy as jnp
from ddpp_jax.training import mean_over, on_all

xs = jnp.arange(12.0).reshape(4, 3)
mean = on_all(lambda xs: mean_over(lambda x: {"a": 2 * x, "b": x.sum()}, xs))
found = jax.jit(mean)(xs)
assert jnp.allclose(found["a"], 2 * xs.mean(axis=0)), found
assert jnp.allclose(found["b"], xs.sum() / 4), found
whole, uneven = str(jax.make_jaxpr(mean)(xs)), str(jax.make_jaxpr(mean)(xs[:3]))
print("psum" in whole, "length=2" in whole, "psum" in uneven, "length=3" in uneven)
"""


def test_a_mean_is_cut_into_equal_parts_for_the_devices():
    env = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"] + DEVICES.format(2)}
    code = [sys.executable, "-c", PARTS]
    done = subprocess.run(code, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["True", "True", "False", "True"]


def test_a_dry_run_of_a_job_comes_to_its_end(tmp_path):
    """Though its processes find other paces."""
    (first, second) = ends(start_job(tmp_path, "distill", *SMALL, "--dry-run", devices=1))
    assert first[0] == second[0] == 0, first[2] + second[2]
    assert "Time: about" in first[1]
    assert second[1] == second[2] == ""
    assert not list(tmp_path.glob("run*"))


def test_a_job_can_be_asked_to_end(tmp_path):
    processes = start_job(tmp_path, "teachers", "digits", "--teachers", "2", "--epochs", "100000")
    wait_for(tmp_path / "runs", processes[0])
    for process in processes:
        process.terminate()
    assert [code for code, _, _ in ends(processes)] == [-signal.SIGTERM] * 2


def test_what_all_processes_find_wrong_is_said_once(tmp_path):
    first, second = ends(start_job(tmp_path, "teachers", "cifar10-ipc1", "--data-dir", "nowhere"))
    assert (first[0], second[0]) == (2, 2)
    assert first[2].count("\n") == 1
    assert second[2] == ""


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("--processes 2", "--coordinator, --processes and --process-id belong together"),
        ("--coordinator host:1 --processes 2", "belong together"),
        ("--coordinator host --processes 2 --process-id 0", "wanted HOST:PORT"),
        ("--coordinator host:99999 --processes 2 --process-id 0", "the port at most 65535"),
        ("--coordinator :9911 --processes 2 --process-id 0", "wanted HOST:PORT"),
        ("--coordinator host:1 --processes 2 --process-id 2", "wanted 0 to 1"),
        ("--coordinator host:1 --processes 0 --process-id 0", "wanted 1 or more"),
    ],
)
def test_a_job_that_cannot_be_is_refused(tmp_path, flags, said):
    done = call(tmp_path, "teachers", "digits", *shlex.split(flags))
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("environment", "joins"),
    [
        ({}, False),
        ({"SLURM_NTASKS": "4"}, False),  # As in a batch script, outside a step.
        ({"SLURM_NTASKS": "4", "SLURM_STEP_NODELIST": "a[1-4]"}, True),
        ({"SLURM_NTASKS": "1", "SLURM_STEP_NODELIST": "a1"}, False),
        ({"OMPI_COMM_WORLD_SIZE": "2"}, True),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, True),
    ],
)
def test_jobs_are_found_as_they_are_announced(monkeypatch, environment, joins):
    names = ("SLURM_NTASKS", "SLURM_STEP_NODELIST", "OMPI_COMM_WORLD_SIZE")
    for name in (*names, "KUBERNETES_SERVICE_HOST", "JOB_COMPLETION_INDEX"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    asked = []

    def initialize(*given):
        asked.append(given)
        raise RuntimeError("nobody answers\nat all")

    monkeypatch.setattr(jax.distributed, "initialize", initialize)
    if joins:
        with pytest.raises(InputError, match=r"nobody answers at all; give --coordinator"):
            cluster.join()
        assert asked == [(None, None, None)]
    else:
        cluster.join()
    cluster.join(processes=1)
    assert len(asked) == joins


def test_a_process_that_is_alone_asks_itself():
    assert cluster.count() == 1
    assert cluster.leads()
    assert cluster.agreed(lambda: 3) == 3
    with pytest.raises(InputError, match="told"):
        cluster.agreed(lambda: (_ for _ in ()).throw(InputError("told")))


@pytest.fixture
def lease(tmp_path):
    """A lease that somebody else holds, as it lies on disk."""

    def write(host, pid, age=0.0):
        path = tmp_path / "a.lease"
        path.write_text(json.dumps({"host": host, "pid": pid}))
        now = path.stat().st_mtime
        os.utime(path, (now - age, now - age))
        return path

    return write


def test_a_lease_is_held_until_it_is_given_back(tmp_path):
    with Leases(tmp_path) as ours, Leases(tmp_path) as theirs:
        assert ours.take("a")
        assert not theirs.take("a")
        assert theirs.take("b")
        ours.give_back("a")
        assert theirs.take("a")
    assert not list(tmp_path.glob("*.lease"))


def test_leases_of_processes_that_are_gone_are_taken_over(tmp_path, lease):
    """Of this machine at once; of others after a time, whatever processes this machine has."""
    long = 2 * lease_files.SECONDS_OF_A_LEASE
    gone = 2**22 + 1
    with Leases(tmp_path) as leases:
        for host, pid, age in ((HOST, gone, 0.0), (HOST, os.getpid(), long), ("else", gone, long)):
            lease(host, pid, age)
            assert leases.take("a")
        for host, pid in ((HOST, os.getpid()), ("elsewhere", gone), ("elsewhere", os.getpid())):
            lease(host, pid)
            assert not leases.take("a")
        (tmp_path / "a.lease").write_text("torn")
        assert leases.take("a")


def test_a_lease_that_was_lost_is_left_to_its_new_holder(tmp_path, lease):
    with Leases(tmp_path) as leases:
        assert leases.take("a")
        assert leases.hold("a")
        path = lease("elsewhere", 1)
        assert not leases.hold("a")
        assert not leases.hold("b")
        leases.give_back("a")
        assert json.loads(path.read_text())["host"] == "elsewhere"


def test_what_is_held_is_touched(tmp_path, lease, monkeypatch):
    """Also after the disk did not answer once; and nothing of others is."""
    monkeypatch.setattr(lease_files, "_SECONDS_BETWEEN_TOUCHES", 0.01)
    utime, failed = os.utime, []

    def once(path, *times):
        if str(path).endswith("a.lease") and not times and not failed:
            failed.append(path)
            raise OSError(116, "stale file handle")
        utime(path, *times)

    monkeypatch.setattr(os, "utime", once)
    with Leases(tmp_path) as leases:
        assert leases.take("a")
        path = tmp_path / "a.lease"
        utime(path, (0, 0))
        leases._over.wait(0.5)
        assert failed
        assert path.stat().st_mtime > 0
        lease("elsewhere", 1)
        utime(path, (0, 0))
        leases._over.wait(0.2)
        assert path.stat().st_mtime == 0


def test_a_killed_process_leaves_its_teachers_to_others(tmp_path):
    flags = shlex.split("digits --width 4 --depth 1 --teachers 2 --epochs 30 --teachers-dir here")
    process = start(tmp_path, "teachers", *flags)
    store = None
    while store is None or not list(store.glob("*.lease")):
        assert process.poll() is None
        store = next(iter((tmp_path / "here").glob("digits-*")), None)
    assert kill(process)
    assert list(store.glob("*.lease"))
    done = call(tmp_path, "teachers", *flags)
    assert done.returncode == 0, done.stderr
    assert len(list(store.glob("teacher-*.json"))) == 2
    assert not list(store.glob("*.lease"))


def test_processes_of_different_commands_are_no_job(tmp_path):
    flags = shlex.split("digits --teachers 2 --epochs 3 --width 4 --depth 1")
    place = job_flags()
    processes = [
        start_with(tmp_path, 1, "teachers", *flags, "--seed", seed, *place, number)
        for number, seed in (("0", "1"), ("1", "2"))
    ]
    first, second = ends(processes)
    assert (first[0], second[0]) == (2, 2)
    assert "were given different flags" in first[2]
    assert first[2].count("\n") == 1
    assert second[2] == ""


def test_a_leading_process_that_is_not_there_is_one_line(monkeypatch):
    monkeypatch.setattr(cluster, "_SECONDS_OF_WAITING", 0.0)
    with pytest.raises(InputError, match=r"no process 0 answers at 127.0.0.1:9 .*; start it"):
        cluster.join("127.0.0.1:9", 2, 1)


def test_processes_with_unequal_devices_are_no_job(tmp_path):
    flags = shlex.split("digits --teachers 2 --epochs 3 --width 4 --depth 1")
    place = job_flags()
    processes = [
        start_with(tmp_path, number + 1, "teachers", *flags, *place, str(number))
        for number in range(2)
    ]
    for number, (code, _, error) in enumerate(ends(processes)):
        assert code != 0
        assert "Traceback" not in error
        if number == 0:  # It leads; the other one may be ended by XLA.
            assert "this process has 1 devices, and all 2 processes together 3" in error
