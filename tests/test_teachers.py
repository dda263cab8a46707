"""Teachers: their store, their independence of one another, their learning."""

import dataclasses

import jax
import numpy as np
import pytest
import small

from ddpp_jax import evaluate, teachers
from ddpp_jax.configs import TeachersJob
from ddpp_jax.errors import InputError
from ddpp_jax.report import Report
from ddpp_jax.storage import TeacherStore

DATA = small.dataset()
NETWORK = small.network()
CONFIG = TeachersJob(
    data=small.CONFIG.data, model=small.CONFIG.model, teaching=small.CONFIG.teaching
)


def train(folder, config=CONFIG):
    store = TeacherStore(folder)
    teachers.run(config, DATA, NETWORK, store, Report(None))
    count, snapshots = config.teaching.teachers, config.teaching.epochs + 1
    return store.read(count, snapshots=snapshots, num_params=NETWORK.num_params)


def test_snapshots_begin_with_the_initialisation_and_learn(tmp_path):
    trajectories = train(tmp_path)
    assert trajectories.shape == (2, 4, NETWORK.num_params)
    assert np.all(np.any(np.diff(trajectories, axis=1) != 0, axis=2))
    shifts = jax.vmap(NETWORK.unflatten)(trajectories[:, 0])["InstanceNorm_0"]["shift"]
    np.testing.assert_array_equal(shifts, np.zeros((2, 4)))
    before, after = (
        evaluate.accuracies(jax.vmap(NETWORK.unflatten)(trajectories[:, e]), DATA, NETWORK).mean()
        for e in (0, -1)
    )
    assert after > before + 0.2


def test_a_store_grows_without_changing_the_first(tmp_path):
    few = train(tmp_path / "grown")
    teaching = dataclasses.replace(CONFIG.teaching, teachers=3)
    more = dataclasses.replace(CONFIG, teaching=teaching)
    grown, fresh = train(tmp_path / "grown", more), train(tmp_path / "fresh", more)
    np.testing.assert_array_equal(grown[:2], few)
    np.testing.assert_array_equal(grown, fresh)
    assert np.any(grown[0] != grown[1])


def test_a_lost_teacher_alone_is_trained_again(tmp_path, monkeypatch):
    first = train(tmp_path)
    store = TeacherStore(tmp_path)
    (tmp_path / "teacher-001").rename(tmp_path / "elsewhere")
    assert store.missing(2) == [1]
    written = []
    write = TeacherStore.write
    monkeypatch.setattr(
        TeacherStore, "write", lambda self, i, t: (written.append(i), write(self, i, t))[1]
    )
    np.testing.assert_array_equal(train(tmp_path), first)
    assert written == [1]


def test_every_epoch_and_teacher_augments_anew(tmp_path, monkeypatch):
    keys = []

    def recorded(key, images, *, operations):
        assert operations == ("flip",)
        jax.debug.callback(
            lambda data: keys.append(bytes(np.asarray(data))), jax.random.key_data(key)
        )
        return images

    monkeypatch.setattr(teachers, "augment", recorded)
    train(tmp_path)
    jax.effects_barrier()
    batches = -(-len(DATA.y_train) // CONFIG.teaching.teacher_batch)
    assert len(keys) == len(set(keys)) == 2 * 3 * batches


def test_groups_share_one_compiled_program(tmp_path, monkeypatch):
    traces = []

    def counted(key, images, *, operations):
        traces.append(1)
        return images

    monkeypatch.setattr(teachers, "augment", counted)
    monkeypatch.setattr(teachers, "GROUP", 1)
    train(tmp_path / "two")
    two = len(traces)
    teaching = dataclasses.replace(CONFIG.teaching, teachers=4)
    train(tmp_path / "four", dataclasses.replace(CONFIG, teaching=teaching))
    assert len(traces) == 2 * two


def test_a_damaged_teacher_is_named(tmp_path):
    train(tmp_path)
    for path in (tmp_path / "teacher-001").rglob("d/*"):
        path.write_bytes(path.read_bytes()[:10])
    with pytest.raises(InputError, match=r"teacher-001 cannot be read"):
        TeacherStore(tmp_path).read(2, snapshots=4, num_params=NETWORK.num_params)


def test_a_teacher_of_another_size_is_refused(tmp_path):
    train(tmp_path)
    with pytest.raises(InputError, match=r"teacher-000 holds .*wanted"):
        TeacherStore(tmp_path).read(2, snapshots=3, num_params=NETWORK.num_params)
