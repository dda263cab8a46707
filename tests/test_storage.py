"""What is kept: whole or not at all, read in part, damage found and named."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from ddpp_jax.errors import InputError
from ddpp_jax.methods import read_all
from ddpp_jax.storage import Checkpoints, TeacherStore, read_sealed, trees, write_json
from ddpp_jax.storage import checkpoints as checkpoints_module

STATE = (np.arange(3, dtype=np.float32), {"alpha": np.float32(0.5)})
TRAJECTORY = np.random.default_rng(0).normal(size=(6, 50_000)).astype(np.float32)


def flip_a_byte(folder):
    """Change one byte in the middle of the largest file."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return path


def cut(folder):
    """Truncate the largest file."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:-7])
    return path


def remove(folder):
    """Delete the largest file."""
    path = max((p for p in folder.rglob("*") if p.is_file()), key=lambda p: p.stat().st_size)
    path.unlink()
    return path


def latest(checkpoints, like):
    """The newest state, its step, and the warnings."""
    warnings: list[str] = []
    return (*checkpoints.load_latest(like, warnings.append), warnings)


@pytest.fixture
def store(tmp_path):
    store = TeacherStore(tmp_path / "store")
    for index in range(3):
        store.write(index, TRAJECTORY + index, {"accuracy": 0.5 + index / 10})
    return store


def test_snapshots_come_back_one_by_one_or_together(store):
    assert store.missing(4) == [3]
    found = store.read(1, [4, 0], num_params=50_000)
    np.testing.assert_array_equal(found, TRAJECTORY[[4, 0]] + 1)
    together = read_all(store, 3, 2, num_params=50_000)
    expected = np.stack([TRAJECTORY[:3] + index for index in range(3)])
    np.testing.assert_array_equal(together, expected)
    assert store.known(2)["accuracy"] == 0.7


def read_so_far():
    with Path("/proc/self/io").open() as file:
        return int(file.readline().split()[1])


def test_one_snapshot_is_read_without_the_rest(store):
    store.read(0, [0], num_params=50_000)
    before = read_so_far()
    store.read(0, [3], num_params=50_000)
    assert read_so_far() - before < 2 * TRAJECTORY[0].nbytes


@pytest.mark.parametrize("harm", [flip_a_byte, cut, remove])
def test_a_damaged_file_is_named_and_the_other_teachers_stay(store, harm):
    path = harm(store.folder / "teacher-001")
    assert str(path) in store.damaged(1)
    assert store.damaged(0) is None
    assert store.damaged(2) is None
    np.testing.assert_array_equal(store.read(2, [5], num_params=50_000)[0], TRAJECTORY[5] + 2)
    place = store.set_aside(1)
    assert store.missing(3) == [1]
    assert place.is_dir()


def test_an_epoch_or_a_size_that_is_not_there_is_refused(store):
    with pytest.raises(InputError, match=r"teacher-000 holds nothing as .*epoch-006"):
        store.read(0, [6], num_params=50_000)
    with pytest.raises(InputError, match=r"teacher-000 holds .*50000.*, wanted .*50001"):
        store.read(0, [0], num_params=50_001)
    with pytest.raises(InputError, match="teacher-007 is not there"):
        store.read(7, [0], num_params=50_000)


def test_what_is_not_sealed_does_not_count(store):
    (store.folder / "teacher-001.json").unlink()
    leftover = store.folder / "teacher-001.orbax-checkpoint-tmp-3"
    leftover.mkdir()
    assert store.missing(3) == [1]
    store.write(1, TRAJECTORY + 1, {})
    assert store.damaged(1) is None
    assert not leftover.exists()


def test_the_newest_state_comes_back_and_old_ones_go(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert latest(checkpoints, STATE)[1] == 0
    for step in (5, 10, 15):
        checkpoints.save(step, (STATE[0] + step, STATE[1]))
    names = sorted(p.name for p in checkpoints.folder.iterdir() if p.is_dir())
    assert names == ["step-000005", "step-000010", "step-000015"]  # The first is on the disk.
    state, step, warnings = latest(checkpoints, STATE)
    assert (step, warnings) == (15, [])
    np.testing.assert_array_equal(state[0], [15, 16, 17])
    assert state[1]["alpha"] == 0.5
    (checkpoints.folder / "step-000020.orbax-checkpoint-tmp").mkdir()
    (checkpoints.folder / "step-000025").mkdir()
    assert latest(checkpoints, STATE)[1] == 15
    checkpoints.remove()
    assert not checkpoints.folder.exists()


def test_a_state_that_is_on_the_disk_for_certain_stays_until_the_next(tmp_path, monkeypatch):
    now, synced = [0.0], []
    monkeypatch.setattr(checkpoints_module.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(trees, "sync_tree", lambda path: synced.append(path.name))
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step, now[0] in ((1, 1.0), (2, 6.0), (3, 7.0), (4, 8.0), (5, 9.0)):
        checkpoints.save(step, STATE)
    kept = sorted(p.name for p in checkpoints.folder.iterdir() if p.is_dir())
    assert kept == ["step-000002", "step-000004", "step-000005"]
    for step, now[0] in ((6, 12.0), (7, 13.0), (8, 14.0)):
        checkpoints.save(step, STATE)
    kept = sorted(p.name for p in checkpoints.folder.iterdir() if p.is_dir())
    assert kept == ["step-000006", "step-000007", "step-000008"]
    assert synced == ["step-000001", "step-000002", "step-000006"]


def read_or_line(store, epoch):
    """A snapshot of teacher 1, or the line that refuses it."""
    try:
        return store.read(1, [epoch], num_params=50_000)[0], None
    except InputError as error:
        return None, str(error)


def test_damage_between_the_check_and_the_use_is_found(store):
    """A run checks its teachers when it starts, and may read them for days."""
    for path in sorted((store.folder / "teacher-001").rglob("*")):
        if path.is_file():
            whole = path.read_bytes()
            for harmed in (whole[:-7], b"[]", whole[:40] + bytes(8) + whole[48:]):
                path.write_bytes(harmed)
                found, line = read_or_line(store, 4)
                if found is None:
                    assert "teacher-001" in line
                    assert "start the same command again" in line
                else:
                    np.testing.assert_array_equal(found, TRAJECTORY[4] + 1)
            path.write_bytes(whole)


def test_an_array_that_is_not_as_it_was_written_is_named(store):
    seal = read_sealed(store.folder / "teacher-001.json")
    assert set(seal["digests"]) == set(seal["arrays"])
    seal["digests"]["['epoch-003']"] = "0" * 64
    write_json(store.folder / "teacher-001.json", seal)
    with pytest.raises(InputError, match=r"teacher-001 is damaged: .*epoch-003.* is not as it was"):
        store.read(1, [3], num_params=50_000)
    # Those of earlier versions have no such digests.
    write_json(store.folder / "teacher-001.json", {n: seal[n] for n in seal if n != "digests"})
    np.testing.assert_array_equal(store.read(1, [3], num_params=50_000)[0], TRAJECTORY[3] + 1)


@pytest.mark.parametrize("known", [{}, {"accuracy": "0.5"}, {"accuracy": None}])
def test_a_teacher_of_unknown_accuracy_is_named(tmp_path, known):
    store = TeacherStore(tmp_path)
    store.write(0, TRAJECTORY[:, :3], known)
    with pytest.raises(InputError, match=r"teacher-000.json is damaged: .*accuracy"):
        store.known(0)


@pytest.mark.parametrize("harm", [flip_a_byte, cut, remove])
def test_a_damaged_state_is_named_and_the_one_before_it_is_used(tmp_path, harm):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    for step in (5, 10):
        checkpoints.save(step, (STATE[0] + step, STATE[1]))
    path = harm(checkpoints.folder / "step-000010")
    state, step, (warning,) = latest(checkpoints, STATE)
    assert step == 5
    np.testing.assert_array_equal(state[0], [5, 6, 7])
    assert str(path) in warning
    checkpoints.remove()
    # Nothing that was damaged is deleted: a person may want to look at it.
    assert [p.name for p in checkpoints.folder.iterdir() if p.is_dir()] == ["step-000010.damaged-1"]


def test_a_state_of_another_shape_is_not_used(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.save(5, STATE)
    other = (np.zeros(4, np.float32), {"alpha": np.float32(0)})
    state, step, (warning,) = latest(checkpoints, other)
    assert (state, step) == (other, 0)
    assert "step-000005" in warning


def test_a_damaged_seal_is_named(tmp_path):
    trees.save_tree(tmp_path / "tree", {"a": np.zeros(2)}, {})
    seal = tmp_path / "tree.json"
    whole = seal.read_text()
    assert trees.damage(tmp_path / "tree") is None
    for harmed in (
        "{",
        "[]",
        "",
        "\x00",
        '{"files": []}',
        whole.replace('"arrays"', '"arrayz"'),
        whole.replace("2", "3", 1),
    ):
        assert harmed != whole
        seal.write_text(harmed)
        assert trees.damage(tmp_path / "tree") == f"{seal} is damaged"
    for kind in ({"files": []}, {"files": {"a": 1}}, {"arrays": 3}, {"digests": []}):
        write_json(seal, json.loads(whole) | kind)
        assert trees.damage(tmp_path / "tree") == f"{seal} is damaged"


def test_device_arrays_are_kept_too(tmp_path):
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save(1, {"x": jnp.arange(3.0)})
    np.testing.assert_array_equal(latest(checkpoints, {"x": jnp.zeros(3)})[0]["x"], [0, 1, 2])
