"""Files and folders: written whole, held by one process, checked before they are filled."""

import json

import pytest

from ddpp_jax.errors import InputError
from ddpp_jax.files import (
    Replacement,
    append_row,
    checksums,
    claimed_folder,
    gib,
    read_json,
    read_rows,
    require_space,
)

DEAD = 2**22 + 1
"""More than any process can have as its number."""


def test_a_write_clears_what_a_killed_one_left(tmp_path):
    (tmp_path / f".a.{DEAD}.ddpp-tmp.json").write_text("half")
    (tmp_path / ".a.mine").write_text("not ours")
    with Replacement(tmp_path / "a.json") as temporary:
        temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.mine", "a.json"]


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
        (folder / "deep").mkdir()
        with Replacement(folder / "deep" / "file.json") as temporary:
            temporary.write_text("whole")
        temporary.write_text("left behind by a process that was killed")
        with (
            pytest.raises(InputError, match="another process is working in"),
            claimed_folder(folder, ours, name="config.json"),
        ):
            pass
    with claimed_folder(folder, ours, name="config.json"):
        assert temporary.exists()  # Its process, this one, is alive.
        dead = temporary.with_name(f".file.{DEAD}.ddpp-tmp.json")
        temporary.rename(dead)
    with claimed_folder(folder, ours, name="config.json"):
        assert not dead.exists()
    with (
        pytest.raises(InputError, match=r"config.steps was 5, is 6"),
        claimed_folder(folder, {"config": {"seed": 0, "steps": 6}}, name="config.json"),
    ):
        pass
    (folder / "config.json").write_text("{")
    with (
        pytest.raises(InputError, match=r"config.json is damaged, and without it nobody can tell"),
        claimed_folder(folder, ours, name="config.json"),
    ):
        pass
    with claimed_folder(folder, ours, name="config.json", proven=True):
        assert json.loads((folder / "config.json").read_text()) == ours
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


def test_a_disk_too_small_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(InputError, match=r"200 teachers need 1073741824.00 GiB, but .* has"):
        require_space(tmp_path / "not" / "there", 2**60, what="200 teachers")
    assert not list(tmp_path.iterdir())
    require_space(tmp_path / "not" / "there", 1, what="one byte")


def test_checksums_follow_every_file(tmp_path):
    (tmp_path / "a").write_text("one")
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "b").write_text("two")
    before = checksums(tmp_path)
    assert set(before) == {"a", "deep/b"}
    (tmp_path / "deep" / "b").write_text("twp")
    after = checksums(tmp_path)
    assert after["a"] == before["a"]
    assert after["deep/b"] != before["deep/b"]


def test_sizes_for_people():
    assert gib(1536) == "1.5 KiB"
    assert gib(3 * 2**20) == "3.0 MiB"
    assert gib(13.1 * 2**30) == "13.10 GiB"
