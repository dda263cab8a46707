"""Teachers: their store, their independence of one another, their learning."""

import dataclasses

import jax
import numpy as np
import pytest
import small

from ddpp_jax import teachers
from ddpp_jax.configs import TeachersJob
from ddpp_jax.errors import InputError
from ddpp_jax.methods import read_all
from ddpp_jax.progress import Report
from ddpp_jax.storage import TeacherStore, machine
from ddpp_jax.teachers import epochs, training
from ddpp_jax.training import accuracies

DATA = small.dataset()
NETWORK = small.network()
CONFIG = TeachersJob(
    data=small.CONFIG.data, model=small.CONFIG.model, teaching=small.CONFIG.teaching
)


def train(folder, config=CONFIG):
    store = TeacherStore(folder)
    teachers.run(config, DATA, NETWORK, store, Report(None))
    count, snapshots = config.teaching.teachers, config.teaching.last_kept + 1
    return np.asarray(read_all(store, count, snapshots - 1, num_params=NETWORK.num_params))


def test_snapshots_begin_with_the_initialisation_and_learn(tmp_path):
    trajectories = train(tmp_path)
    assert trajectories.shape == (2, 4, NETWORK.num_params)
    assert np.all(np.any(np.diff(trajectories, axis=1) != 0, axis=2))
    shifts = jax.vmap(NETWORK.unflatten)(trajectories[:, 0])["InstanceNorm_0"]["shift"]
    np.testing.assert_array_equal(shifts, np.zeros((2, 4)))
    before, after = (
        accuracies(
            jax.vmap(NETWORK.unflatten)(trajectories[:, epoch]),
            DATA.x_test,
            DATA.y_test,
            apply_fn=NETWORK.apply_fn,
        )
        for epoch in (0, -1)
    )
    assert after.mean() > before.mean() + 0.2
    store = TeacherStore(tmp_path)
    for index in range(2):
        known = store.known(index)
        assert known["accuracy"] == pytest.approx(float(after[index]))
        assert len(known["losses"]) == 3
        assert known["losses"][-1] < known["losses"][0]
        assert known["versions"]["jax"] == jax.__version__


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
        TeacherStore,
        "write",
        lambda self, index, *args, **known: (
            written.append(index),
            write(self, index, *args, **known),
        ),
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

    monkeypatch.setattr(epochs, "augment", recorded)
    train(tmp_path)
    jax.effects_barrier()
    batches = -(-len(DATA.y_train) // CONFIG.teaching.teacher_batch)
    assert len(keys) == len(set(keys)) == 2 * 3 * batches


def test_groups_share_one_compiled_program(tmp_path, monkeypatch):
    traces = []

    def counted(key, images, *, operations):
        traces.append(1)
        return images

    monkeypatch.setattr(epochs, "augment", counted)
    train(tmp_path / "two")
    two = len(traces)
    teaching = dataclasses.replace(CONFIG.teaching, teachers=4)
    train(tmp_path / "four", dataclasses.replace(CONFIG, teaching=teaching))
    assert len(traces) == 2 * two


def test_teachers_trained_together_or_in_turn_are_the_same(tmp_path, monkeypatch):
    together = train(tmp_path / "together")
    monkeypatch.setattr(training, "workers", lambda members: 1)
    np.testing.assert_array_equal(train(tmp_path / "turn"), together)


def test_a_damaged_teacher_is_named_set_aside_and_trained_again(tmp_path, capsys):
    first = train(tmp_path)
    path = next((tmp_path / "teacher-001").rglob("d/*"))
    path.write_bytes(path.read_bytes()[:10])
    np.testing.assert_array_equal(train(tmp_path), first)
    shown = capsys.readouterr().err
    assert f"{path} is damaged" in shown
    assert (tmp_path / "teacher-001.damaged-1").is_dir()


def test_only_the_epochs_asked_for_are_kept(tmp_path):
    teaching = dataclasses.replace(CONFIG.teaching, keep_epochs=1)
    few = train(tmp_path / "few", dataclasses.replace(CONFIG, teaching=teaching))
    np.testing.assert_array_equal(few, train(tmp_path / "all")[:, :2])
    sizes = [
        sum(path.stat().st_size for path in (tmp_path / name).rglob("d/*"))
        for name in ("few", "all")
    ]
    assert sizes[0] < 0.7 * sizes[1]
    known = [TeacherStore(tmp_path / name).known(1) for name in ("few", "all")]
    assert known[0]["accuracy"] == known[1]["accuracy"]


def test_a_teacher_that_diverges_is_not_kept(tmp_path):
    teaching = dataclasses.replace(CONFIG.teaching, teacher_rate=1e30)
    with pytest.raises(InputError, match=r"teacher 0 diverged in epoch \d; lower --teacher-rate"):
        train(tmp_path, dataclasses.replace(CONFIG, teaching=teaching))
    assert [path.name for path in tmp_path.iterdir()] == [".leases.lock"]


def test_a_disk_without_room_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setattr(machine, "free_bytes", lambda folder: 1000)
    with pytest.raises(InputError, match=r"2 teachers of 4 snapshots need .* free"):
        train(tmp_path / "store")
    assert not list(tmp_path.iterdir())
