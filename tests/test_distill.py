"""Distillation: its steps against golden numbers, its draws, its run."""

import dataclasses
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import torch_layout
from test_goldens import CASES, close

from ddpp_jax import distill, flatten_params
from ddpp_jax.configs import DistillConfig
from ddpp_jax.errors import InputError
from ddpp_jax.models import make_network
from ddpp_jax.report import Report
from ddpp_jax.results import read_distilled, read_rows
from ddpp_jax.storage import Checkpoints


def as_it_is(key, images):
    """No augmentation."""
    return images


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
def test_three_distillation_steps(name):
    case = CASES[name]()
    vector, unflatten = flatten_params(case.params("start"))
    network = make_network(case.model, (16, 16, 3))._replace(unflatten=unflatten)
    assert vector.size == network.num_params
    config = DistillConfig(pixel_rate=10.0, alpha_rate=1e-4, momentum=0.5)
    optimizer = distill.make_optimizer(config)
    state = distill.init(case.images, alpha=case.lr, optimizer=optimizer)
    start, target = vector, flatten_params(case.params("target"))[0]
    draws = distill.Draws(
        teacher=jnp.array(0),
        start_epoch=jnp.array(0),
        batches=case.batches,
        augment_keys=jax.random.split(jax.random.key(0), len(case.batches)),
    )

    @jax.jit
    def step(state):
        gradient, info = jax.grad(distill.objective, has_aux=True)(
            state.distilled,
            case.labels,
            start,
            target,
            draws,
            network=network,
            threshold=0.1,
            augment_fn=as_it_is,
        )
        return distill.update(state, gradient, optimizer=optimizer), info

    losses = []
    for index in range(3):
        state, info = step(state)
        losses.append(float(info.loss))
        if index == 0:
            kept = case.golden["kept_0.1"]
            assert info.kept_fraction == pytest.approx(kept.mean(), rel=1e-6)
            check_shares(info, case, kept)
    close(losses, case.golden["distill_losses"], 1e-8)
    close(state.distilled.images, torch_layout.images(case.golden["distilled_images"]), 1e-8)
    close(state.distilled.alpha, case.golden["distilled_lr"], 1e-8)


def check_shares(info, case, kept):
    """What is reported of the first step, against NumPy on the golden vectors."""
    student, target, start = (case.golden[n] for n in ("student", "target", "start"))
    numerator, denominator = (student - target) ** 2, (start - target) ** 2
    flips = (np.sign(student) * np.sign(target) < 0) & ~kept
    assert info.sign_flips == pytest.approx(flips.sum() / (~kept).sum(), rel=1e-5)
    assert info.numerator_removed == pytest.approx(numerator[~kept].sum() / numerator.sum())
    assert info.denominator_removed == pytest.approx(denominator[~kept].sum() / denominator.sum())
    by_layer = jax.tree.map(lambda leaf: leaf.mean(), case.params("kept_0.1"))
    np.testing.assert_allclose(info.kept_by_layer, jax.tree.leaves(by_layer), rtol=1e-6)


def test_batches_are_permutations_used_up_before_the_next():
    config = small.distillation(student_steps=7, student_batch=3)
    draws = distill.draw(jax.random.key(0), num_teachers=5, num_images=12, config=config)
    assert draws.batches.shape == (7, 3)
    assert sorted(draws.batches[:4].ravel().tolist()) == list(range(12))
    assert len(set(draws.batches[4:].ravel().tolist())) == 9
    assert draws.batches[:4].ravel().tolist() != list(range(12))


def test_every_student_step_has_an_augmentation_key_of_its_own():
    config = small.distillation(student_steps=9)
    draws = distill.draw(jax.random.key(0), num_teachers=1, num_images=6, config=config)
    assert len({bytes(np.asarray(k)) for k in jax.random.key_data(draws.augment_keys)}) == 9


def test_every_step_draws_anew(tmp_path):
    run(tmp_path)
    rows = read_rows(tmp_path / "metrics.jsonl")[1:]
    assert len({(row["teacher"], row["start_epoch"]) for row in rows}) > 2


def test_sign_flips_need_two_signs():
    network = small.network()
    target = jnp.ones(network.num_params).at[0].set(-1.0).at[1].set(0.0).at[2].set(-1.0)
    start = jnp.ones(network.num_params).at[1].set(-1.0).at[2].set(0.0)
    draws = distill.draw(
        jax.random.key(0),
        num_teachers=1,
        num_images=3,
        config=small.distillation(student_batch=None),
    )
    images = jnp.asarray(small.dataset().x_train[:3])
    _, info = distill.objective(
        distill.Distilled(images, jnp.array(0.0)),
        jnp.arange(3),
        start,
        target,
        draws,
        network=network,
        threshold=0.1,
        augment_fn=as_it_is,
    )
    # The student stays at the start: one pair of signs differs, two have a zero on one side.
    assert info.kept_fraction == pytest.approx(1 - 3 / network.num_params)
    assert info.sign_flips == pytest.approx(1 / 3)


