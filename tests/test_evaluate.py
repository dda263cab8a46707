"""Evaluation: the published schedule against golden numbers, and its figures."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
import torch_layout
from test_goldens import close

from ddpp_jax import evaluate
from ddpp_jax.configs import DataConfig, EvaluateConfig, ModelConfig
from ddpp_jax.data import load_dataset, random_per_class
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import networks
from ddpp_jax.networks import ConvNet, make_network
from ddpp_jax.progress import Report
from ddpp_jax.sets import DistilledSet
from ddpp_jax.storage import Checkpoints


@pytest.mark.usefixtures("float64")
def test_the_published_schedule():
    golden = torch_layout.load("evaluation.npz")
    model = ConvNet(classes=4, width=6, depth=2, image_size=8)
    convert = partial(torch_layout.convnet_params, shapes=golden["shapes"], side=2)
    state = evaluate.start_from(convert(golden["start"]))
    config = EvaluateConfig(eval_epochs=int(golden["epochs"]))
    step = jax.jit(
        partial(
            evaluate.step,
            network=make_network(model, (8, 8, 3)),
            config=config,
            augment_fn=lambda key, images: images,
        )
    )
    images, rest = torch_layout.images(golden["images"]), (golden["labels"], golden["lr"])
    small_set = (images, *map(jnp.asarray, rest))
    for epoch in range(config.eval_epochs + 1):
        key = jax.random.key(epoch)
        state, _ = step(key, state, jnp.asarray(epoch), small_set)
    jax.tree.map(lambda a, b: close(a, b, 1e-9), state.params, convert(golden["trained"]))


def run(seed=0, alpha=0.1, labels=None, checkpoints=None, network=None, **changes):
    data = small.dataset()
    images, own = random_per_class(jax.random.key(1), data, 3)
    config = EvaluateConfig(**{"networks": 3, "eval_epochs": 60} | changes)
    found = evaluate.run(
        jax.random.key(seed),
        evaluate.Procedure(config, (), 3),
        network or small.network(),
        DistilledSet(images, own if labels is None else labels, alpha),
        {"test": (data.x_test, data.y_test)},
        Report(None),
        checkpoints=checkpoints,
    )
    return found["test"].accuracies


def test_networks_learn_from_the_set():
    found = run()
    assert found.shape == (3,)
    assert found.mean() > 0.6


def test_wrong_labels_teach_nothing():
    turned = run(labels=np.array([1, 1, 1, 2, 2, 2, 0, 0, 0], np.int32))
    assert turned.mean() < 0.2


def test_every_network_and_epoch_has_draws_of_its_own(monkeypatch):
    keys, evaluated = [], []

    def recorded(key, images, *, operations):
        jax.debug.callback(
            lambda data: keys.append(bytes(np.asarray(data))), jax.random.key_data(key)
        )
        return images

    def guess(params, images, *, apply_fn, parts_fn):
        evaluated.append(np.asarray(params["Dense_0"]["kernel"]))
        return np.zeros((3, len(images)), int)

    monkeypatch.setattr(networks, "augment", recorded)
    monkeypatch.setattr(networks, "predictions", guess)
    run(eval_epochs=4, network=small.fresh_network())
    jax.effects_barrier()
    assert len(keys) == len(set(keys)) == 3 * 5
    assert len({bytes(kernel) for kernel in evaluated[0]}) == 3


def test_same_seed_same_figures():
    np.testing.assert_array_equal(run(), run())
    assert np.any(run(eval_epochs=5, alpha=0.01) != run(seed=1, eval_epochs=5, alpha=0.01))


def test_how_many_epochs_a_call_makes_does_not_show(monkeypatch):
    whole = run(eval_epochs=40)
    monkeypatch.setattr(networks, "_EPOCHS_A_CALL", 7)
    np.testing.assert_array_equal(run(eval_epochs=40), whole)


def test_how_many_networks_are_at_work_at_a_time_does_not_show(monkeypatch):
    whole = run(eval_epochs=40)
    monkeypatch.setattr(networks, "_EPOCHS_A_CALL", 7)
    monkeypatch.setattr(networks, "_SECONDS_A_CALL", 1e9)
    monkeypatch.setattr(networks, "_LEAST_SECONDS", 0.0)
    monkeypatch.setattr(networks, "workers", lambda members: 2)
    tried, train = [], networks.advance_all

    def noted(*given, at_a_time, **settings):
        tried.append(at_a_time)
        return train(*given, at_a_time=at_a_time, **settings)

    monkeypatch.setattr(networks, "advance_all", noted)
    np.testing.assert_array_equal(run(eval_epochs=40), whole)
    assert tried[:3] == [2, 2, 1]
    assert len(set(tried[3:])) == 1


def test_the_faster_way_is_taken():
    assert networks._at_a_time({}, 2) == 2
    assert networks._at_a_time({2: 1.0}, 2) == 1
    assert networks._at_a_time({2: 1.0, 1: 0.5}, 2) == 1
    assert networks._at_a_time({2: 0.4, 1: 0.5}, 2) == 2
    assert networks._at_a_time({1: 0.5}, 1) == 1


def test_stopped_half_way_it_goes_on_to_the_same_figures(tmp_path, monkeypatch):
    whole = run(eval_epochs=40)
    monkeypatch.setattr(networks, "_EPOCHS_A_CALL", 7)
    monkeypatch.setattr(networks, "_SECONDS_BETWEEN_CHECKPOINTS", 0.0)
    monkeypatch.setattr(networks, "_SECONDS_A_CALL", 1e9)
    checkpoints, calls = Checkpoints(tmp_path / "judging"), []
    train = networks.advance_all

    def stopped(members, pieces, *given, **settings):
        calls.append(pieces[0][0])
        if len(calls) == 4:
            raise KeyboardInterrupt
        return train(members, pieces, *given, **settings)

    monkeypatch.setattr(networks, "advance_all", stopped)
    with pytest.raises(KeyboardInterrupt):
        run(eval_epochs=40, checkpoints=checkpoints)
    np.testing.assert_array_equal(run(eval_epochs=40, checkpoints=checkpoints), whole)
    # Each call begins where the one before it ended, and the one that was stopped begins again.
    assert calls == [0, 1, 8, 15, 15, 16, 23, 30, 37]
    assert not checkpoints.folder.exists()


def test_the_evaluation_counts_every_image_of_every_network():
    labels = np.array([0, 0, 1, 2])
    guesses = np.array([[0, 1, 1, 2], [0, 0, 0, 1]])
    found = evaluate.evaluation_of(guesses, labels, 4, diverged=1)
    expected = np.zeros((4, 4), int)
    for network in guesses:
        for truth, guess in zip(labels, network, strict=True):
            expected[truth, guess] += 1
    np.testing.assert_array_equal(found.confusion, expected)
    np.testing.assert_allclose(found.accuracies, [0.75, 0.5])
    assert (found.mean, found.std, found.diverged) == (0.625, 0.125, 1)
    np.testing.assert_allclose(found.per_class, [3 / 4, 1 / 2, 1 / 2, np.nan])


def test_several_test_sets_are_seen_by_the_same_networks():
    data = small.dataset()
    images, labels = random_per_class(jax.random.key(1), data, 3)
    half = {"first": slice(0, 10), "second": slice(10, 20)}
    tests = {name: (data.x_test[part], data.y_test[part]) for name, part in half.items()}
    found = evaluate.run(
        jax.random.key(0),
        evaluate.Procedure(EvaluateConfig(networks=3, eval_epochs=60), (), 3),
        small.network(),
        DistilledSet(images, labels, 0.1),
        tests,
        Report(None),
    )
    together = (found["first"].accuracies + found["second"].accuracies) / 2
    np.testing.assert_allclose(together, run())


def test_networks_that_diverge_are_counted():
    data = small.dataset()
    images, labels = random_per_class(jax.random.key(1), data, 3)
    found = evaluate.run(
        jax.random.key(0),
        evaluate.Procedure(EvaluateConfig(networks=2, eval_epochs=20), (), 3),
        small.network(),
        DistilledSet(images, labels, 1e30),
        {"test": (data.x_test, data.y_test)},
        Report(None),
    )["test"]
    assert found.diverged == 2
    assert found.confusion.sum() == 2 * len(data.y_test)


def scored(labels, seed=0, **changes):
    """The digits' evaluation on a hundred real ones with the given labels."""
    data = load_dataset(DataConfig())
    images, own = random_per_class(jax.random.key(0), data, 10)
    return evaluate.score(
        DistilledSet(images, labels(own), 0.05),
        data.x_test,
        data.y_test,
        model=ModelConfig(width=8, depth=1),
        config=EvaluateConfig(networks=2, eval_epochs=60),
        operations=(),
        seed=seed,
        **changes,
    )


