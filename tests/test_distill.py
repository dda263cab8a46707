"""Distillation: its steps against golden numbers, its draws, its run."""

import dataclasses
import importlib
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
from ddpp_jax.methods import Draws, draw, draw_start
from ddpp_jax.networks import make_network
from ddpp_jax.progress import Report
from ddpp_jax.sets import iterate_path, read_distilled
from ddpp_jax.storage import OnDevice, Plan, Streamed, TeacherStore, feed, read_rows

run_module = importlib.import_module("ddpp_jax.distill.run")


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
    draws = Draws(
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
        state, held = distill.update(state, gradient, optimizer=optimizer)
        return state, (info, held)

    losses = []
    for index in range(3):
        state, (info, held) = step(state)
        assert not held
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
    draws = draw(jax.random.key(0), num_images=12, config=config)
    assert draws.batches.shape == (7, 3)
    assert sorted(draws.batches[:4].ravel().tolist()) == list(range(12))
    assert len(set(draws.batches[4:].ravel().tolist())) == 9
    assert draws.batches[:4].ravel().tolist() != list(range(12))


def test_every_student_step_has_an_augmentation_key_of_its_own():
    config = small.distillation(student_steps=9)
    draws = draw(jax.random.key(0), num_images=6, config=config)
    assert len({bytes(np.asarray(k)) for k in jax.random.key_data(draws.augment_keys)}) == 9


def test_every_step_draws_anew(tmp_path):
    run(tmp_path)
    rows = read_rows(tmp_path / "metrics.jsonl")[1:]
    assert len({(row["teacher"], row["start_epoch"]) for row in rows}) > 2


def test_sign_flips_need_two_signs():
    network = small.network()
    target = jnp.ones(network.num_params).at[0].set(-1.0).at[1].set(0.0).at[2].set(-1.0)
    start = jnp.ones(network.num_params).at[1].set(-1.0).at[2].set(0.0)
    draws = draw(jax.random.key(0), num_images=3, config=small.distillation(student_batch=None))
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


def one_step(start, *, images=None, **changes):
    """The state before and after a step from these parameters, and its Info."""
    network, config = small.network(), small.distillation(**changes)
    optimizer = distill.make_optimizer(config)
    if images is None:
        images = small.dataset().x_train[:6]
    before = distill.init(jnp.asarray(images), alpha=0.05, optimizer=optimizer)
    after, info = jax.jit(
        partial(
            distill.step, network=network, optimizer=optimizer, config=config, augment_fn=as_it_is
        )
    )(
        jax.random.key(0),
        before,
        jnp.array([0, 0, 1, 1, 2, 2]),
        start,
        small.trajectories(network)[0, 1],
    )
    return before, after, info


@pytest.mark.parametrize("trouble", ["teacher", "pixels"])
def test_what_is_not_finite_never_reaches_the_pixels(trouble):
    start, changes = small.trajectories(small.network())[0, 0], {}
    if trouble == "teacher":
        start = start.at[3].set(jnp.nan)
    else:
        changes["images"] = small.dataset().x_train[:6] * np.float32(1e30)
    before, after, info = one_step(start, **changes)
    assert bool(info.skipped)
    jax.tree.map(np.testing.assert_array_equal, after, before)


def test_a_finite_step_is_not_skipped():
    before, after, info = one_step(small.trajectories(small.network())[0, 0])
    assert not bool(info.skipped)
    assert np.any(np.asarray(after.distilled.images) != np.asarray(before.distilled.images))


def test_alpha_stays_above_zero():
    start = small.trajectories(small.network())[0, 0]
    for sign in (1, -1):  # One of the two would bring it below zero.
        optimizer = distill.make_optimizer(small.distillation(alpha_rate=1.0))
        state = distill.init(jnp.zeros((1, 4, 4, 1)), alpha=0.1, optimizer=optimizer)
        gradient = distill.Distilled(jnp.zeros((1, 4, 4, 1)), jnp.array(sign * 5.0))
        after, held = distill.update(state, gradient, optimizer=optimizer)
        assert after.distilled.alpha == pytest.approx(0.05 if sign > 0 else 5.1)
        assert bool(held) == (sign > 0)
    optimizer = distill.make_optimizer(small.distillation(alpha_rate=1.0, momentum=0.9))
    state = distill.init(jnp.zeros((1, 4, 4, 1)), alpha=0.1, optimizer=optimizer)
    for sign in [1] + 300 * [0]:
        gradient = distill.Distilled(jnp.zeros((1, 4, 4, 1)), jnp.array(sign * 1e6))
        state, held = distill.update(state, gradient, optimizer=optimizer)
    assert state.distilled.alpha >= 1e-8
    _, after, info = one_step(start, alpha_rate=1e6)
    assert after.distilled.alpha > 0
    assert bool(info.alpha_held) == (after.distilled.alpha == 0.025)


def test_steps_that_are_never_finite_stop_the_run(tmp_path, capsys):
    """Teachers that turn to NaN at epoch 1: steps from epoch 0 are good until one is bad."""
    network = small.network()
    broken = small.trajectories(network).at[:, 2].set(jnp.nan)
    config = dataclasses.replace(small.CONFIG, distillation=small.distillation(steps=200))
    with pytest.raises(InputError, match=r"the 10 steps up to \d+ were all skipped.*last good"):
        distill.run(
            config,
            small.dataset(),
            network,
            partial(OnDevice, jnp.full_like(broken, jnp.nan)),
            tmp_path / "all",
            Report(None),
        )
    assert not (tmp_path / "all" / "distilled.safetensors").exists()
    rows = read_rows(tmp_path / "all" / "metrics.jsonl")
    assert all(row["skipped"] and row["loss"] is None for row in rows[1:])
    capsys.readouterr()
    config = dataclasses.replace(small.CONFIG, distillation=small.distillation(steps=12))
    outcome = distill.run(
        config, small.dataset(), network, partial(OnDevice, broken), tmp_path / "some", Report(None)
    )
    drawn = distill.plan(config).epochs
    assert outcome.skipped == np.count_nonzero(drawn == 1) > 0
    assert np.isfinite(outcome.distilled.images).all()
    assert capsys.readouterr().err.count("is skipped: its loss or gradient is not finite") == 1


def test_a_low_kept_fraction_is_warned_of(tmp_path, capsys):
    outcome = run(tmp_path, threshold=1.0)
    rows = read_rows(tmp_path / "metrics.jsonl")[1:]
    low = [row for row in rows if row["kept_fraction"] < distill.LEAST_KEPT]
    assert outcome.few_kept == len(low) > 0
    shown = capsys.readouterr().err
    assert shown.count("pruning too many") == 1
    assert f"step {low[0]['step']} keeps" in shown


def test_start_epochs_and_teachers_cover_their_range():
    config = small.distillation(max_start_epoch=3)
    drawn = [draw_start(jax.random.key(seed), num_teachers=4, config=config) for seed in range(60)]
    assert {int(start.epoch) for start in drawn} == {0, 1, 2}
    assert {int(start.teacher) for start in drawn} == {0, 1, 2, 3}


def test_the_plan_is_what_each_step_would_draw():
    whole, rest = distill.plan(small.CONFIG), distill.plan(small.CONFIG, 2)
    assert len(whole.teachers) == small.CONFIG.distillation.steps
    np.testing.assert_array_equal(whole.teachers[2:], rest.teachers)
    np.testing.assert_array_equal(whole.epochs[2:], rest.epochs)
    assert whole.span == small.CONFIG.distillation.target_epochs


def test_twenty_steps_are_traced_once_however_they_are_cut():
    network, config = small.network(), small.CONFIG.distillation
    pairs = small.trajectories(network)[0, :2]
    starts, targets = (jnp.tile(row, (20, 1)) for row in pairs)
    optimizer = distill.make_optimizer(config)
    traces = []

    def counted(key, images):
        traces.append(images.shape)
        return images

    advance = jax.jit(
        partial(
            distill.advance,
            jax.random.key(0),
            network=network,
            optimizer=optimizer,
            config=config,
            augment_fn=counted,
        )
    )
    labels = jnp.array([0, 0, 1, 1, 2, 2])
    images = jnp.asarray(small.dataset().x_train[:6])
    first = distill.init(images, alpha=0.05, optimizer=optimizer)
    whole, info = advance(first, labels, jnp.int32(0), jnp.int32(20), starts, targets)
    traced, state = len(traces), first
    losses = []
    for low, count in ((0, 1), (1, 7), (8, 12)):
        state, part = advance(state, labels, jnp.int32(low), jnp.int32(count), starts, targets)
        losses += part.match.loss[:count].tolist()
        assert not np.any(part.match.loss[count:])
    assert len(traces) == traced
    assert losses == info.match.loss.tolist()
    jax.tree.map(np.testing.assert_array_equal, state, whole)


@pytest.mark.parametrize("ahead", [1, 4])
def test_streamed_from_disk_or_on_the_device_the_bits_are_the_same(tmp_path, monkeypatch, ahead):
    network = small.network()
    trajectories = small.trajectories(network)
    store = TeacherStore(tmp_path / "store")
    for index, trajectory in enumerate(trajectories):
        store.write(index, np.asarray(trajectory), {})
    monkeypatch.setattr(feed, "READ_AHEAD_BYTES", ahead * 8 * network.num_params)
    outcomes = [
        distill.run(small.CONFIG, small.dataset(), network, feed_fn, tmp_path / name, Report(None))
        for name, feed_fn in (
            ("device", partial(OnDevice, trajectories)),
            ("stream", partial(Streamed, store, network.num_params)),
        )
    ]
    device, stream = ((tmp_path / n / "distilled.safetensors") for n in ("device", "stream"))
    assert device.read_bytes() == stream.read_bytes()
    assert all(outcome.waited > 0 for outcome in outcomes)


def test_a_stream_reads_ahead_no_further_than_its_bound(tmp_path, monkeypatch):
    asked = []

    class Counted(TeacherStore):
        def read(self, index, epochs, *, num_params):
            asked.append((index, *epochs))
            return np.full((2, num_params), index, np.float32)

    monkeypatch.setattr(feed, "READ_AHEAD_BYTES", 3 * 8 * 5)
    plan = Plan(np.arange(10), np.arange(10) % 2, 2)
    stream = Streamed(Counted(tmp_path), 5, plan)
    try:
        starts, _ = stream.take(2, rows=4)
        assert np.asarray(starts)[:, 0].tolist() == [0, 1, 0, 0]
        stream._pool.shutdown()
        assert sorted(asked) == [(n, n % 2, n % 2 + 2) for n in range(5)]
    finally:
        stream.close()


def run(folder, threshold=0.1, seed=0, **options):
    network = small.network()
    config = dataclasses.replace(
        small.CONFIG, distillation=small.distillation(threshold=threshold), seed=seed
    )
    return distill.run(
        config,
        small.dataset(),
        network,
        small.feed_fn(network),
        folder,
        Report(None),
        **options,
    )


def test_same_seed_same_bits_another_seed_others(tmp_path):
    first, second, other = (
        run(tmp_path / name, seed=seed).distilled for name, seed in (("a", 0), ("b", 0), ("c", 1))
    )
    np.testing.assert_array_equal(first.images, second.images)
    assert first.alpha == second.alpha
    assert np.any(first.images != other.images)


@pytest.mark.parametrize(("every", "rows_before_the_stop"), [(2, 4), (50, 1)])
def test_gone_on_after_a_stop_it_ends_with_the_same_bits(
    tmp_path, monkeypatch, every, rows_before_the_stop
):
    monkeypatch.setattr(run_module, "CHECKPOINT_EVERY", every)
    whole = run(tmp_path / "whole").distilled

    def stop(images, labels, alpha):
        if len(read_rows(tmp_path / "cut" / "metrics.jsonl")) > rows_before_the_stop:
            raise KeyboardInterrupt
        return {"accuracy": 0.5}

    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "cut", evaluate_fn=stop)
    assert not (tmp_path / "cut" / "distilled.safetensors").exists()
    resumed = run(tmp_path / "cut").distilled
    np.testing.assert_array_equal(whole.images, resumed.images)
    assert whole.alpha == resumed.alpha
    steps = [row["step"] for row in read_rows(tmp_path / "cut" / "metrics.jsonl")]
    assert steps == list(range(7))


