"""Masks beside the paper's: each against a loop by hand, and as a part of distillation."""

import dataclasses
import json
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import small
from jax.test_util import check_grads
from processes import call

from ddpp_jax import trajectory_loss
from ddpp_jax._types import MASKS
from ddpp_jax.configs import TrajectoryConfig, members_of
from ddpp_jax.errors import InputError
from ddpp_jax.methods import Extensions, HParams, Pair, make_mask, match_trajectories
from ddpp_jax.methods.draws import draw
from ddpp_jax.methods.masks import choose_mask, places
from ddpp_jax.methods.matching import PAPERS, objective
from ddpp_jax.storage import read_rows

KEY = jax.random.key(3)
NETWORK = small.network()
SIZES = [int(np.prod(shape)) for _, shape in NETWORK.tensors]


def ends(seed=0):
    """A student and a target with equal signs, flips, zeros, and ratios on both sides of 0.1."""
    generator = np.random.default_rng(seed)
    student = generator.normal(size=NETWORK.num_params).astype(np.float32)
    factor = generator.choice([1.0, 0.9, 0.05, 20.0, -1.0, -0.95, -0.04, 3.0], student.size)
    target = (student * factor * generator.uniform(0.99, 1.01, student.size)).astype(np.float32)
    student[5], target[9] = 0, 0
    student[11] = target[11] = 0
    return student, target


def masked(name, number, *, key=KEY, by_share=False, of=None):
    """The mask of a name, of those ends."""
    mask_fn = make_mask(name, NETWORK, by_share=by_share)
    return np.asarray(mask_fn(key, *map(jnp.asarray, of or ends()), number))


def by_hand(name, student, target, epsilon):
    """What is kept, one parameter after another."""
    kept = []
    for s, t in zip(student.astype(float), target.astype(float), strict=True):
        both = s != 0 and t != 0
        ratio = min(s / t, t / s) if both else float(s == t)
        if name == "ratio":
            kept.append(ratio >= epsilon)
        elif name == "ratio-magnitude":
            kept.append((min(abs(s / t), abs(t / s)) if both else float(s == t)) >= epsilon)
        elif name == "signs":
            kept.append(s * t >= 0)
    return np.array(kept)


def without_lowest(numbers, count):
    """All but the lowest of some different numbers."""
    kept = np.ones(len(numbers), bool)
    kept[np.argsort(numbers, kind="stable")[:count]] = False
    return kept


