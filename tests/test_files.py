"""Files and folders: written whole, held by one process, checked before they are filled."""

import json
import os
from pathlib import Path

import pytest

from ddpp_jax.errors import InputError
from ddpp_jax.storage import (
    Replacement,
    append_row,
    check_claim,
    claimed_folder,
    gib,
    read_claim,
    read_json,
    read_rows,
    read_sealed,
    require_space,
    write_json,
    write_rows,
)
from ddpp_jax.storage.files import HOST
from ddpp_jax.storage.trees import checksums

DEAD = 2**22 + 1
"""More than any process can have as its number."""


def test_a_write_clears_what_a_killed_one_left(tmp_path):
    (tmp_path / f".a.{DEAD}@{HOST}.ddpp-tmp.json").write_text("half")
    (tmp_path / ".a.mine").write_text("not ours")
    with Replacement(tmp_path / "a.json") as temporary:
        temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".a.mine", "a.json"]


def test_what_another_machine_writes_is_left_for_a_day(tmp_path):
    """Nobody here can tell whether its process lives, whatever its number is."""
    fresh, old = (tmp_path / f".a.{n}@elsewhere.ddpp-tmp.json" for n in (DEAD, DEAD + 1))
    for path in (fresh, old):
        path.write_text("half")
    os.utime(old, (0, 0))
    with Replacement(tmp_path / "a.json") as temporary:
        temporary.write_text("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [fresh.name, "a.json"]


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
        assert read_sealed(folder / "config.json") == ours
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
        dead = temporary.with_name(f".file.{DEAD}@{HOST}.ddpp-tmp.json")
        temporary.rename(dead)
    with claimed_folder(folder, ours, name="config.json"):
        assert not dead.exists()
    with (
        pytest.raises(InputError, match=r"config.steps was 5, is 6"),
        claimed_folder(folder, {"config": {"seed": 0, "steps": 6}}, name="config.json"),
    ):
        pass
    for name in ("config.json", ".config.json"):
        (folder / name).write_text("{")
    with (
        pytest.raises(InputError, match=r"config.json is damaged, and without it nobody can tell"),
        claimed_folder(folder, ours, name="config.json"),
    ):
        pass
    with claimed_folder(folder, ours, name="config.json", proven=True):
        assert read_sealed(folder / "config.json") == ours
    (folder / "config.json").write_text("{")
    with pytest.raises(InputError, match="is damaged"):
        read_json(folder / "config.json")


CLAIMS = {
    "a flipped bit": lambda path: path.write_bytes(path.read_bytes().replace(b"5", b"7", 1)),
    "no JSON": lambda path: path.write_bytes(b"\xff{"),
    "another kind": lambda path: path.write_text("[]"),
    "nothing": lambda path: path.write_text(""),
    "deleted": lambda path: path.unlink(),
}


@pytest.mark.parametrize("harm", ["a flipped bit", "no JSON", "another kind", "nothing", "deleted"])
@pytest.mark.parametrize("name", ["config.json", ".config.json"])
def test_damage_to_one_of_the_two_claims_loses_nothing(tmp_path, capsys, name, harm):
    ours = {"config": {"seed": 0, "steps": 5}}
    with claimed_folder(tmp_path / "run", ours, name="config.json"):
        (tmp_path / "run" / "work").write_text("hours")
    path = tmp_path / "run" / name
    before = path.read_bytes()
    CLAIMS[harm](path)
    told: list[str] = []
    assert read_claim(tmp_path / "run", name="config.json", warn_fn=told.append) == ours
    # Nobody else can take the folder, whichever of the two is damaged.
    with (
        pytest.raises(InputError, match=r"holds something else \(config.steps was 5, is 6"),
        claimed_folder(tmp_path / "run", {"config": {"seed": 0, "steps": 6}}, name="config.json"),
    ):
        pass
    with claimed_folder(tmp_path / "run", ours, name="config.json"):
        assert path.read_bytes() == before
    shown = capsys.readouterr().err
    of_copy = name == "config.json"
    assert len(told) == of_copy
    assert shown.count("is restored from") == of_copy


def test_both_claims_damaged_are_refused_and_kept(tmp_path):
    ours = {"config": {"seed": 0}}
    with claimed_folder(tmp_path / "run", ours, name="config.json"):
        pass
    for name in ("config.json", ".config.json"):
        (tmp_path / "run" / name).write_text("{")
    with pytest.raises(InputError, match=r"config.json is damaged.*choose another folder"):
        check_claim(tmp_path / "run", ours, name="config.json")
    with pytest.raises(InputError, match=r"config.json is damaged.*start the command"):
        read_claim(tmp_path / "run", name="config.json")
    assert (tmp_path / "run" / "config.json").read_text() == "{"


def test_a_claim_of_an_earlier_version_is_sealed(tmp_path, capsys):
    """Those have no digest, and no copy."""
    ours = {"config": {"seed": 0}}
    (tmp_path / "config.json").write_text(json.dumps(ours))
    assert check_claim(tmp_path, ours, name="config.json")
    with pytest.raises(InputError, match=r"config.seed was 0, is 1"):
        check_claim(tmp_path, {"config": {"seed": 1}}, name="config.json")
    with pytest.raises(InputError, match="has no digest; start the command"):
        read_claim(tmp_path, name="config.json")
    with claimed_folder(tmp_path, ours, name="config.json"):
        assert read_claim(tmp_path, name="config.json") == ours
    assert capsys.readouterr().err == ""


BAD_JSON = [
    (b"\xff\xfe{}", "can't decode byte"),
    (b"[1, 2]", "holds a list, wanted an object"),
    (b"3", "holds a int, wanted an object"),
    (b'{"a": NaN}', "NaN is no number"),
    (b'{"a": -Infinity}', "-Infinity is no number"),
    (b'{"a": 1e999}', "too large"),
    (b'{"a": ' + b"9" * 5000 + b"}", "limit"),
    (b'{"a": 99999999999999999999}', "too large"),
    (b'{"a": 1, "a": 2}', "twice"),
    (b'{"a": ' * 100 + b"1" + b"}" * 100, "deeper than 40 levels"),
    (b"[" * 100_000 + b"]" * 100_000, "deeper than 40 levels"),
    (b"", "Expecting value"),
    (b'{"a": 1}', "has no digest"),
    (b'{"a": 1, "digest": "0"}', "its digest is not that of what it holds"),
    (b'{"a": 1, "digest": [1]}', "its digest is not that of what it holds"),
]


@pytest.mark.parametrize(("data", "words"), BAD_JSON)
def test_whatever_is_no_sealed_json_is_one_line(tmp_path, data, words):
    (tmp_path / "a.json").write_bytes(data)
    with pytest.raises(InputError, match=words) as caught:
        read_sealed(tmp_path / "a.json", remedy="make it anew")
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'} is damaged")
    assert str(caught.value).endswith("; make it anew")
    assert len(str(caught.value).splitlines()) == 1


def test_only_plain_files_are_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "folder.json").mkdir()
    for name, words in (("pipe", "a named pipe"), ("folder", "a folder")):
        with pytest.raises(InputError, match=words):
            read_sealed(tmp_path / f"{name}.json")
        with pytest.raises(InputError, match=words):
            read_rows(tmp_path / f"{name}.json")


