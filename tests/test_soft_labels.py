"""Learned labels, start epochs that grow and steps that are passed over, as DATM has them."""

import json
import shlex

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import torch_layout
from processes import call
from test_goldens import close

from ddpp_jax.configs import TrajectoryConfig
from ddpp_jax.errors import InputError
from ddpp_jax.methods import (
    Extensions,
    HParams,
    Pair,
    Schedule,
    match_trajectories,
    teacher_labels,
    trajectory,
)
from ddpp_jax.methods.draws import Draws
from ddpp_jax.methods.labels import CERTAIN, logits_of, right
from ddpp_jax.methods.matching import PAPERS, Variables, objective
from ddpp_jax.methods.schedules import plan
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.sets import DistilledSet, read_distilled
from ddpp_jax.storage import read_rows

NETWORK = make_network(ConvNet(classes=4, width=6, depth=2, image_size=8, channels=3), (8, 8, 3))
SCHEDULE = Schedule(6, 1, 1, 4, 1, 3)


@pytest.fixture
def golden(float64):
    return torch_layout.load("soft_labels.npz")


def vector(golden, name, row):
    case = {name: golden[name][row], "shapes": golden["shapes"]}
    params = torch_layout.convnet_params(case[name], case["shapes"], side=2)
    return jax.flatten_util.ravel_pytree(params)[0]


def pair(golden, row):
    ends = (vector(golden, name, row) for name in ("starts", "targets"))
    return Pair(*ends, jnp.int32(0), jnp.int32(0))


def draws(golden, row):
    batches = jnp.asarray(golden["batches"][row])
    return Draws(batches, jax.random.split(jax.random.key(0), len(batches)))


@pytest.mark.parametrize("threshold", ["none", "0.1"])
def test_loss_and_gradients(golden, threshold):
    def loss_fn(images, logits, alpha):
        return objective(
            Variables(images, alpha),
            jax.nn.softmax(logits),
            pair(golden, 0),
            draws(golden, 0),
            0.0 if threshold == "none" else float(threshold),
            network=NETWORK,
            mask_key=jax.random.key(0),
            parts=PAPERS,
        )

    given = torch_layout.images(golden["images"]), golden["logits"], golden["lr"]
    given = tuple(map(jnp.asarray, given))
    (loss, metrics), found = jax.value_and_grad(loss_fn, (0, 1, 2), has_aux=True)(*given)
    close(loss, golden[f"loss_{threshold}"], 1e-9)
    close(metrics["kept_fraction"], golden[f"kept_{threshold}"].mean(), 1e-6)
    close(found[0], torch_layout.images(golden[f"grad_images_{threshold}"]), 1e-9)
    close(found[1], golden[f"grad_logits_{threshold}"], 1e-9)
    close(found[2], golden[f"grad_lr_{threshold}"], 1e-9)
    np.testing.assert_allclose(found[1].sum(axis=1), 0, atol=1e-12)


def test_three_steps_of_which_one_is_passed_over(golden, monkeypatch):
    """Momenta stay too: the third step goes on from the first."""
    method = match_trajectories(
        NETWORK,
        lambda seed, plan: None,
        SCHEDULE,
        optimizer=optax.trace(float(golden["momentum_images"])),
        extended=Extensions(label_optimizer=optax.trace(float(golden["momentum_logits"]))),
    )
    labels = jax.nn.softmax(jnp.asarray(golden["logits"]))
    start = DistilledSet(torch_layout.images(golden["images"]), labels, golden["lr"])
    state = method.init(jax.random.key(0), start)
    hparams = HParams(
        0.0,
        float(golden["rate_images"]),
        float(golden["rate_lr"]),
        label_rate=float(golden["rate_logits"]),
        skip_above=float(golden["threshold"]),
    )
    taken = []
    for row in range(3):
        monkeypatch.setattr(trajectory, "draw", lambda *_, n=row, **__: draws(golden, n))
        state, info = method.step(jax.random.key(row), state, pair(golden, row), hparams)
        close(info.metrics["loss"], golden["distill_losses"][row], 1e-9)
        assert not info.skipped
        taken.append(not info.metrics["passed_over"])
    assert taken == golden["distill_taken"].tolist() == [True, False, True]
    close(state.variables.images, torch_layout.images(golden["distilled_images"]), 1e-8)
    close(state.variables.alpha, golden["distilled_lr"], 1e-8)
    # Logits are the same up to what softmax does not see.
    centred = [
        x - x.mean(axis=1, keepdims=True) for x in (state.logits, golden["distilled_logits"])
    ]
    close(*centred, 1e-8)


def test_labels_of_teachers(golden):
    labels = jnp.asarray(golden["labels"])
    logits = jnp.asarray(golden["teacher_logits"])
    np.testing.assert_array_equal(right(logits, labels), golden["teacher_right"])
    close(teacher_labels(logits, labels), jax.nn.softmax(golden["initial_logits"]), 1e-12)


def test_where_no_teacher_finds_the_class():
    logits = jnp.asarray([[[0.0, 3.0, 0.0]], [[0.0, 0.0, 2.0]]])
    found = teacher_labels(logits, jnp.array([0]))
    np.testing.assert_allclose(found, [[CERTAIN, 0.05, 0.05]], rtol=1e-6)