@pytest.mark.parametrize("epsilon", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("name", ["ratio", "ratio-magnitude", "signs"])
def test_rules_against_a_loop(name, epsilon):
    student, target = ends()
    found = masked(name, epsilon)
    np.testing.assert_array_equal(found, by_hand(name, student, target, epsilon))
    assert 0.2 < found.mean() < 1


@pytest.mark.parametrize("epsilon", [0.03, 0.1, 0.3])
@pytest.mark.parametrize("sign", [1, -1])
def test_differences_prune_as_many_as_the_ratio(sign, epsilon):
    student, target = ends()
    name = "difference-smallest" if sign > 0 else "difference-largest"
    found = masked(name, epsilon)
    count = int((~by_hand("ratio", student, target, epsilon)).sum())
    differences = sign * np.abs(student - target)
    assert (~found).sum() == count
    assert differences[~found].max() <= differences[found].min()


def test_depth_prunes_from_the_input_on():
    names = [NETWORK.names[tensor] for tensor in NETWORK.forward]
    assert names == [
        *("Conv3x3_0/kernel", "Conv3x3_0/bias", "InstanceNorm_0/scale", "InstanceNorm_0/shift"),
        *("Dense_0/kernel", "Dense_0/bias"),
    ]
    found = masked("depth", 0.3, by_share=True)
    pruned = round(0.3 * NETWORK.num_params)
    tensors = dict(zip(NETWORK.names, np.split(found, np.cumsum(SIZES)[:-1]), strict=True))
    in_order = np.concatenate([tensors[name] for name in names])
    np.testing.assert_array_equal(in_order, np.arange(NETWORK.num_params) >= pruned)
    assert sorted(places(NETWORK)) == list(range(NETWORK.num_params))


@pytest.mark.parametrize("by_share", [False, True])
def test_random_prunes_as_many_of_each_tensor(by_share):
    student, target = ends()
    drawn = [masked("random", 0.1, by_share=by_share) for _ in range(2)]
    np.testing.assert_array_equal(*drawn)
    rule = by_hand("ratio", student, target, 0.1)
    if by_share:
        rule = masked("ratio", 0.1, by_share=True)
    other = masked("random", 0.1, key=jax.random.key(4), by_share=by_share)
    for found in (drawn[0], other):
        for own, of_rule in zip(
            *(np.split(mask, np.cumsum(SIZES)[:-1]) for mask in (found, rule)), strict=True
        ):
            assert own.sum() == of_rule.sum()
    assert np.any(drawn[0] != rule)
    assert np.any(drawn[0] != other)


@pytest.mark.parametrize("share", [0.1, 0.25, 0.6])
def test_shares_by_rank(share):
    student, target = (end.astype(float) for end in ends())
    target[5] = -abs(target[5])  # A zero against a negative number is no flip of the sign.
    count = round(share * student.size)
    zeros = (student == 0) | (target == 0)
    s, t = np.where(zeros, 1, student), np.where(zeros, 1, target)
    of_zeros = np.where(student == target, 1.0, 0.0)
    ratios = np.where(zeros, of_zeros, np.minimum(s / t, t / s))
    sizes = np.where(zeros, of_zeros, np.minimum(np.abs(s / t), np.abs(t / s)))
    wanted = {
        "ratio": ratios,
        "ratio-magnitude": sizes,
        "difference-largest": -np.abs(student - target),
        "difference-smallest": np.abs(student - target),
    }
    with jax.enable_x64(True):
        for name, numbers in wanted.items():
            found = masked(name, share, by_share=True, of=(student, target))
            np.testing.assert_array_equal(found, without_lowest(numbers, count), err_msg=name)
    drawn = masked("random", share, by_share=True)
    assert (~drawn).sum() == count


@pytest.mark.parametrize("by_share", [False, True])
@pytest.mark.parametrize("name", MASKS)
def test_what_every_mask_owes(name, by_share):
    mask_fn = jax.jit(make_mask(name, NETWORK, by_share=by_share))
    student, target = map(jnp.asarray, ends())
    assert mask_fn(KEY, student, target, 0.0).all(), "0 prunes nothing"
    found = mask_fn(KEY, student, target, 0.2)
    assert found.dtype == bool
    assert found.shape == student.shape
    assert bool(found.all()) == (name in ("learned", "none"))
    together = jax.vmap(mask_fn, (None, 0, 0, None))(
        KEY, *(jnp.stack([end, 2 * end]) for end in (student, target)), 0.2
    )
    np.testing.assert_array_equal(together[0], found)
    if name != "random":
        diverged = mask_fn(KEY, student.at[:40].set(jnp.nan), target, 0.2)
        assert diverged[:40].all(), "what is not a number shows in the loss"
    start = student + 1

    def loss(student, kept):
        return trajectory_loss(student, target, start, mask=kept)

    through = jax.grad(lambda s: loss(s, mask_fn(KEY, s, target, 0.2)))(student)
    np.testing.assert_array_equal(through, jax.grad(loss)(student, found))


def test_one_of_several():
    student, target = map(jnp.asarray, ends())
    masks = [make_mask(name, NETWORK) for name in MASKS]
    chosen = jax.jit(
        lambda place, *rest: choose_mask(masks, place)(KEY, *rest),
    )
    together = jax.vmap(chosen, (0, None, None, None))(
        jnp.arange(len(masks), dtype=jnp.float32), student, target, 0.1
    )
    for place, mask_fn in enumerate(masks):
        expected = mask_fn(KEY, student, target, 0.1)
        np.testing.assert_array_equal(chosen(float(place), student, target, 0.1), expected)
        np.testing.assert_array_equal(together[place], expected)


def test_weights_in_the_loss():
    student, target = (end.astype(float) for end in ends())
    start = np.random.default_rng(5).normal(size=student.size)
    weights = np.random.default_rng(6).uniform(0, 1, student.size)
    weights[:20] = 0
    with jax.enable_x64(True):
        found = trajectory_loss(student, target, start, mask=weights)
        above = (weights * weights * (student - target) ** 2).sum()
        np.testing.assert_allclose(
            found, above / (weights**2 * (start - target) ** 2).sum(), rtol=1e-12
        )
        kept = weights > 0.5
        np.testing.assert_allclose(
            trajectory_loss(student, target, start, mask=kept),
            trajectory_loss(student, target, start, mask=kept.astype(float)),
            rtol=1e-12,
        )
        infinite = jnp.asarray(student).at[:20].set(jnp.inf)
        np.testing.assert_allclose(
            trajectory_loss(infinite, target, start, mask=weights), found, rtol=1e-12
        )
        check_grads(
            lambda s, w: trajectory_loss(s, target, start, mask=w),
            (jnp.asarray(student), jnp.asarray(weights[20:].mean() + 0 * weights)),
            order=2,
            modes=("rev",),
        )


def weighted(rate, **parts):
    """Trajectory matching on the small problem with learned weights, and its first step."""
    settings = small.CONFIG.distillation
    method = match_trajectories(
        NETWORK,
        small.pairs_fn(NETWORK),
        small.schedule(settings),
        optimizer=optax.trace(0.0),
        extended=Extensions(weighted=True),
        **parts,
    )
    start, target = small.trajectories(NETWORK)[0, :2]
    pair = Pair(start, target, jnp.int32(0), jnp.int32(0))
    state = method.init(jax.random.key(0), small.start())
    hparams = HParams(0.0, 1.0, 1e-7, weight_rate=rate)
    return method, pair, state, hparams


def test_weights_move_by_the_slope_of_the_loss():
    method, pair, state, hparams = weighted(0.1)
    after, info = method.step(KEY, state, pair, hparams)
    assert info.metrics["kept_fraction"] == 1
    weights = np.asarray(after.variables.weights)
    assert weights.min() >= 0
    assert weights.max() <= 1
    assert 0.5 < weights.mean() < 1
    plain, _, unweighted, _ = weighted(0.0)
    _, still = plain.step(KEY, unweighted, pair, HParams(0.0, 1.0, 1e-7))
    assert still.metrics["loss"] == info.metrics["loss"]
    again, second = method.step(KEY, after, pair, hparams._replace(pixel_rate=0.0))
    # Nothing else is trained at rates of 0, so that the student of the first step can be had back.
    slope = jax.grad(
        lambda w: objective(
            state.variables._replace(weights=w),
            state.labels,
            pair,
            draw(KEY, images=len(state.labels), steps=3, batch=6),
            0.0,
            network=NETWORK,
            mask_key=KEY,
            parts=PAPERS,
        )[0]
    )(jnp.ones(NETWORK.num_params))
    expected = np.clip(1 - 0.1 * NETWORK.num_params * np.asarray(slope), 0, 1)
    np.testing.assert_allclose(weights, expected, rtol=1e-4, atol=1e-5)
    assert second.metrics["kept_fraction"] == pytest.approx(weights.mean(), rel=1e-6)
    assert np.any(np.asarray(again.variables.weights) != weights)
    _, matched = method.step(KEY, state._replace(variables=after.variables), pair, hparams)
    assert matched.metrics["loss"] < info.metrics["loss"]


def test_a_rate_of_zero_leaves_every_weight():
    method, pair, state, hparams = weighted(0.0)
    after, _ = method.step(KEY, state, pair, hparams)
    np.testing.assert_array_equal(after.variables.weights, 1)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"prune_share": 0.0}, "--prune-share is 0; wanted a share above 0 and below 1"),
        ({"prune_share": 0.2, "mask": "signs"}, "no use with --mask signs"),
        ({"prune_share": 0.2, "threshold": None}, "no use with --threshold none"),
        ({"weight_rate": -1.0}, "--weight-rate is -1"),
        ({"mask": "learned", "threshold": None}, "--mask learned has no use without pruning"),
    ],
)
def test_settings_that_contradict_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        TrajectoryConfig(**changes)