def test_files_hold_what_the_run_returned(tmp_path):
    seen = []

    def evaluate_fn(images, labels, alpha):
        seen.append(np.asarray(images))
        return {"accuracy": 0.25}

    distilled = run(tmp_path, evaluate_fn=evaluate_fn).distilled
    stored = read_distilled(tmp_path / "distilled.safetensors")
    np.testing.assert_array_equal(stored.images, distilled.images)
    np.testing.assert_array_equal(seen[-1], distilled.images)
    assert stored.class_names == ("rows", "columns", "noise")
    assert stored.labels.tolist() == [0, 0, 1, 1, 2, 2]
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "accuracy" in row] == [0, 3, 6]
    assert set(rows[1]) == {*distill.Match._fields, "step", "alpha", "teacher", "start_epoch"}
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


def curve(values):
    """An evaluation that finds given accuracies, one after another."""
    left = iter(values)
    return lambda images, labels, alpha: dict(
        zip(("accuracy", "held_out_accuracy"), next(left), strict=True)
    )


def test_the_best_sets_are_kept_beside_the_last(tmp_path):
    seen, found = [], curve([(0.1, 0.3), (0.4, 0.2), (0.2, 0.3)])

    def evaluate_fn(images, labels, alpha):
        seen.append(np.asarray(images))
        return found(images, labels, alpha)

    run(tmp_path, evaluate_fn=evaluate_fn, origin={"method": "ours"})
    for iterate, place, value in (
        ("last", 2, {}),
        ("max-test", 1, {"value": 0.4}),
        ("held-out", 0, {"value": 0.3}),
    ):
        kept = distill.read_finished(tmp_path, iterate)
        np.testing.assert_array_equal(kept.images, seen[place])
        about = {"method": "ours", "iterate": iterate, "step": 3 * place}
        assert kept.origin == about | value


