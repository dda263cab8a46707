"""Selection against brute force on small sets."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small

from ddpp_jax import select
from ddpp_jax.data import random_indices

LABELS = np.repeat([0, 1, 2], [7, 9, 8])[np.random.default_rng(3).permutation(24)]
FEATURES = np.random.default_rng(4).normal(0.5, 1.0, (24, 5))


def members(label):
    return np.flatnonzero(label == LABELS)


def balanced(chosen, ipc):
    assert len(set(chosen.tolist())) == len(chosen)
    assert LABELS[chosen].tolist() == sorted([0, 1, 2] * ipc)


def test_random_images_are_balanced_and_follow_the_key():
    chosen = random_indices(jax.random.key(0), LABELS.astype(np.int32), 4, classes=3)
    balanced(chosen, 4)
    other = random_indices(jax.random.key(1), LABELS.astype(np.int32), 4, classes=3)
    assert chosen.tolist() != other.tolist()


@pytest.mark.parametrize("ipc", [1, 3, 7])
def test_herding_is_the_greedy_smallest_error_of_the_mean(ipc):
    units = FEATURES / np.sqrt((FEATURES**2).sum(axis=1, keepdims=True))
    expected = []
    for label in range(3):
        mean, chosen = units[members(label)].mean(axis=0), []
        for _ in range(ipc):
            left = [i for i in members(label) if i not in chosen]
            errors = [((units[[*chosen, i]].mean(axis=0) - mean) ** 2).sum() for i in left]
            chosen.append(left[int(np.argmin(errors))])
        expected += chosen
    chosen = select.herding(FEATURES, LABELS, ipc)
    assert chosen.tolist() == expected
    balanced(chosen, ipc)


def test_herding_does_not_ask_how_long_features_are():
    lengths = np.random.default_rng(5).uniform(0.1, 9, (24, 1))
    chosen = select.herding(FEATURES, LABELS, 4)
    np.testing.assert_array_equal(select.herding(lengths * FEATURES, LABELS, 4), chosen)


def radius(points, centres):
    distances = np.sqrt(((points[:, None] - points[centres][None]) ** 2).sum(axis=2))
    return distances.min(axis=1).max()


@pytest.mark.parametrize("ipc", [2, 3, 4])
def test_k_centre_covers_at_most_twice_as_badly_as_the_best_choice(ipc):
    chosen = select.k_centre(FEATURES, LABELS, ipc)
    balanced(chosen, ipc)
    for label in range(3):
        own = members(label)
        points = FEATURES[own]
        found = [own.tolist().index(i) for i in chosen[LABELS[chosen] == label]]
        choices = itertools.combinations(range(len(own)), ipc)
        best = min(radius(points, list(choice)) for choice in choices)
        assert radius(points, found) <= 2 * best
        # Each is the farthest from those before it, the first the nearest to the mean.
        assert found[0] == np.argmin(((points - points.mean(axis=0)) ** 2).sum(axis=1))
        for place in range(1, ipc):
            distances = [min(np.linalg.norm(p - points[f]) for f in found[:place]) for p in points]
            assert found[place] == np.argmax(distances)


def test_forgetting_events_are_counted_image_by_image():
    histories = {
        "110110": 2,
        "010101": 2,
        "000000": 6,  # never learnt: more than any other
        "111111": 0,
        "000001": 0,
        "100000": 1,
    }
    correct = np.array([[c == "1" for c in history] for history in histories]).T
    np.testing.assert_array_equal(select.forgetting_events(correct), list(histories.values()))


@pytest.mark.parametrize("most", [True, False])
def test_forgetting_takes_the_extremes_and_draws_among_equals(most):
    events = np.random.default_rng(6).integers(0, 4, 24)
    orders = {}
    for seed in range(20):
        chosen = select.forgetting(jax.random.key(seed), events, LABELS, 3, most=most)
        balanced(chosen, 3)
        for label in range(3):
            counts = sorted(events[members(label)], reverse=most)[:3]
            assert events[chosen[LABELS[chosen] == label]].tolist() == counts
        orders[tuple(chosen)] = seed
    assert len(orders) > 1


def test_features_are_what_the_linear_layer_takes():
    network, data = small.network(), small.dataset()
    params = network.init_fn(jax.random.key(0))
    images = jnp.asarray(data.x_train)
    features = select.features_of(params, images, network=network)
    assert features.shape == (40, 16)
    layer = params["Dense_0"]
    logits = features @ np.asarray(layer["kernel"]) + np.asarray(layer["bias"])
    np.testing.assert_allclose(logits, network.apply_fn(params, images), atol=1e-5)