@pytest.mark.parametrize(
    ("changes", "sweep"),
    [
        ({"prune_share": 0.25}, "threshold=0.1,0.3"),
        ({"mask": "signs"}, "threshold=0.1,0.3"),
        ({}, "weight-rate=0.1,0.3"),
        ({}, "label-rate=0.1,0.3"),
    ],
)
def test_sweeps_that_change_nothing_are_refused(changes, sweep):
    job = dataclasses.replace(small.CONFIG, distillation=small.distillation(**changes))
    with pytest.raises(InputError, match="nothing follows from --"):
        members_of(job, sweep)


def test_titles_tell_masks_apart():
    titles = {TrajectoryConfig(mask=name).title for name in MASKS}
    assert len(titles) == len(MASKS)
    assert TrajectoryConfig(mask="none").title == TrajectoryConfig(threshold=None).title
    assert TrajectoryConfig(mask="depth", prune_share=0.25).title == "mask depth (share 0.25)"


FLAGS = shlex.split(
    "--augment crop --width 8 --depth 1 --teachers 2 --epochs 4 --student-steps 4 "
    "--max-start-epoch 2 --steps 12 --networks 2 --eval-epochs 20"
)


def test_masks_side_by_side_are_what_each_is_alone(tmp_path):
    done = call(tmp_path, "distill", *FLAGS, "--sweep", f"mask={','.join(MASKS)}", "--out", "all")
    assert done.returncode == 0, done.stderr
    rows = {
        row["value"]: row
        for row in json.loads((tmp_path / "all" / "result.json").read_text())["rows"]
    }
    assert set(rows) == set(MASKS)
    kept = {name: row["means"]["kept_fraction"] for name, row in rows.items()}
    assert kept["none"] == 1 > kept["learned"]
    assert kept["difference-largest"] == pytest.approx(kept["ratio"], abs=0.05)
    assert kept["ratio"] < kept["signs"] < 1
    for name in ("depth", "learned"):
        alone = call(tmp_path, "distill", *FLAGS, "--mask", name, "--no-baselines", "--out", name)
        assert alone.returncode == 0, alone.stderr
        theirs = read_rows(tmp_path / name / "metrics.jsonl")[1:]
        side = read_rows(tmp_path / "all" / f"mask-{name}" / "metrics.jsonl")[1:]
        for mine, other in zip(theirs, side, strict=True):
            assert mine["loss"] == pytest.approx(other["loss"], rel=1e-4)
            assert mine["kept_by_layer"] == pytest.approx(other["kept_by_layer"], abs=1e-3)
    settings = json.loads((tmp_path / "depth" / "config.json").read_text())
    assert settings["config"]["distillation"]["mask"] == "depth"


