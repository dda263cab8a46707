"""Several distillations in one program: each is what it would be alone."""

import dataclasses
import importlib
import json
import shlex
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from processes import call

from ddpp_jax import distill
from ddpp_jax.configs import sweep_jobs
from ddpp_jax.errors import InputError
from ddpp_jax.progress import Report
from ddpp_jax.sets import read_distilled
from ddpp_jax.storage import checkpoints, read_rows

JOB = dataclasses.replace(
    small.CONFIG, data=dataclasses.replace(small.CONFIG.data, augment="flip,color")
)


def members(folder, text, job=JOB, feed_fn=None):
    name, jobs = sweep_jobs(job, text)
    return {
        f"{name} {value}": distill.Member(
            job=one,
            feed_fn=feed_fn or small.feed_fn(small.network()),
            folder=folder / value,
            origin={"seed": one.seed},
        )
        for value, one in jobs.items()
    }


def sweep(folder, *arguments, **settings):
    swept = members(folder, *arguments, **settings)
    return distill.run_sweep(swept, small.dataset(), small.network(), folder, Report(None))


def alone(folder, member):
    return distill.run(
        member.job, small.dataset(), small.network(), member.feed_fn, folder, Report(None)
    )


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
    for name, member in members(tmp_path / "sweep", text).items():
        expected = alone(tmp_path / name, member)
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
    monkeypatch.setattr(distill.sweep, "CHECKPOINT_EVERY", 2)
    for module in ("run", "sweep"):
        place = importlib.import_module(f"ddpp_jax.distill.{module}")
        monkeypatch.setattr(place, "CHECKPOINT_EVERY", 2)
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
    long = dataclasses.replace(JOB, distillation=small.distillation(steps=15))
    found = sweep(tmp_path, "alpha=0.01,1e30", job=long)
    assert list(found) == ["alpha 0.01"]
    assert "alpha 1e30 is given up, the others go on: the 10 steps" in capsys.readouterr().err
    assert not (tmp_path / "1e30" / "distilled.safetensors").exists()
    assert "the 10 steps" in json.loads((tmp_path / "1e30" / "given-up.json").read_text())["why"]
    place = tmp_path / "0.01" / "distilled.safetensors"
    before = place.stat().st_mtime_ns
    assert list(sweep(tmp_path, "alpha=0.01,1e30", job=long)) == ["alpha 0.01"]
    assert place.stat().st_mtime_ns == before
    assert capsys.readouterr().err == ""


def test_a_sweep_of_which_nothing_is_left_is_an_error(tmp_path):
    long = dataclasses.replace(JOB, distillation=small.distillation(steps=15))
    for _ in range(2):
        with pytest.raises(InputError, match=r"all members of the sweep were given up"):
            sweep(tmp_path, "alpha=1e30,5e29", job=long)


def test_threshold_zero_within_a_program_prunes_nothing():
    network, config = small.network(), small.CONFIG.distillation
    optimizer = distill.make_optimizer(config)
    state = distill.init(jnp.asarray(small.dataset().x_train[:6]), alpha=0.05, optimizer=optimizer)
    start, target = small.trajectories(network)[0, :2]
    labels = jnp.array([0, 0, 1, 1, 2, 2])

    @partial(jax.jit, static_argnums=0)
    def info(config, threshold=None):
        return distill.step(
            jax.random.key(0),
            state,
            labels,
            start,
            target,
            network=network,
            optimizer=optimizer,
            config=config,
            augment_fn=lambda key, images: images,
            threshold=threshold,
        )[1].match

    none = info(dataclasses.replace(config, threshold=None))
    zero = info(config, jnp.zeros(()))
    assert zero.kept_fraction == none.kept_fraction == 1
    assert zero.loss == pytest.approx(float(none.loss), rel=1e-6)
    assert info(config).kept_fraction < 1


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("width=8,16", "sweeps 'width'; wanted one of threshold, seed"),
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
    ],
)
def test_what_cannot_be_swept_is_refused(text, words):
    with pytest.raises(InputError, match=words):
        sweep_jobs(JOB, text)


FLAGS = shlex.split(
    "--augment crop --width 8 --depth 1 --teachers 2 --epochs 4 --student-steps 4 "
    "--max-start-epoch 2 --steps 30 --networks 2 --eval-epochs 20 --sweep threshold=none,0.1"
)


def test_the_command_judges_and_draws_its_members(tmp_path):
    done = call(tmp_path, "distill", *FLAGS, "--out", "run")
    assert done.returncode == 0, done.stderr
    for words in ("2 distillations of 30 steps in one program", "threshold none", "threshold 0.1"):
        assert words in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    assert [row["value"] for row in result["rows"]] == ["none", "0.1"]
    assert result["rows"][0]["kept_fraction"] == 1 > result["rows"][1]["kept_fraction"]
    assert (tmp_path / "run" / "sweep.png").stat().st_size > 10_000
    assert read_distilled(tmp_path / "run" / "threshold-0.1" / "distilled.safetensors")
    again = call(tmp_path, "distill", *FLAGS, "--out", "run")
    assert "is complete; its results" in again.stdout
    assert again.stdout.count("│ threshold") == 2
    member = str(Path("run") / "threshold-0.1")
    judged = call(tmp_path, "evaluate", member)
    assert judged.returncode == 0, judged.stderr
    mean = f"{100 * result['rows'][1]['mean']:.1f} ±"
    assert mean in judged.stdout