def test_labels_as_they_are_teach_and_shuffled_ones_give_chance():
    assert scored(lambda own: own).mean > 0.75
    shuffled = [scored(np.random.default_rng(seed).permutation, seed).mean for seed in range(4)]
    assert 0.04 < np.mean(shuffled) < 0.16  # chance is 0.1


def test_soft_labels_that_are_certain_teach_as_hard_ones_do():
    hard = scored(lambda own: own)
    soft = scored(lambda own: np.eye(10, dtype=np.float32)[own])
    assert soft.mean == pytest.approx(hard.mean, abs=0.02)
    assert soft.confusion.shape == (10, 10)


def test_score_is_the_same_twice_and_takes_an_architecture_by_name():
    first, second = (scored(lambda own: own) for _ in range(2))
    np.testing.assert_array_equal(first.accuracies, second.accuracies)
    with pytest.raises(InputError, match="no architecture 'lenet'"):
        scored(lambda own: own, architecture="lenet")
    with pytest.raises(InputError, match=r"8x8 are too small for VGG11"):
        scored(lambda own: own, architecture="vgg11")


X = np.random.default_rng(0).normal(size=(6, 8, 8, 1)).astype(np.float32)
Y = np.array([0, 0, 1, 1, 2, 2])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"labels": Y * 0}, "one class only, number 0"),
        ({"labels": np.eye(3, dtype=np.float32)[Y * 0]}, "one class only, number 0"),
        ({"labels": Y - 1}, "the set's labels hold -1"),
        ({"labels": Y[:4]}, r"of shape \(4,\) for 6 images"),
        ({"labels": np.full((6, 2), 0.5, np.float32)}, "2 probabilities for each image"),
        ({"images": np.nan * X}, "the set's images hold NaN"),
        ({"images": X[:0], "labels": Y[:0]}, "wanted at least one image"),
        ({"x_test": X[:, :4, :4]}, "8x8x1, the test images 4x4x1"),
        ({"y_test": Y[:3]}, "for 6 images"),
        ({"labels": Y + 1}, "has label 3; wanted 0 to 2"),
        ({"alpha": -1.0}, "--alpha is -1; wanted a number above 0"),
        ({"seed": -1}, "--seed is -1"),
        ({"operations": ("shear",)}, "no augmentation is called 'shear'"),
    ],
)
def test_score_refuses_what_cannot_be_evaluated(changes, words):
    given = {"images": X, "labels": Y, "x_test": X, "y_test": Y, "alpha": 0.1} | changes
    small = DistilledSet(*(given.pop(name) for name in ("images", "labels", "alpha")))
    with pytest.raises(InputError, match=words):
        evaluate.score(small, **given)