def test_a_sweep_over_shares_prunes_them(tmp_path):
    flags = [*FLAGS, "--mask", "difference-largest", "--sweep", "prune-share=0.1,0.4"]
    done = call(tmp_path, "distill", *flags, "--out", "run")
    assert done.returncode == 0, done.stderr
    rows = json.loads((tmp_path / "run" / "result.json").read_text())["rows"]
    kept = [row["means"]["kept_fraction"] for row in rows]
    assert kept == pytest.approx([0.9, 0.6], abs=1e-3)


def test_flags_without_effect_are_named(tmp_path):
    done = call(tmp_path, "distill", *FLAGS, "--mask", "signs", "--threshold", "0.3", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "Nothing follows from --threshold with the other settings" in done.stderr


def test_masks_have_settings_of_their_own():
    settings = dataclasses.replace(TrajectoryConfig(), mask="learned", weight_rate=0.5)
    assert settings.without_mask() == TrajectoryConfig(threshold=None, weight_rate=0.5)


def test_seeds_that_share_their_teachers(tmp_path):
    flags = [*FLAGS, "--sweep", "seed=0,1", "--teacher-seed", "5"]
    done = call(tmp_path, "distill", *flags, "--out", "run")
    assert done.returncode == 0, done.stderr
    (store,) = (tmp_path / "runs" / "teachers").iterdir()
    assert json.loads((store / "manifest.json").read_text())["seed"] == 5
    first, second = (tmp_path / "run" / f"seed-{seed}" / "metrics.jsonl" for seed in (0, 1))
    assert [row["loss"] for row in read_rows(first)[1:]] != [
        row["loss"] for row in read_rows(second)[1:]
    ]
    own = call(tmp_path, "teachers", *FLAGS[:10], "--seed", "5", "--dry-run")
    assert own.returncode == 0, own.stderr
    assert store.name in own.stdout
