"""Where files meet readers: damage, leftovers, ranges, and runs that are resumed."""

import contextlib
import io
import os
import tokenize
import zipfile

import jax
import numpy as np
import pytest

from ddpp_jax.cli.report import follow
from ddpp_jax.cli.transforms import require_no_contradiction
from ddpp_jax.configs import DataConfig, EvaluateJob
from ddpp_jax.data.arrays import read_npz
from ddpp_jax.data.carried import carried_transform
from ddpp_jax.data.depth import Scale
from ddpp_jax.data.given import GivenSet, read_given
from ddpp_jax.data.torch_files import _texts, images_file
from ddpp_jax.errors import InputError
from ddpp_jax.progress import PROGRESS, Report, RunLog, read_progress
from ddpp_jax.storage import (
    Checkpoints,
    append_row,
    check_unheld,
    claimed_folder,
    read_sealed,
    write_json,
)


def test_a_damaged_header_within_an_npz_is_one_line(tmp_path):
    whole = io.BytesIO()
    np.save(whole, np.zeros((2, 4, 4, 1), np.uint8))
    path = tmp_path / "bad.npz"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("images.npy", whole.getvalue().replace(b"}", b" ", 1))
    with pytest.raises(InputError, match=r"bad\.npz: images cannot be read") as caught:
        read_npz(path)
    assert isinstance(caught.value.__cause__, (tokenize.TokenError, SyntaxError, ValueError))


def test_every_bit_of_a_header_may_flip(tmp_path):
    whole = io.BytesIO()
    np.savez(whole, images=np.zeros((1, 2, 2, 1), np.uint8))
    data, path = whole.getvalue(), tmp_path / "flipped.npz"
    chance = np.random.default_rng(0)
    for place in chance.integers(0, 8 * 160, 200):
        harmed = bytearray(data)
        harmed[place // 8] ^= 1 << (place % 8)
        path.write_bytes(harmed)
        with contextlib.suppress(InputError):  # And nothing else.
            read_npz(path)


def test_the_first_checkpoint_of_a_resumed_process_is_brought_to_the_disk(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr("ddpp_jax.storage.trees.sync_tree", lambda path: synced.append(path.name))
    state = {"x": np.zeros(3, np.float32)}
    first = Checkpoints(tmp_path)
    for step in (50, 100):
        first.save(step, state)
    second = Checkpoints(tmp_path)
    assert second.load_latest(state, print)[1] == 100
    for step in (150, 200):
        second.save(step, state)
    assert synced == ["step-000050", "step-000150"]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == [
        "step-000150",
        "step-000200",
    ]


def test_the_rows_of_a_process_follow_those_of_a_log_that_lost_a_line_end(tmp_path):
    log = RunLog(tmp_path, "first")
    log.begin("distil", 3, "step", 0)
    log.close(None)
    path = tmp_path / PROGRESS
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0].replace(b"\n", b"x") + b"".join(lines[1:]))
    RunLog(tmp_path, "second").close(None)
    rows = read_progress(path, warn_fn=lambda _: None)
    assert [row["command"] for row in rows if row["event"] == "start"] == ["second"]
    path.write_bytes(lines[2])  # The first two lines are gone.
    RunLog(tmp_path, "third").close(None)
    rows = read_progress(path, warn_fn=lambda _: None)
    assert [row["event"] for row in rows] == ["finish", "start", "finish"]


def test_a_named_pipe_is_no_lock(tmp_path):
    os.mkfifo(tmp_path / ".lock")
    write_json(tmp_path / "config.json", {"a": 1})
    with pytest.raises(InputError, match="named pipe"):
        follow(tmp_path, Report(None))
    with pytest.raises(InputError, match="named pipe"):
        check_unheld(tmp_path)
    with (
        pytest.raises(InputError, match="named pipe"),
        claimed_folder(tmp_path, {"a": 1}, name="config.json"),
    ):
        raise AssertionError


def test_leftovers_of_any_name_are_left_alone(tmp_path):
    odd = tmp_path / f".x.{10**20}.ddpp-tmp"
    odd.write_text("")
    folder = tmp_path / ".x.999999999.ddpp-tmp"
    folder.mkdir()
    with claimed_folder(tmp_path, {"a": 1}, name="config.json", proven=True):
        pass
    assert odd.exists()
    assert folder.exists()


def test_what_cannot_be_read_back_is_not_written(tmp_path):
    write_json(tmp_path / "keys.json", {"a": {10: 1, 9: 2}})
    assert read_sealed(tmp_path / "keys.json") == {"a": {"10": 1, "9": 2}}
    for values in ({"a": 2**64}, {"a": float("nan")}):
        with pytest.raises(ValueError, match=r".+"):
            write_json(tmp_path / "values.json", values)
    assert not (tmp_path / "values.json").exists()


@pytest.mark.parametrize("normalised", [False, True])
def test_a_file_that_is_normalised_contradicts_a_flag_that_says_it_is_not(tmp_path, normalised):
    found = GivenSet(
        np.zeros((2, 4, 4, 1), np.float32), np.arange(2, dtype=np.int32), 0.1, None, True
    )
    job = EvaluateJob(normalised=normalised)
    if normalised:
        require_no_contradiction(job, tmp_path, found, {"normalised"})
    else:
        with pytest.raises(InputError, match="--no-normalised says otherwise"):
            require_no_contradiction(job, tmp_path, found, {"normalised"})


def test_eight_bits_of_a_file_share_the_range_of_the_data(tmp_path):
    images = np.full((2, 4, 4, 1), 100, np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.arange(2))
    scale = Scale("8-bit", 0.0, 200.0)
    found = read_given(tmp_path / "set.npz", DataConfig(), normalised=False, scale=scale)
    np.testing.assert_allclose(found.images, 0.5)
    found = read_given(tmp_path / "set.npz", DataConfig(), normalised=False)
    assert found.images.dtype == np.uint8


@pytest.mark.parametrize("text", ["0,1e39", "-1e308,1e308", "0,1e-40", "1,0", "0", "a,b", "nan,1"])
def test_a_range_that_float32_cannot_hold_is_refused(text):
    with pytest.raises(InputError, match="--range is"):
        DataConfig(range=text)


def test_a_deviation_of_nothing_is_no_transform():
    arrays = {"mean": np.zeros(1, np.float32), "std": np.full(1, 1e-44, np.float32)}
    with pytest.raises(InputError, match="std holds"):
        carried_transform(arrays, (4, 4, 1), "a set")


@pytest.mark.parametrize("value", [[["a"], ["b", "c"]], [1, 2], 3.0, None])
def test_class_names_of_a_file_of_pytorch_are_texts(value):
    with pytest.raises(InputError, match="class_names is no text"):
        _texts(value, "set.pt: class_names")
    assert _texts(["a", "b"], "set.pt: class_names").tolist() == ["a", "b"]


def test_the_latest_images_of_a_folder_keep_the_name_that_they_have(tmp_path):
    for name in ("images_007.pt", "images_12.pt", "images_0100.pt"):
        (tmp_path / name).write_bytes(b"")
    assert images_file(tmp_path) == tmp_path / "images_0100.pt"


def test_rows_are_told_apart_by_their_numbers(tmp_path):
    with (tmp_path / PROGRESS).open("w") as file:
        append_row(file, {"event": "finish", "row": 7, "seconds": 1.0})
    RunLog(tmp_path, None).close(None)
    rows = read_progress(tmp_path / PROGRESS, warn_fn=lambda _: None)
    assert [row["row"] for row in rows] == [7, 8, 9]
    assert rows[1]["device"] == jax.devices()[0].device_kind
