"""Distillation: its steps against golden numbers, its draws, its run."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
import torch_layout
from test_goldens import CASES, close

from ddpp_jax import distill, flatten_params
from ddpp_jax.cli.demands import check
from ddpp_jax.distill import loop
from ddpp_jax.errors import InputError
from ddpp_jax.methods import HParams, OnDevice, Pair, Parts, Plan, Streamed, pairs
from ddpp_jax.methods.draws import Draws, draw, draw_start
from ddpp_jax.methods.matching import Variables, objective
from ddpp_jax.methods.schedules import plan
from ddpp_jax.methods.trajectory import LEAST_KEPT
from ddpp_jax.methods.updates import State, update
from ddpp_jax.networks import make_network
from ddpp_jax.sets import read_distilled, set_path
from ddpp_jax.storage import TeacherStore, read_rows


def start_of(images, alpha, momentum=0.5):
    """The state before the first step."""
    variables = Variables(images, jnp.asarray(alpha, images.dtype))
    return State(variables, jnp.zeros(len(images), int), optax.trace(momentum).init(variables))


@pytest.mark.usefixtures("float64")
@pytest.mark.parametrize("name", CASES)
def test_three_distillation_steps(name):
    case = CASES[name]()
    vector, unflatten = flatten_params(case.params("start"))
    network = make_network(case.model, (16, 16, 3))._replace(unflatten=unflatten)
    assert vector.size == network.num_params
    hparams = HParams(0.1, 10.0, 1e-4)
    state = start_of(case.images, case.lr)
    pair = Pair(vector, flatten_params(case.params("target"))[0], 0, 0)
    draws = Draws(
        batches=case.batches,
        augment_keys=jax.random.split(jax.random.key(0), len(case.batches)),
    )

    @jax.jit
    def step(state):
        gradient, metrics = jax.grad(objective, has_aux=True)(
            state.variables,
            case.labels,
            pair,
            draws,
            hparams.threshold,
            network=network,
            mask_key=jax.random.key(0),
            parts=Parts(),
        )
        state, held = update(state, gradient, hparams, optimizer=optax.trace(0.5))
        return state, (metrics, held)

    losses = []
    for index in range(3):
        state, (metrics, held) = step(state)
        assert not held
        losses.append(float(metrics["loss"]))
        if index == 0:
            kept = case.golden["kept_0.1"]
            assert metrics["kept_fraction"] == pytest.approx(kept.mean(), rel=1e-6)
            check_shares(metrics, case, kept)
    close(losses, case.golden["distill_losses"], 1e-8)
    close(state.variables.images, torch_layout.images(case.golden["distilled_images"]), 1e-8)
    close(state.variables.alpha, case.golden["distilled_lr"], 1e-8)


def check_shares(metrics, case, kept):
    """What is reported of the first step, against NumPy on the golden vectors."""
    student, target, start = (case.golden[n] for n in ("student", "target", "start"))
    numerator, denominator = (student - target) ** 2, (start - target) ** 2
    flips = (np.sign(student) * np.sign(target) < 0) & ~kept
    assert metrics["sign_flips"] == pytest.approx(flips.sum() / (~kept).sum(), rel=1e-5)
    assert metrics["numerator_removed"] == pytest.approx(numerator[~kept].sum() / numerator.sum())
    assert metrics["denominator_removed"] == pytest.approx(
        denominator[~kept].sum() / denominator.sum()
    )
    by_layer = jax.tree.map(lambda leaf: leaf.mean(), case.params("kept_0.1"))
    found = list(metrics["kept_by_layer"].values())
    np.testing.assert_allclose(found, jax.tree.leaves(by_layer), rtol=1e-6)


def test_batches_are_permutations_used_up_before_the_next():
    draws = draw(jax.random.key(0), images=12, steps=7, batch=3)
    assert draws.batches.shape == (7, 3)
    assert sorted(draws.batches[:4].ravel().tolist()) == list(range(12))
    assert len(set(draws.batches[4:].ravel().tolist())) == 9
    assert draws.batches[:4].ravel().tolist() != list(range(12))


def test_every_student_step_has_an_augmentation_key_of_its_own():
    draws = draw(jax.random.key(0), images=6, steps=9)
    assert len({bytes(np.asarray(k)) for k in jax.random.key_data(draws.augment_keys)}) == 9


def test_every_step_draws_anew(tmp_path):
    run(tmp_path)
    rows = read_rows(tmp_path / "metrics.jsonl")[1:]
    assert len({(row["teacher"], row["start_epoch"]) for row in rows}) > 2


def test_sign_flips_need_two_signs():
    network = small.network()
    target = jnp.ones(network.num_params).at[0].set(-1.0).at[1].set(0.0).at[2].set(-1.0)
    start = jnp.ones(network.num_params).at[1].set(-1.0).at[2].set(0.0)
    draws = draw(jax.random.key(0), images=3, steps=3)
    images = jnp.asarray(small.dataset().x_train[:3])
    _, metrics = objective(
        Variables(images, jnp.array(0.0)),
        jnp.arange(3),
        Pair(start, target, 0, 0),
        draws,
        0.1,
        network=network,
        mask_key=jax.random.key(0),
        parts=Parts(),
    )
    # The student stays at the start: one pair of signs differs, two have a zero on one side.
    assert metrics["kept_fraction"] == pytest.approx(1 - 3 / network.num_params)
    assert metrics["sign_flips"] == pytest.approx(1 / 3)


def one_step(start, *, images=None, **changes):
    """The state before and after a step from these parameters, and its Info."""
    settings, target = (
        small.distillation(alpha=0.05, **changes),
        small.trajectories(small.network()),
    )
    first = small.start(settings)._replace(labels=np.array([0, 0, 1, 1, 2, 2], np.int32))
    images = small.dataset().x_train[:6] if images is None else images
    method = small.method(settings, operations=())
    before = method.init(jax.random.key(0), first._replace(images=images))
    pair = Pair(start, target[0, 1], jnp.int32(0), jnp.int32(0))
    after, info = jax.jit(method.step)(jax.random.key(0), before, pair, small.hparams(settings))
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
    assert np.any(np.asarray(after.variables.images) != np.asarray(before.variables.images))


def test_alpha_stays_above_zero():
    start = small.trajectories(small.network())[0, 0]
    hparams = HParams(0.1, 1.0, 1.0)
    for sign in (1, -1):  # One of the two would bring it below zero.
        state = start_of(jnp.zeros((1, 4, 4, 1)), 0.1)
        gradient = Variables(jnp.zeros((1, 4, 4, 1)), jnp.array(sign * 5.0))
        after, held = update(state, gradient, hparams, optimizer=optax.trace(0.5))
        assert after.variables.alpha == pytest.approx(0.05 if sign > 0 else 5.1)
        assert bool(held) == (sign > 0)
    state = start_of(jnp.zeros((1, 4, 4, 1)), 0.1, momentum=0.9)
    for sign in [1] + 300 * [0]:
        gradient = Variables(jnp.zeros((1, 4, 4, 1)), jnp.array(sign * 1e6))
        state, held = update(state, gradient, hparams, optimizer=optax.trace(0.9))
    assert state.variables.alpha >= 1e-8
    _, after, info = one_step(start, alpha_rate=1e6)
    assert after.variables.alpha > 0
    assert bool(info.metrics["alpha_held"]) == (after.variables.alpha == 0.025)


def test_steps_that_are_never_finite_stop_the_run(tmp_path, capsys):
    """Teachers that turn to NaN at epoch 1: steps from epoch 0 are good until one is bad."""
    broken = small.trajectories(small.network()).at[:, 2].set(jnp.nan)

    def distilled(name, trajectories, steps):
        settings = small.distillation(steps=steps)
        method = small.method(settings, lambda seed, plan: OnDevice(trajectories, plan))
        members = [small.member(tmp_path / name, settings)]
        return small.run(tmp_path / name, members, settings, method=method)["DDPP"]

    with pytest.raises(InputError, match=r"the 10 steps up to \d+ were all skipped.*last good"):
        distilled("all", jnp.full_like(broken, jnp.nan), 200)
    assert not (tmp_path / "all" / "distilled.safetensors").exists()
    rows = read_rows(tmp_path / "all" / "metrics.jsonl")
    assert all(row["skipped"] and row["loss"] is None for row in rows[1:])
    capsys.readouterr()
    outcome = distilled("some", broken, 12)
    drawn = plan(0, small.schedule(small.distillation(steps=12))).epochs
    assert outcome.troubles["skipped"] == np.count_nonzero(drawn == 1) > 0
    assert np.isfinite(outcome.distilled.images).all()
    assert capsys.readouterr().err.count("is skipped: its loss or gradient is not finite") == 1


def test_a_low_kept_fraction_is_warned_of(tmp_path, capsys):
    outcome = run(tmp_path, threshold=1.0)
    rows = read_rows(tmp_path / "metrics.jsonl")[1:]
    low = [row for row in rows if row["kept_fraction"] < LEAST_KEPT]
    assert outcome.troubles["kept_fraction"] == len(low) > 0
    shown = capsys.readouterr().err
    assert shown.count("pruning too many") == 1
    assert f"step {low[0]['step']} keeps" in shown


def test_start_epochs_and_teachers_cover_their_range():
    drawn = [draw_start(jax.random.key(seed), teachers=4, epochs=3) for seed in range(60)]
    assert {int(start.epoch) for start in drawn} == {0, 1, 2}
    assert {int(start.teacher) for start in drawn} == {0, 1, 2, 3}


def test_the_plan_is_what_each_step_would_draw():
    whole, rest = plan(0, small.schedule()), plan(0, small.schedule(), 2)
    assert len(whole.teachers) == small.CONFIG.distillation.steps
    np.testing.assert_array_equal(whole.teachers[2:], rest.teachers)
    np.testing.assert_array_equal(whole.epochs[2:], rest.epochs)
    assert whole.span == small.CONFIG.distillation.target_epochs


def test_twenty_steps_are_traced_once_however_they_are_cut(tmp_path):
    traces = []

    def counted(key, images):
        traces.append(images.shape)
        return images

    method, member = small.method(augment_fn=counted), small.member(tmp_path)
    states = jax.tree.map(lambda leaf: leaf[None], distill.begin(method, member))
    batch = method.feed(0, 0).take(20, rows=20)
    advance = distill.compiled(method, [member], states, [batch])
    traced = len(traces)
    whole, info = advance(states, 0, 20, [batch])
    state, losses = states, []
    for low, count in ((0, 1), (1, 7), (8, 12)):
        rest = jax.tree.map(lambda rows, low=low: jnp.roll(rows, -low, axis=0), batch)
        state, part = advance(state, low, count, [rest])
        losses += part.metrics["loss"][0, :count].tolist()
        assert not np.any(part.metrics["loss"][0, count:])
    assert len(traces) == traced
    assert losses == info.metrics["loss"][0].tolist()
    jax.tree.map(np.testing.assert_array_equal, state, whole)


@pytest.mark.parametrize("ahead", [1, 4])
def test_streamed_from_disk_or_on_the_device_the_bits_are_the_same(tmp_path, monkeypatch, ahead):
    network = small.network()
    trajectories = small.trajectories(network)
    store = TeacherStore(tmp_path / "store")
    for index, trajectory in enumerate(trajectories):
        store.write(index, np.asarray(trajectory), {})
    monkeypatch.setattr(pairs, "READ_AHEAD_BYTES", ahead * 8 * network.num_params)
    outcomes = [
        small.run(
            tmp_path / name,
            [small.member(tmp_path / name)],
            method=small.method(pairs=lambda seed, plan, made=made: made(plan)),
        )["DDPP"]
        for name, made in (
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

    monkeypatch.setattr(pairs, "READ_AHEAD_BYTES", 3 * 8 * 5)
    plan = Plan(np.arange(10), np.arange(10) % 2, 2)
    stream = Streamed(Counted(tmp_path), 5, plan)
    try:
        taken = stream.take(2, rows=4)
        assert np.asarray(taken.start)[:, 0].tolist() == [0, 1, 0, 0]
        assert np.asarray(taken.teacher)[:2].tolist() == [0, 1]
        stream._pool.shutdown()
        assert sorted(asked) == [(n, n % 2, n % 2 + 2) for n in range(5)]
    finally:
        stream.close()


def run(folder, threshold=0.1, seed=0, which="last", **options):
    settings = small.distillation(threshold=threshold)
    members = [small.member(folder, settings, seed)]
    return small.run(folder, members, settings, which=which, **options)["DDPP"]


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
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", every)
    whole = run(tmp_path / "whole").distilled

    def stop(small):
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

    def evaluate_fn(small):
        seen.append(np.asarray(small.images))
        return {"accuracy": 0.25}

    distilled = run(tmp_path, evaluate_fn=evaluate_fn).distilled
    stored = read_distilled(tmp_path / "distilled.safetensors")
    np.testing.assert_array_equal(stored.images, distilled.images)
    np.testing.assert_array_equal(seen[-1], distilled.images)
    assert stored.class_names == ("rows", "columns", "noise")
    assert stored.labels.tolist() == [0, 0, 1, 1, 2, 2]
    rows = read_rows(tmp_path / "metrics.jsonl")
    assert [row["step"] for row in rows if "accuracy" in row] == [0, 3, 6]
    assert rows[0]["method"] == "DDPP"
    assert rows[0]["shows"]["loss"] == "matching loss (equation 8)"
    assert set(rows[1]) == {
        *("step", "loss", "kept_fraction", "kept_by_layer", "sign_flips", "student_loss"),
        *("numerator_removed", "denominator_removed", "alpha", "teacher", "start_epoch"),
    }
    assert set(rows[1]["kept_by_layer"]) == set(small.network().names)


def test_without_pruning_all_is_kept(tmp_path):
    run(tmp_path, threshold=None)
    rows = read_rows(tmp_path / "metrics.jsonl")[1:]
    assert all(row["kept_fraction"] == 1 and row["sign_flips"] == 0 for row in rows)
    assert all(row["numerator_removed"] == row["denominator_removed"] == 0 for row in rows)


def test_what_the_dataset_cannot_give_is_refused():
    data = small.dataset()
    with pytest.raises(InputError, match="--student-batch 4 does not divide the 6"):
        check(small.distillation(student_batch=4), data)
    with pytest.raises(InputError, match="class columns has 13 training images"):
        check(small.distillation(ipc=14), data)


def curve(values):
    """An evaluation that finds given accuracies, one after another."""
    left = iter(values)
    return lambda small: dict(zip(("accuracy", "held_out_accuracy"), next(left), strict=True))


def test_the_best_sets_are_kept_beside_the_last(tmp_path):
    seen, found = [], curve([(0.1, 0.3), (0.4, 0.2), (0.2, 0.3)])

    def evaluate_fn(small):
        seen.append(np.asarray(small.images))
        return found(small)

    run(tmp_path, evaluate_fn=evaluate_fn)
    for which, place, value in (
        ("last", 2, {}),
        ("best-test", 1, {"value": 0.4}),
        ("best-held-out", 0, {"value": 0.3}),
    ):
        kept = distill.read_finished(tmp_path, which)
        np.testing.assert_array_equal(kept.images, seen[place])
        about = {"method": "DDPP", "which": which, "step": 3 * place}
        assert kept.origin == about | value


def test_the_chosen_set_is_what_the_run_returns(tmp_path):
    evaluate_fn = curve([(0.1, 0.0), (0.4, 0.0), (0.2, 0.0)])
    outcome = run(tmp_path, which="best-test", evaluate_fn=evaluate_fn)
    assert outcome.distilled.origin["step"] == 3
    last = distill.read_finished(tmp_path)
    assert np.any(last.images != outcome.distilled.images)


@pytest.mark.parametrize("every", [2, 50])
def test_a_stop_changes_nothing_about_the_best_sets(tmp_path, monkeypatch, every):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", every)
    values = [(0.1, 0.3), (0.4, 0.5), (0.2, 0.3)]
    run(tmp_path / "whole", evaluate_fn=curve(values))
    cut = tmp_path / "cut"
    with pytest.raises(StopIteration):
        run(cut, evaluate_fn=curve(values[:2]))
    assert set_path(cut, "best-test").exists()
    rest = values if every == 50 else values[2:]
    run(cut, evaluate_fn=curve(rest))
    for which in ("last", *distill.CHOSEN_BY):
        theirs, ours = (set_path(tmp_path / n, which) for n in ("whole", "cut"))
        assert theirs.read_bytes() == ours.read_bytes()


def test_a_best_set_that_was_lost_is_warned_of(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 2)
    with pytest.raises(StopIteration):
        run(tmp_path, evaluate_fn=curve([(0.9, 0.3), (0.4, 0.5)]))
    set_path(tmp_path, "best-test").unlink()
    run(tmp_path, evaluate_fn=curve([(0.2, 0.3)]))
    assert "distilled-best-test.safetensors is lost" in capsys.readouterr().err
    assert distill.read_finished(tmp_path, "best-test").origin["step"] == 6


def test_lost_metrics_do_not_cost_the_best_set(tmp_path, monkeypatch):
    monkeypatch.setattr(loop, "CHECKPOINT_EVERY", 2)
    with pytest.raises(StopIteration):
        run(tmp_path, evaluate_fn=curve([(0.9, 0.3), (0.4, 0.5)]))
    (tmp_path / "metrics.jsonl").unlink()
    run(tmp_path, evaluate_fn=curve([(0.2, 0.6)]))
    assert distill.read_finished(tmp_path, "best-test").origin["step"] == 0
    assert distill.read_finished(tmp_path, "best-held-out").origin["step"] == 6
