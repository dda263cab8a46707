"""Several distillations in one program: each is what it would be alone."""

import dataclasses
import json
import shlex
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from processes import call

from ddpp_jax.configs import members_of
from ddpp_jax.distill import loop
from ddpp_jax.errors import InputError
from ddpp_jax.methods import HParams, Pair
from ddpp_jax.sets import read_distilled
from ddpp_jax.storage import checkpoints, read_rows

OPERATIONS = ("flip", "color")


def members(folder, text, **changes):
    job = dataclasses.replace(small.CONFIG, distillation=small.distillation(**changes))
    return [
        small.member(folder / one.value, one.job.distillation, one.job.seed, name=one.title)
        for one in members_of(job, text)
    ]


def sweep(folder, text, **changes):
    settings = small.distillation(eval_every=0, **changes)
    method = small.method(settings, operations=OPERATIONS)
    return small.run(folder, members(folder, text, **changes), settings, method=method)


def alone(folder, member):
    settings = small.distillation(eval_every=0)
    method = small.method(settings, operations=OPERATIONS)
    return small.run(folder, [member._replace(folder=folder)], settings, method=method)


SWEEPS = [
    "threshold=none,0.1,0.9",
    "seed=0,3",
    "alpha=0.01,0.1",
    "pixel-rate=1,100",
    "alpha-rate=1e-7,1e-3",
]


@pytest.mark.parametrize("text", SWEEPS)
def test_every_member_has_the_bits_that_it_has_alone(tmp_path, text):
    found = sweep(tmp_path / "sweep", text)
    images = []
    for member in members(tmp_path / "sweep", text):
        name = member.name
        expected = alone(tmp_path / name, member)[name]
        for what in ("images", "labels", "alpha"):
            values = (getattr(o.distilled, what) for o in (found[name], expected))
            np.testing.assert_array_equal(*values)
        rows = (read_rows(place / "metrics.jsonl") for place in (member.folder, tmp_path / name))
        assert next(rows) == next(rows)
        images.append(expected.distilled.images)
    assert all(np.any(other != images[0]) for other in images[1:])


def test_at_once_every_member_is_what_it_is_in_turn_to_rounding(tmp_path, monkeypatch):
    text = SWEEPS[0]
    in_turn = sweep(tmp_path / "in turn", text)
    monkeypatch.setattr(jax, "default_backend", lambda: "cuda")
    at_once = sweep(tmp_path / "at once", text)
    for name, outcome in in_turn.items():
        ours, theirs = outcome.distilled, at_once[name].distilled
        np.testing.assert_allclose(ours.images, theirs.images, rtol=1e-3, atol=1e-4)
        assert ours.alpha == pytest.approx(theirs.alpha, rel=1e-5)


def test_an_interrupted_sweep_ends_with_the_same_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 2)
    whole = sweep(tmp_path / "whole", SWEEPS[0])
    save = checkpoints.Checkpoints.save

    def stop(self, step, state):
        save(self, step, state)
        if step == 4:
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Checkpoints, "save", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(tmp_path / "stopped", SWEEPS[0])
    monkeypatch.setattr(checkpoints.Checkpoints, "save", save)
    rest = sweep(tmp_path / "stopped", SWEEPS[0])
    for name, outcome in whole.items():
        np.testing.assert_array_equal(outcome.distilled.images, rest[name].distilled.images)
        value = name.split()[1]
        files = (tmp_path / part / value / "metrics.jsonl" for part in ("whole", "stopped"))
        assert next(files).read_bytes() == next(files).read_bytes()
    assert not (tmp_path / "stopped" / "checkpoints").exists()


def test_a_member_that_breaks_down_is_left_out_and_the_others_go_on(tmp_path, capsys):
    found = sweep(tmp_path, "alpha=0.01,1e30", steps=15)
    assert list(found) == ["alpha 0.01"]
    assert "alpha 1e30 is given up, the others go on: the 10 steps" in capsys.readouterr().err
    assert not (tmp_path / "1e30" / "distilled.safetensors").exists()
    assert "the 10 steps" in json.loads((tmp_path / "1e30" / "given-up.json").read_text())["why"]
    place = tmp_path / "0.01" / "distilled.safetensors"
    before = place.stat().st_mtime_ns
    assert list(sweep(tmp_path, "alpha=0.01,1e30", steps=15)) == ["alpha 0.01"]
    assert place.stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""