def test_a_diverged_run_stops_and_keeps_nothing_of_it(tmp_path, monkeypatch):
    monkeypatch.setattr(distill, "CHECKPOINT_EVERY", 1)
    network = small.network()
    config = dataclasses.replace(small.CONFIG, distillation=small.distillation(pixel_rate=1e38))
    arguments = (config, small.dataset(), network, small.trajectories(network), tmp_path)
    with pytest.raises(InputError, match=r"step \d diverged: loss .*lower --pixel-rate"):
        distill.run(*arguments, Report(None))
    assert not (tmp_path / "distilled.safetensors").exists()
    for path in (tmp_path / "checkpoints").glob("step-*"):
        state = distill.init(
            jnp.asarray(small.dataset().x_train[:6]),
            alpha=0.1,
            optimizer=distill.make_optimizer(config.distillation),
        )
        kept = Checkpoints(tmp_path / "checkpoints").load(int(path.name[5:]), state)
        assert np.isfinite(kept.distilled.images).all()


def test_start_epochs_and_teachers_cover_their_range():
    config = small.distillation(max_start_epoch=3)
    drawn = [
        distill.draw(jax.random.key(seed), num_teachers=4, num_images=6, config=config)
        for seed in range(60)
    ]
    assert {int(draws.start_epoch) for draws in drawn} == {0, 1, 2}
    assert {int(draws.teacher) for draws in drawn} == {0, 1, 2, 3}


def test_twenty_steps_are_traced_once():
    network, config = small.network(), small.CONFIG.distillation
    trajectories, data = small.trajectories(network), small.dataset()
    optimizer = distill.make_optimizer(config)
    traces = []

    def counted(key, images):
        traces.append(images.shape)
        return images

    step = jax.jit(
        partial(
            distill.step,
            network=network,
            optimizer=optimizer,
            config=config,
            augment_fn=counted,
        )
    )
    labels = jnp.array([0, 0, 1, 1, 2, 2])
    state = distill.init(jnp.asarray(data.x_train[:6]), alpha=0.05, optimizer=optimizer)
    state, _ = step(jax.random.key(0), state, labels, trajectories)
    first = len(traces)
    for index in range(1, 20):
        state, info = step(jax.random.key(index), state, labels, trajectories)
    assert len(traces) == first
    assert np.isfinite(info.loss)


def run(folder, threshold=0.1, seed=0, **options):
    network = small.network()
    config = dataclasses.replace(
        small.CONFIG, distillation=small.distillation(threshold=threshold), seed=seed
    )
    return distill.run(
        config,
        small.dataset(),
        network,
        small.trajectories(network),
        folder,
        Report(None),
        **options,
    )


def test_same_seed_same_bits_another_seed_others(tmp_path):
    first, second, other = (
        run(tmp_path / name, seed=seed) for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    np.testing.assert_array_equal(first.images, second.images)
    assert first.alpha == second.alpha
    assert np.any(first.images != other.images)


@pytest.mark.parametrize(("every", "rows_before_the_stop"), [(2, 4), (50, 1)])
def test_gone_on_after_a_stop_it_ends_with_the_same_bits(
    tmp_path, monkeypatch, every, rows_before_the_stop
):
    monkeypatch.setattr(distill, "CHECKPOINT_EVERY", every)
    whole = run(tmp_path / "whole")

    def stop(images, labels, alpha):
        if len(read_rows(tmp_path / "cut" / "metrics.jsonl")) > rows_before_the_stop:
            raise KeyboardInterrupt
        return 0.5

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", evaluate_fn=stop)
    assert not (tmp_path / "cut" / "distilled.safetensors").exists()
    resumed = run(tmp_path / "cut")
    np.testing.assert_array_equal(whole.images, resumed.images)
    assert whole.alpha == resumed.alpha
    steps = [row["step"] for row in read_rows(tmp_path / "cut" / "metrics.jsonl")]
    assert steps == list(range(7))


def test_files_hold_what_the_run_returned(tmp_path):
    seen = []

    def evaluate_fn(images, labels, alpha):
        seen.append(np.asarray(images))
        return 0.25

    distilled = run(tmp_path, evaluate_fn=evaluate_fn)
    stored = read_distilled(tmp_path / "distilled.safetensors")
    np.testing.assert_array_equal(stored.images, distilled.images)
    np.testing.assert_array_equal(seen[-1], distilled.images)
    assert stored.class_names == ("rows", "columns", "noise")
    assert stored.labels.tolist() == [0, 0, 1, 1, 2, 2]
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "accuracy" in row] == [0, 3, 6]
    assert set(rows[1]) == {*distill.Info._fields, "step"}
    assert set(rows[1]["kept_by_layer"]) == set(small.network().names)


def test_without_pruning_all_is_kept(tmp_path):
    run(tmp_path, threshold=None)
    rows = read_rows(tmp_path / "metrics.jsonl")[1:]
    assert all(row["kept_fraction"] == 1 and row["sign_flips"] == 0 for row in rows)
    assert all(row["numerator_removed"] == row["denominator_removed"] == 0 for row in rows)


def test_what_the_dataset_cannot_give_is_refused():
    data = small.dataset()
    with pytest.raises(InputError, match="--student-batch 4 does not divide the 6"):
        distill.check(small.distillation(student_batch=4), data)
    with pytest.raises(InputError, match="class columns has 13 training images"):
        distill.check(small.distillation(ipc=14), data)