def test_what_is_sealed_is_what_is_read(tmp_path):
    values = {"b": [1, 2.5, None, True, "ä\udc80"], "a": {"deep": {"er": -0.0}}, "digest": "old"}
    write_json(tmp_path / "a.json", values)
    expected = {name: value for name, value in values.items() if name != "digest"}
    assert read_sealed(tmp_path / "a.json") == read_json(tmp_path / "a.json") == expected
    (tmp_path / "theirs.json").write_text('{"low": 0.5}')
    assert read_json(tmp_path / "theirs.json") == {"low": 0.5}


def test_each_damaged_row_is_told_and_the_others_are_kept(tmp_path):
    path = tmp_path / "rows.jsonl"
    write_rows(path, [{"step": number, "value": number / 7} for number in range(6)])
    lines = path.read_bytes().splitlines(keepends=True)
    lines[1] = lines[1].replace(b"0.1", b"0.2", 1)
    lines[2] = b"\xff\n"
    lines[4] = b'{"step": 4}\n'
    path.write_bytes(b"".join(lines))
    told: dict[int, str] = {}
    rows = read_rows(path, told.__setitem__)
    assert [row["step"] for row in rows] == [0, 3, 5]
    assert list(told) == [2, 3, 5]
    assert told[2] == "its checksum is not that of what it holds"
    assert told[5] == "it has no crc"


def test_a_file_and_its_name_are_brought_to_the_disk(tmp_path, monkeypatch):
    synced = []
    real = os.fsync

    def fsync(descriptor):
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink())
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    write_json(tmp_path / "a.json", {"a": 1})
    assert [place.name for place in synced] == [
        f".a.{os.getpid()}@{HOST}.ddpp-tmp.json",
        tmp_path.name,
    ]


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