def test_where_nothing_is_left_it_is_an_error(tmp_path):
    for _ in range(2):
        with pytest.raises(InputError, match=r"all distillations were given up"):
            sweep(tmp_path, "alpha=1e30,5e29", steps=15)


def test_a_set_that_was_lost_is_made_again_and_the_others_are_left(tmp_path):
    text = SWEEPS[0]
    whole = sweep(tmp_path, text)
    lost, kept = (tmp_path / value / "distilled.safetensors" for value in ("0.1", "0.9"))
    expected, before = lost.read_bytes(), kept.stat().st_mtime_ns
    lost.unlink()
    again = sweep(tmp_path, text)
    assert list(again) == list(whole)
    assert lost.read_bytes() == expected
    assert kept.stat().st_mtime_ns == before


def test_threshold_zero_within_a_program_prunes_nothing():
    method = small.method(operations=())
    state = method.init(jax.random.key(0), small.start())
    start, target = small.trajectories(small.network())[0, :2]
    pair = Pair(start, target, jnp.int32(0), jnp.int32(0))

    @jax.jit
    def metrics(threshold):
        hparams = HParams(threshold, 1.0, 1e-7)
        return method.step(jax.random.key(0), state, pair, hparams)[1].metrics

    assert metrics(0.0)["kept_fraction"] == 1 > metrics(0.1)["kept_fraction"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("width=8,16", "sweeps 'width'; wanted one of seed, threshold"),
        ("threshold", "wants two or more different values"),
        ("threshold=0.1", "wants two or more different values"),
        ("seed=1,01", "wants two or more different values"),
        ("threshold=0.1,0.10", "wants two or more different values"),
        ("seed=1,1", "wants two or more different values"),
        ("seed=1,", "wants two or more different values"),
        ("seed=1,b", "has seed 'b'; wanted a whole number"),
        ("threshold=0.1,some", "has threshold 'some'; wanted a number or none"),
        ("threshold=0.1,2", "--threshold is 2; wanted a ratio"),
        ("alpha=0.1,none", "has alpha 'none'; wanted a number"),
        ("mask=ratio,most", "has mask 'most'; wanted one of ratio, ratio-magnitude, signs"),
        ("prune-share=0.1,1", "--prune-share is 1; wanted a share above 0 and below 1, or none"),
    ],
)
def test_what_cannot_be_swept_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        members_of(small.CONFIG, text)


FLAGS = shlex.split(
    "--augment crop --width 8 --depth 1 --teachers 2 --epochs 4 --student-steps 4 "
    "--max-start-epoch 2 --steps 30 --networks 2 --eval-epochs 20 --sweep threshold=none,0.1"
)


def test_the_command_evaluates_and_draws_its_members(tmp_path):
    done = call(tmp_path, "distill", *FLAGS, "--out", "run")
    assert done.returncode == 0, done.stderr
    for words in ("2 distillations side by side", "threshold none", "threshold 0.1"):
        assert words in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [row["value"] for row in result["rows"]] == ["none", "0.1"]
    means = [row["means"]["kept_fraction"] for row in result["rows"]]
    assert means[0] == 1 > means[1]
    assert (tmp_path / "run" / "sweep.png").stat().st_size > 10_000
    assert read_distilled(tmp_path / "run" / "threshold-0.1" / "distilled.safetensors")
    again = call(tmp_path, "distill", *FLAGS, "--out", "run")
    assert "is complete; its results" in again.stdout
    assert again.stdout.count("│ threshold") == 2
    member = str(Path("run") / "threshold-0.1")
    evaluated = call(tmp_path, "evaluate", member)
    assert evaluated.returncode == 0, evaluated.stderr
    mean = f"{100 * result['rows'][1]['mean']:.1f} ±"
    assert mean in evaluated.stdout
