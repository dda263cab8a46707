"""Result files: what is saved is loaded, damage is named, nothing is overwritten."""

import json

import numpy as np
import pytest
import safetensors.numpy

from ddpp_jax.errors import InputError
from ddpp_jax.results import (
    FORMAT,
    DistilledFile,
    Replacement,
    append_row,
    claimed_folder,
    read_distilled,
    read_json,
    read_rows,
    write_distilled,
)
from ddpp_jax.storage import Checkpoints

DISTILLED = DistilledFile(
    images=np.random.default_rng(0).normal(size=(4, 5, 5, 3)).astype(np.float32),
    labels=np.array([0, 0, 1, 1], np.int32),
    alpha=0.125,
    class_names=("cat", "dog"),
    mean=np.array([0.4, 0.5, 0.6], np.float32),
    std=np.array([0.2, 0.2, 0.3], np.float32),
)


def test_distilled_set_survives(tmp_path):
    path = tmp_path / "deep" / "set.safetensors"
    write_distilled(path, DISTILLED)
    loaded = read_distilled(path)
    for ours, theirs in zip(loaded, DISTILLED, strict=True):
        np.testing.assert_array_equal(ours, np.asarray(theirs, getattr(ours, "dtype", None)))
    assert [p.name for p in path.parent.iterdir()] == ["set.safetensors"]


def test_foreign_and_damaged_files_are_named(tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    safetensors.numpy.save_file({"x": np.zeros(2)}, foreign)
    with pytest.raises(InputError, match=r"foreign.safetensors is not a distilled set"):
        read_distilled(foreign)
    damaged = tmp_path / "damaged.safetensors"
    write_distilled(damaged, DISTILLED)
    damaged.write_bytes(damaged.read_bytes()[:-50])
    with pytest.raises(InputError, match=r"damaged.safetensors cannot be read"):
        read_distilled(damaged)


def test_rows_outlive_a_kill_in_mid_line(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_rows(path) == []
    with path.open("a") as file:
        append_row(file, {"step": 1})
        append_row(file, {"step": 2})
        file.write('{"step": 3, "lo')
    assert read_rows(path) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step": 1\n{"step": 2}\n')
    with pytest.raises(InputError, match=r"metrics.jsonl, line 1 is damaged"):
        read_rows(path)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    path.write_text("old")
    with pytest.raises(FileNotFoundError), Replacement(path) as temporary:
        (temporary.write_text("half"), (tmp_path / "missing").read_text())
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["file.json"]


def test_a_folder_is_claimed_for_one_thing_and_one_process(tmp_path):
    folder = tmp_path / "run"
    ours = {"config": {"seed": 0, "steps": 5}}
    with claimed_folder(folder, ours, name="config.json"):
        assert json.loads((folder / "config.json").read_text()) == ours
        with (
            pytest.raises(InputError, match="another process is working in"),
            claimed_folder(folder, ours, name="config.json"),
        ):
            pass
    with claimed_folder(folder, ours, name="config.json"):
        pass
    with (
        pytest.raises(InputError, match=r"config.steps was 5, is 6"),
        claimed_folder(folder, {"config": {"seed": 0, "steps": 6}}, name="config.json"),
    ):
        pass
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        read_json(folder / "config.json")


def test_a_foreign_folder_is_not_touched(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with (
        pytest.raises(InputError, match="holds other files"),
        claimed_folder(tmp_path, {}, name="config.json"),
    ):
        pass
    assert [p.name for p in tmp_path.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": np.array([0, 0, 1], np.int32)}, "wanted a label for each image"),
        ({"labels": np.array([0, 0, 1, 2], np.int32)}, "labels beyond its 2 classes"),
        ({"images": np.full((4, 5, 5, 3), np.nan, np.float32)}, "NaN or infinite pixels"),
        ({"images": np.zeros((4, 5, 5), np.float32)}, "wanted a label for each image"),
        ({"alpha": -1.0}, "alpha that is not above 0"),
    ],
)
def test_a_set_that_makes_no_sense_is_refused(tmp_path, changes, words):
    write_distilled(tmp_path / "set.safetensors", DISTILLED._replace(**changes))
    with pytest.raises(InputError, match=words):
        read_distilled(tmp_path / "set.safetensors")


def test_our_name_with_foreign_metadata_is_refused(tmp_path):
    path = tmp_path / "set.safetensors"
    tensors = {n: np.zeros((1,), np.float32) for n in ("images", "labels", "alpha")}
    for metadata in ("{", "{}", '{"class_names": 3}'):
        safetensors.numpy.save_file(tensors, path, metadata={FORMAT: metadata})
        with pytest.raises(InputError, match="cannot be read as a distilled set"):
            read_distilled(path)


def test_checkpoints_come_back_and_old_ones_go(tmp_path):
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    assert checkpoints.latest() is None
    state = (np.arange(3, dtype=np.float32), {"alpha": np.float32(0.5)})
    for step in (5, 10, 15):
        checkpoints.save(step, (state[0] + step, state[1]))
    assert checkpoints.latest() == 15
    assert sorted(p.name for p in checkpoints.folder.iterdir()) == ["step-000010", "step-000015"]
    loaded = checkpoints.load(15, state)
    np.testing.assert_array_equal(loaded[0], [15, 16, 17])
    assert loaded[1]["alpha"] == 0.5
    with pytest.raises(InputError, match=r"step-000015 holds .*wanted"):
        checkpoints.load(15, (np.zeros(4, np.float32), {"alpha": np.float32(0)}))
