"""What a step does, divided among eight devices, against one device."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import spread

DEVICES = " --xla_force_host_platform_device_count={}"


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """What the cases of `spread.py` come to on one device and on eight."""
    folders = [tmp_path_factory.mktemp(str(count)) for count in (1, 8)]
    spread.keep(folders[0])
    ends([start(8, folders[1])])
    return folders


def start(devices, *arguments):
    """Begin `spread.py` on several virtual devices."""
    env = os.environ | {"XLA_FLAGS": os.environ["XLA_FLAGS"] + DEVICES.format(devices)}
    code = [sys.executable, str(Path(spread.__file__)), *map(str, arguments)]
    pipe = subprocess.PIPE
    return subprocess.Popen(code, env=env, stdout=pipe, stderr=pipe, text=True)


def ends(processes):
    found = [process.communicate(timeout=600) for process in processes]
    for process, (_, error) in zip(processes, found, strict=True):
        assert process.returncode == 0, error


def told(folder, name):
    return json.loads((folder / "told.json").read_text())[name]


@pytest.mark.parametrize("name", spread.CASES)
def test_values_and_gradients_are_those_of_one_device(both, name):
    one, eight = (np.load(folder / f"{name}.npz") for folder in both)
    for place in one.files:
        scale = np.abs(one[place]).max()
        np.testing.assert_allclose(eight[place], one[place], rtol=1e-9, atol=1e-12 * scale)
    assert max(np.abs(one[place]).max() for place in one.files) > 0


@pytest.mark.parametrize("name", spread.CASES)
def test_the_same_devices_give_the_same_bits(both, name):
    assert all(told(folder, name)["same"] for folder in both)


@pytest.mark.parametrize("name", ["kip", "bptt"])
def test_a_device_has_a_part_of_the_work(both, name):
    one, eight = (told(folder, name)["flops"] for folder in both)
    assert one > 3 * eight


def test_a_device_has_some_of_the_microbatches(both):
    """One takes 72 images in 18 parts of four, and a device its share of 18 in 6 parts of three."""
    one, eight = (told(folder, "mtt")["turns"] for folder in both)
    assert (18 in one, 6 in one) == (True, False)
    assert (18 in eight, 6 in eight) == (False, True)


@pytest.mark.parametrize("name", ["dc", "cafe"])
def test_a_device_has_some_of_the_classes(both, name):
    """One of three here, where one device takes them in turn."""
    one, eight = (told(folder, name)["turns"] for folder in both)
    assert spread.CLASSES in one
    assert spread.CLASSES not in eight


def test_how_many_devices_share_a_minibatch(both):
    """As many as divide it and leave each 16 images, among those that have no other work."""
    assert set(told(both[0], "shares").values()) == {1}
    assert told(both[1], "shares") == {
        "outside": 1,
        "128": 8,
        "72": 4,
        "500": 4,
        "33": 1,
        "24": 1,
        "over batch": 1,
        "in one of 8 segments": 1,
        "in one of 4 segments": 2,
        "in one of 3 segments": 8,
    }


@pytest.fixture(scope="module")
def steps(tmp_path_factory):
    """Steps by two processes of two devices each, and by this one."""
    folder = tmp_path_factory.mktemp("steps")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    spread.keep_steps(folder, "alone")
    ends([start(2, folder, address, number) for number in (0, 1)])
    return {
        name: {count: np.load(folder / f"{name}-{count}.npz") for count in (1, 2, 5)}
        for name in ("0", "1", "alone")
    }


@pytest.mark.parametrize("count", [1, 2])
def test_two_processes_make_the_steps_of_one(steps, count):
    """Of one distillation on all devices, and of two that have two devices each."""
    found = [steps[name][count]["images"] for name in ("0", "1", "alone")]
    np.testing.assert_array_equal(found[0], found[1])
    np.testing.assert_allclose(found[0], found[2], rtol=1e-4, atol=1e-5)


def test_a_process_reads_what_its_own_distillations_need(steps):
    """Of five on four devices, the fifth is on the first device again."""
    read = {
        count: [list(steps[name][count]["read"]) for name in ("0", "1", "alone")]
        for count in (1, 2, 5)
    }
    assert read == {
        1: [[5], [5], [5]],
        2: [[0], [1], [0, 1]],
        5: [[0, 1, 4], [2, 3], [0, 1, 2, 3, 4]],
    }
