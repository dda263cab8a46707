"""Whole files that lie where they do not belong: of another run, method, set, teacher or data."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from test_commands import call, finished  # noqa: F401

from ddpp_jax.configs import DataConfig
from ddpp_jax.data import fit_transform, load_raw
from ddpp_jax.errors import InputError
from ddpp_jax.report.read import read_run
from ddpp_jax.results import read_result
from ddpp_jax.sets import load_distilled, read_distilled, write_distilled
from ddpp_jax.storage import Checkpoints, TeacherStore, read_sealed, write_json

TORN = "is of another run than"


@pytest.fixture
def copy(finished, tmp_path):  # noqa: F811
    """The finished run, whose files are to be exchanged."""
    return Path(shutil.copytree(finished[0] / "run", tmp_path / "run"))


def of_another_seed(path, place):
    """A set as a run of another seed would have left it, in a folder of no run."""
    found = read_distilled(path)
    settings = {**found.origin["settings"], "seed": 1}
    other = found._replace(origin={**found.origin, "settings": settings, "seed": 1})
    write_distilled(place / path.name, other)
    return place / path.name


def test_a_run_as_it_is_belongs_together(copy):
    run = read_run(copy)
    assert len(run.methods) == 2
    assert not list(copy.rglob("*.damaged*"))


def test_a_set_of_another_seed_is_refused(copy, tmp_path):
    other = tmp_path / "other"
    path = copy / "distilled.safetensors"
    shutil.copy(of_another_seed(path, other), path)
    for read in (read_distilled, load_distilled):
        with pytest.raises(InputError, match=rf"{TORN} .*\(seed\)"):
            read(path)
    with pytest.raises(InputError, match=TORN):
        read_run(copy)
    assert read_distilled(other / "distilled.safetensors").origin["seed"] == 1


def test_sets_of_two_methods_are_not_exchanged(copy):
    ddpp, mtt = (copy / part / "distilled.safetensors" for part in ("", "mtt"))
    kept = ddpp.read_bytes()
    shutil.copy(mtt, ddpp)
    with pytest.raises(InputError, match=r"distillation\.threshold"):
        read_distilled(ddpp)
    mtt.write_bytes(kept)
    with pytest.raises(InputError, match=r"distillation\.threshold"):
        read_distilled(mtt)


def test_the_best_set_is_not_the_last(copy):
    shutil.copy(copy / "distilled-best-test.safetensors", copy / "distilled.safetensors")
    with pytest.raises(InputError, match="holds the set 'best-test' of its run"):
        load_distilled(copy)


def test_the_result_of_another_run_is_not_shown(copy):
    path = copy / "result.json"
    values = read_sealed(path)
    values["config"]["seed"] = 1
    write_json(path, values)
    with pytest.raises(InputError, match=rf"result\.json {TORN} .*seed.*makes it again"):
        read_result(path)


@pytest.mark.parametrize("name", ["history/000120", "history/real"])
def test_frames_of_two_methods_are_not_exchanged(copy, name):
    shutil.copy(copy / "mtt" / f"{name}.safetensors", copy / f"{name}.safetensors")
    with pytest.raises(InputError, match="is of another distillation; delete it"):
        read_run(copy)


def test_metrics_of_two_methods_are_not_exchanged(copy):
    shutil.copy(copy / "mtt" / "metrics.jsonl", copy / "metrics.jsonl")
    with pytest.raises(InputError, match="is of another distillation; delete it"):
        read_run(copy)


def test_a_checkpoint_of_another_run_or_step_counts_as_damaged(tmp_path):
    state = {"x": np.zeros(3, np.float32)}
    for place, of in (("a", "1234"), ("b", "5678")):
        kept = Checkpoints(tmp_path / place, of=of)
        for step in (50, 100):
            kept.save(step, state)
    for name in ("step-000100", "step-000100.json"):
        source, place = tmp_path / "b" / name, tmp_path / "a" / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    warnings: list[str] = []
    found = Checkpoints(tmp_path / "a", of="1234").load_latest(state, warnings.append)
    assert found[1] == 50
    assert "is of another run" in warnings[0]
    shutil.copytree(tmp_path / "b" / "step-000050", tmp_path / "b" / "step-000150")
    shutil.copy(tmp_path / "b" / "step-000050.json", tmp_path / "b" / "step-000150.json")
    warnings: list[str] = []
    found = Checkpoints(tmp_path / "b", of="5678").load_latest(state, warnings.append)
    assert found[1] == 100
    assert "holds step 50" in warnings[0]


def test_settings_and_their_copy_must_agree(copy):
    values = read_sealed(copy / "config.json")
    values["config"]["seed"] = 1
    write_json(copy / "config.json", values)
    with pytest.raises(InputError, match="say different things"):
        read_run(copy)


def test_the_same_command_says_what_to_do(finished, copy):  # noqa: F811
    command = json.loads((copy / "progress.jsonl").read_text().splitlines()[0])["command"]
    assert "distill" in command
    shutil.copy(copy / "mtt" / "distilled.safetensors", copy / "distilled.safetensors")
    done = call(copy.parent, "report", "run")
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "the run's command makes it again" in done.stderr


def test_a_teacher_of_another_place_counts_as_damaged(tmp_path):
    trajectory = np.zeros((2, 5), np.float32)
    store = TeacherStore(tmp_path / "a", of="1234")
    other = TeacherStore(tmp_path / "b", of="5678")
    for index in range(2):
        store.write(index, trajectory, {"accuracy": 0.5})
        other.write(index, trajectory + 1, {"accuracy": 0.5})
    assert store.damaged(0) is None
    for name in ("teacher-000", "teacher-000.json"):
        source, place = tmp_path / "b" / name, tmp_path / "a" / name
        shutil.rmtree(place) if place.is_dir() else place.unlink()
        shutil.copytree(source, place) if source.is_dir() else shutil.copy(source, place)
    assert "of other data, settings or another seed" in store.damaged(0)
    assert store.damaged(1) is None
    for name in ("teacher-000", "teacher-001"):
        place = tmp_path / "a" / name
        shutil.rmtree(place)
        shutil.copytree(tmp_path / "b" / "teacher-001", place)
        shutil.copy(tmp_path / "b" / "teacher-001.json", tmp_path / "a" / f"{name}.json")
    assert "holds teacher 1" in TeacherStore(tmp_path / "a").damaged(0)


def test_the_whitening_of_other_data_is_refused(tmp_path):
    few, more = (load_raw(DataConfig(dataset="digits", per_class=n)) for n in (20, 30))
    for raw in (few, more):
        fit_transform(raw, zca=True, cache_dir=tmp_path)
    paths = [tmp_path / f"zca-{raw.fingerprint}.safetensors" for raw in (few, more)]
    shutil.copy(paths[1], paths[0])
    with pytest.raises(InputError, match="of other data"):
        fit_transform(few, zca=True, cache_dir=tmp_path)