def test_the_chosen_set_is_what_the_run_returns(tmp_path):
    evaluation = dataclasses.replace(small.CONFIG.evaluation, iterate="max-test")
    config = dataclasses.replace(small.CONFIG, evaluation=evaluation)
    network = small.network()
    outcome = distill.run(
        config,
        small.dataset(),
        network,
        small.feed_fn(network),
        tmp_path,
        Report(None),
        evaluate_fn=curve([(0.1, 0.0), (0.4, 0.0), (0.2, 0.0)]),
    )
    assert outcome.distilled.origin["step"] == 3
    last = distill.read_finished(tmp_path)
    assert np.any(last.images != outcome.distilled.images)


@pytest.mark.parametrize("every", [2, 50])
def test_a_stop_changes_nothing_about_the_best_sets(tmp_path, monkeypatch, every):
    monkeypatch.setattr(run_module, "CHECKPOINT_EVERY", every)
    values = [(0.1, 0.3), (0.4, 0.5), (0.2, 0.3)]
    run(tmp_path / "whole", evaluate_fn=curve(values))
    cut = tmp_path / "cut"
    with pytest.raises(StopIteration):
        run(cut, evaluate_fn=curve(values[:2]))
    assert iterate_path(cut, "max-test").exists()
    rest = values if every == 50 else values[2:]
    run(cut, evaluate_fn=curve(rest))
    for iterate in ("last", *distill.CHOSEN_BY):
        theirs, ours = (iterate_path(tmp_path / n, iterate) for n in ("whole", "cut"))
        assert theirs.read_bytes() == ours.read_bytes()


def test_a_best_set_that_was_lost_is_warned_of(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(run_module, "CHECKPOINT_EVERY", 2)
    with pytest.raises(StopIteration):
        run(tmp_path, evaluate_fn=curve([(0.9, 0.3), (0.4, 0.5)]))
    iterate_path(tmp_path, "max-test").unlink()
    run(tmp_path, evaluate_fn=curve([(0.2, 0.3)]))
    assert "distilled-max-test.safetensors is lost" in capsys.readouterr().err
    assert distill.read_finished(tmp_path, "max-test").origin["step"] == 6


def test_lost_metrics_do_not_cost_the_best_set(tmp_path, monkeypatch):
    monkeypatch.setattr(run_module, "CHECKPOINT_EVERY", 2)
    with pytest.raises(StopIteration):
        run(tmp_path, evaluate_fn=curve([(0.9, 0.3), (0.4, 0.5)]))
    (tmp_path / "metrics.jsonl").unlink()
    run(tmp_path, evaluate_fn=curve([(0.2, 0.6)]))
    assert distill.read_finished(tmp_path, "max-test").origin["step"] == 0
    assert distill.read_finished(tmp_path, "held-out").origin["step"] == 6