def test_logits_of_hard_labels():
    images = jnp.zeros((2, 8, 8, 3))
    rows = jax.nn.softmax(logits_of(jnp.array([0, 3]), NETWORK, images))
    rest = (1 - CERTAIN) / 3
    np.testing.assert_allclose(
        rows, [[CERTAIN, rest, rest, rest], [rest, rest, rest, CERTAIN]], rtol=1e-5
    )


def test_start_epochs_grow(golden):
    for settings, uppers in zip(golden["range_settings"], golden["range_upper"], strict=True):
        lowest, early, last, growth = map(int, settings)
        schedule = SCHEDULE._replace(
            start_epochs=last, first_epoch=lowest, early_epochs=early, growth=growth, teachers=3
        )
        found = [int(schedule.bound(int(step))) for step in golden["range_iterations"]]
        assert found == uppers.tolist()


def test_start_epochs_that_grow_too_slowly_are_named(tmp_path):
    flags = shlex.split(
        "--width 8 --depth 1 --augment crop --teachers 1 --epochs 4 --student-steps 4 --steps 7 "
        "--early-start-epoch 1 --max-start-epoch 2 --dry-run --growth-steps"
    )
    for growth, is_said in (("6", False), ("7", True)):
        done = call(tmp_path, "distill", *flags, growth)
        assert done.returncode == 0, done.stderr
        assert ("Start epochs never reach --max-start-epoch" in done.stderr) == is_said
    # Of seven steps the last is the one numbered six.
    assert Schedule(6, 1, 3, 4, 1, 7, early_epochs=1, growth=6).bound(6) == 3
    assert Schedule(6, 1, 3, 4, 1, 7, early_epochs=1, growth=7).bound(6) < 3


def test_starts_are_drawn_between_the_bounds():
    schedule = SCHEDULE._replace(
        start_epochs=9, first_epoch=2, early_epochs=4, growth=200, steps=400, teachers=3
    )
    epochs = plan(0, schedule).epochs
    assert set(epochs[:20]) == {2, 3}
    assert set(epochs[250:]) == {2, 3, 4, 5, 6, 7, 8}
    rest = plan(0, schedule, 100).epochs
    np.testing.assert_array_equal(rest, epochs[100:])


def test_steps_that_are_all_passed_over_are_no_result(tmp_path):
    flags = shlex.split(
        "--augment crop --width 8 --depth 1 --teachers 1 --epochs 4 --student-steps 2 --steps 4 "
        "--max-start-epoch 2 --eval-every 0 --random-draws 0 --skip-above 0.001 --no-baselines "
        "--out run"
    )
    done = call(tmp_path, "distill", *flags)
    assert done.returncode == 2
    assert "every step had a loss above --skip-above and changed nothing; raise it" in done.stderr


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"min_start_epoch": 2},
            "wanted one below --max-start-epoch, which is 2",
        ),
        ({"early_start_epoch": 3}, "--early-start-epoch is 3; wanted one above"),
        ({"early_start_epoch": 1, "min_start_epoch": 1}, "--early-start-epoch is 1"),
        ({"growth_steps": 0}, "--growth-steps is 0"),
        ({"label_rate": -1.0}, "--label-rate is -1"),
        ({"skip_above": 0.0}, "--skip-above is 0"),
    ],
)
def test_settings_out_of_range_are_refused(changes, words):
    with pytest.raises(InputError, match=words):
        TrajectoryConfig(**changes)


def test_the_command(tmp_path):
    flags = shlex.split(
        "--augment crop --width 8 --depth 1 --teachers 2 --epochs 6 --student-steps 4 "
        "--max-start-epoch 4 --early-start-epoch 1 --growth-steps 10 --steps 20 --networks 2 "
        "--eval-epochs 20 --random-draws 1 --eval-every 0 --learn-labels --skip-above 0.88 "
        "--out run"
    )
    done = call(tmp_path, "distill", *flags)
    assert done.returncode == 0, done.stderr
    assert "DDPP (threshold 0.1), labels learned" in done.stdout
    result = json.loads((tmp_path / "run" / "result.json").read_text())
    accuracies = {row["method"]: row["accuracies"] for row in result["rows"]}
    assert accuracies["random real images"] != accuracies["random real images, teachers' labels"]
    found = read_distilled(tmp_path / "run" / "distilled.safetensors")
    assert found.labels.shape == (10, 10)
    np.testing.assert_allclose(found.labels.sum(axis=1), 1, rtol=1e-5)
    assert found.labels.argmax(axis=1).tolist() == list(range(10))
    rows = read_rows(tmp_path / "run" / "metrics.jsonl")[1:]
    assert {row["start_epoch"] for row in rows[:3]} == {0}
    assert max(row["start_epoch"] for row in rows) > 1
    over = [row["loss"] > 0.88 for row in rows]
    assert [row.get("passed_over", False) for row in rows] == over
    assert 0 < sum(over) < 20
    assert "skipped" not in json.dumps(rows)
