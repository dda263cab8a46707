"""Architecture search by proxies: the grid, its networks, their training and their ranks."""

import dataclasses
import functools
import itertools
import json
import math
import re
import warnings
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax import lax
from rich.console import Console
from scipy import stats
from test_layers import ROOT, imports

from ddpp_jax import search
from ddpp_jax.configs import ACTIVATIONS, NORMS, POOLINGS, EvaluateConfig, SearchConfig, SearchJob
from ddpp_jax.configs.checks import MOST
from ddpp_jax.core import augment
from ddpp_jax.errors import InputError
from ddpp_jax.evaluate import networks as evaluated
from ddpp_jax.evaluate import schedule
from ddpp_jax.networks import ConvNet, pooled, switched
from ddpp_jax.networks.layers import Conv, linear
from ddpp_jax.progress import Report
from ddpp_jax.results.searches import closing_words, proxies_table
from ddpp_jax.search import Architecture, TrainingSet, ranking
from ddpp_jax.search import training as inner
from ddpp_jax.training import Training, train_epoch

USUAL = Architecture(4, 1, "relu", "average", "instance")
BATCH = Architecture(4, 1, "relu", "average", "batch")
SHAPE, CLASSES = (4, 4, 1), 3
MANNER = search.Manner(SHAPE, CLASSES, batch_size=4)
README = ROOT / "search" / "README.md"
close = partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)


def images(count, seed=0, shape=SHAPE):
    return jnp.asarray(np.random.default_rng(seed).normal(size=(count, *shape)), jnp.float32)


def labels(count):
    return np.arange(count, dtype=np.int32) % CLASSES


# The room

BELOW = {"_types", "errors", "text", "core", "configs", "storage", "networks", "data", "progress"}
BELOW |= {"training", "sets", "evaluate", "results", "search"}


def test_the_room_knows_no_method_of_distillation():
    for path in (ROOT / "search").glob("*.py"):
        if path.stem != "__main__":
            inside = {m.split(".")[1] for m in imports(path) if m.startswith("ddpp_jax.")}
            assert inside <= BELOW, path.name


# The grid


def test_the_published_grid_has_720_networks_in_their_order():
    found = search.grid(SearchConfig())
    assert len(found) == len({one.name for one in found}) == 720
    by_hand = itertools.product((32, 64, 128, 256), (1, 2, 3, 4), ACTIVATIONS, POOLINGS, NORMS)
    assert [tuple(one) for one in found] == list(by_hand)
    assert found[0].name == "w32-d1-sigmoid-none-none"
    assert found[-1].name == "w256-d4-leaky-relu-average-group"


def test_a_part_of_the_grid_keeps_the_order_of_its_flags():
    config = SearchConfig(
        widths="8,4", depths="2", activations="relu", poolings="max", norms="none"
    )
    assert [one.width for one in search.grid(config)] == [8, 4]


def test_networks_that_halve_the_image_too_often_are_left_out():
    whole = search.grid(SearchConfig(widths="4"))
    found = search.fitting(whole, 8)
    assert {one.depth for one in found if one.pooling != "none"} == {1, 2, 3}
    assert {one.depth for one in found if one.pooling == "none"} == {1, 2, 3, 4}
    assert len(whole) - len(found) == 3 * 2 * 5
    with pytest.raises(InputError, match="0 of the 1 networks can take images of 2x2"):
        search.fitting([USUAL._replace(depth=2)], 2)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"widths": "8,x"}, "--widths has 'x'; wanted whole numbers from 1 to"),
        ({"widths": ""}, "--widths has ''"),
        ({"widths": f"{MOST['width'] + 1}"}, "--widths has '1048577'"),
        ({"depths": "0"}, "--depths has '0'; wanted whole numbers from 1 to 30"),
        ({"depths": "1,1"}, "--depths names 1 twice"),
        ({"norms": "batch,weight"}, "--norms has 'weight'; wanted some of none,batch,layer"),
        ({"activations": "relu,relu"}, "--activations names relu twice"),
        ({"poolings": "mean"}, "--poolings has 'mean'"),
        ({"full": "0"}, "--full is '0'; wanted all"),
        ({"full": "best"}, "--full is 'best'"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_a_line(changes, words):
    with pytest.raises(InputError) as caught:
        SearchConfig(**changes)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["ipc", "proxy_epochs", "full_epochs", "networks", "eval_batch"])
@pytest.mark.parametrize("value", [10**10, 10**400, 0, -1])
def test_sizes_that_make_no_sense_are_refused(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} is .*; wanted"):
        SearchConfig(**{name: value})


@pytest.mark.parametrize("name", ["rate", "real_rate"])
@pytest.mark.parametrize("value", [1e39, -1.0, 0.0, math.nan])
def test_rates_beyond_float32_are_refused(name, value):
    with pytest.raises(InputError, match=f"--{name.replace('_', '-')} is .*; wanted"):
        SearchJob(**{name: value})


def test_a_search_needs_images_to_choose_by():
    data = dataclasses.replace(SearchJob().data, held_out=None)
    with pytest.raises(InputError, match="--held-out is none; a search chooses by"):
        SearchJob(data=data)


def test_group_norm_needs_widths_that_its_groups_divide():
    with pytest.raises(InputError, match="--widths has 6, which makes no 4 equal groups"):
        search.grid(SearchConfig(widths="8,6"))
    assert search.grid(SearchConfig(widths="6", norms="layer"))


# The networks


class Before(nn.Module):
    """The ConvNet as it was before it had other norms, activations and pooling."""

    @nn.compact
    def __call__(self, x):
        for block in range(2):
            x = Conv(4, name=f"Conv3x3_{block}")(x)
            x = InstanceNorm()(x)
            x = nn.relu(x)
            n, h, w, c = x.shape
            x = x.reshape(n, h // 2, 2, w // 2, 2, c).mean(axis=(2, 4))
        return linear(x.reshape(len(x), -1), CLASSES)


class InstanceNorm(nn.Module):
    @nn.compact
    def __call__(self, x):
        scale = self.param("scale", nn.initializers.ones, (x.shape[3],), jnp.float32)
        shift = self.param("shift", nn.initializers.zeros, (x.shape[3],), jnp.float32)
        centred = x - x.mean(axis=(1, 2), keepdims=True)
        variance = jnp.square(centred).mean(axis=(1, 2), keepdims=True)
        inverse = lax.rsqrt(variance + 1e-5)
        scale, shift = (v[None, None, None, :] for v in (scale, shift))
        return centred * (inverse * scale) + shift


def test_the_usual_convnet_keeps_its_names_and_its_bits():
    x, key = images(5), jax.random.key(7)
    now = ConvNet(CLASSES, width=4, depth=2, image_size=4, channels=1)
    old, new = (model.init(key, x)["params"] for model in (Before(), now))
    assert jax.tree.structure(old) == jax.tree.structure(new)
    jax.tree.map(np.testing.assert_array_equal, old, new)

    def bits(model):
        def energy(params):
            return jnp.square(model.apply({"params": params}, x)).sum()

        return jax.jit(jax.value_and_grad(energy))(old)

    jax.tree.map(np.testing.assert_array_equal, bits(Before()), bits(now))


def by_hand(params, x, architecture, statistics=None):
    """The logits, in NumPy and float64, an image and a channel at a time."""
    params = jax.tree.map(partial(np.asarray, dtype=np.float64), params)
    x = np.asarray(x, np.float64)
    for block in range(architecture.depth):
        kernel, bias = (params[f"Conv3x3_{block}"][n] for n in ("kernel", "bias"))
        padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
        side = x.shape[1]
        out = np.zeros((len(x), side, side, kernel.shape[3]))
        for i, j in itertools.product(range(side), range(side)):
            window = padded[:, i : i + 3, j : j + 3]
            out[:, i, j] = np.einsum("nabc,abcf->nf", window, kernel) + bias
        x = norm_by_hand(out, params, architecture.norm, block, statistics)
        if architecture.activation == "sigmoid":
            x = 1 / (1 + np.exp(-x))
        else:
            x = np.where(x > 0, x, {"relu": 0.0, "leaky-relu": 0.01}[architecture.activation] * x)
        if architecture.pooling != "none":
            half = side // 2
            cells = [x[:, a : 2 * half : 2, b : 2 * half : 2] for a in (0, 1) for b in (0, 1)]
            x = np.max(cells, axis=0) if architecture.pooling == "max" else np.mean(cells, axis=0)
    return x.reshape(len(x), -1) @ params["Dense_0"]["kernel"] + params["Dense_0"]["bias"]


def norm_by_hand(x, params, norm, block, statistics):
    if norm == "none":
        return x
    name = f"{norm.capitalize()}Norm_{block}"
    scale, shift = (params[name][n] for n in ("scale", "shift"))
    out = np.empty_like(x)
    channels = x.shape[3]
    for image, channel in itertools.product(range(len(x)), range(channels)):
        group = channel // (channels // 4)
        part = {
            "batch": x[..., channel],
            "layer": x[image],
            "instance": x[image, ..., channel],
            "group": x[image, ..., group * channels // 4 : (group + 1) * channels // 4],
        }[norm]
        mean, variance = part.mean(), part.var()
        if statistics is not None:
            mean, variance = (statistics[name][n][channel] for n in ("mean", "variance"))
        normed = (x[image, ..., channel] - mean) / np.sqrt(variance + 1e-5)
        out[image, ..., channel] = normed * scale[..., channel] + shift[..., channel]
    return out


VARIANTS = [
    *(Architecture(8, 2, "relu", "average", norm) for norm in NORMS),
    *(Architecture(8, 2, activation, "max", "none") for activation in ACTIVATIONS),
    Architecture(8, 2, "leaky-relu", "none", "group"),
]


@pytest.mark.parametrize("architecture", VARIANTS, ids=lambda one: one.name)
def test_every_norm_activation_and_pooling_by_hand(architecture):
    x = images(3, shape=(5, 5, 2))
    network = search.network_of(architecture, (5, 5, 2), CLASSES)
    params = network.init_fn(jax.random.key(0))
    # Scales and shifts that are not all the same.
    params = jax.tree.map(lambda leaf: leaf + 0.1 * images(1, 1, leaf.shape)[0], params)
    close(network.apply_fn(params, x), by_hand(params, x, architecture), rtol=1e-4, atol=1e-4)
    assert network.num_params == search.parameters(architecture, (5, 5, 2), CLASSES)


def test_layer_norm_scales_every_feature_as_pytorchs_does():
    network = search.network_of(USUAL._replace(norm="layer"), SHAPE, CLASSES)
    assert dict(network.tensors)["LayerNorm_0/scale"] == (4, 4, 4)


def test_what_is_unknown_is_refused():
    for changes in ({"norm": "weight"}, {"pooling": "mean"}, {"activation": "gelu"}):
        with pytest.raises(InputError, match=r"there is no|has no"):
            search.network_of(USUAL._replace(**changes), SHAPE, CLASSES)
    with pytest.raises(InputError, match="6 channels make no 4 equal groups"):
        search.network_of(USUAL._replace(width=6, norm="group"), SHAPE, CLASSES)


def test_an_activation_may_be_told_when_a_program_runs():
    x = jnp.asarray([-2.0, 0.5])[None, None, None]
    for place, name in enumerate(ACTIVATIONS):
        found = jax.jit(lambda place, x: switched(place)(x))(jnp.int32(place), x)
        wanted = {"sigmoid": nn.sigmoid, "relu": nn.relu, "leaky-relu": nn.leaky_relu}[name](x)
        np.testing.assert_allclose(found, wanted, rtol=1e-6)


# Batch norm


def test_batch_norm_takes_statistics_that_it_is_given():
    network = search.network_of(BATCH._replace(depth=2), SHAPE, CLASSES)
    params = network.init_fn(jax.random.key(0))
    seen, other = images(6), images(4, seed=1)
    statistics = network.statistics_fn(params, seen)
    assert set(statistics) == {"BatchNorm_0", "BatchNorm_1"}
    found = network.settled_fn((params, statistics), other)
    close(found, by_hand(params, other, BATCH._replace(depth=2), statistics), rtol=1e-4, atol=1e-4)
    # One by one they are the same, which by the batch's own statistics they are not.
    alone = [network.settled_fn((params, statistics), other[n : n + 1])[0] for n in range(4)]
    close(found, alone)
    assert not np.allclose(network.apply_fn(params, other), found, atol=1e-2)
    own = network.settled_fn((params, network.statistics_fn(params, other)), other)
    close(network.apply_fn(params, other), own)


def test_other_networks_have_no_statistics_and_are_tested_as_they_are():
    network = search.network_of(USUAL, SHAPE, CLASSES)
    params, x = network.init_fn(jax.random.key(0)), images(3)
    assert network.statistics_fn(params, x) == {}
    np.testing.assert_array_equal(network.settled_fn((params, {}), x), network.apply_fn(params, x))


def test_statistics_of_batches_taken_together():
    x = np.asarray(images(12), np.float64)
    batches = x.reshape(3, -1)
    each = {"mean": batches.mean(axis=1), "variance": batches.var(axis=1)}
    each = jax.tree.map(partial(jnp.asarray, dtype=jnp.float32), each)
    found = pooled({"BatchNorm_0": each})["BatchNorm_0"]
    close(found["mean"], x.mean())
    close(found["variance"], x.var())


def test_a_network_that_normalises_over_the_batch_is_never_cut():
    assert search.network_of(BATCH, SHAPE, CLASSES).parts(10**6) == 1
    assert search.network_of(USUAL, SHAPE, CLASSES).parts(10**6) > 1


def test_a_last_minibatch_is_filled_up_from_the_start_of_the_order():
    seen = []

    def apply_fn(params, x):
        jax.debug.callback(lambda x: seen.append(sorted(x[:, 0, 0, 0].tolist())), x)
        return x[:, 0, 0] * params[None, :]

    x = jnp.arange(5.0)[:, None, None, None] * jnp.ones((1, 1, 1, 3))
    training = Training(apply_fn, optax.sgd(0.0), 3, lambda key, x: x)
    train_epoch(
        jax.random.key(0),
        jnp.ones(3),
        optax.sgd(0.0).init(jnp.ones(3)),
        x,
        jnp.zeros(5, int),
        training,
    )
    jax.effects_barrier()
    whole, filled = {tuple(one) for one in seen if len(set(one)) == 3}, seen
    assert all(len(set(one)) == 3 for one in filled)
    assert set().union(*whole) == {0.0, 1.0, 2.0, 3.0, 4.0}


# Training


@functools.cache
def fitted(epochs, steps=0):
    given = TrainingSet("x", images(10), labels(10), 0.1, epochs, steps)
    return search.fit(jax.random.key(5), BATCH, given, MANNER)


def test_whole_epochs_are_those_of_every_evaluation():
    network = search.network_of(BATCH, SHAPE, CLASSES)
    keys = jax.random.split(jax.random.key(5), 1)
    small = (jnp.asarray(images(10)), jnp.asarray(labels(10)), jnp.float32(0.1))
    config = EvaluateConfig(networks=1, eval_epochs=5, eval_batch=4)
    key, state = keys[0], schedule.init(evaluated.named_key(keys[0], "init"), network=network)
    one = jax.jit(
        lambda index, state: schedule.step(
            jax.random.fold_in(evaluated.named_key(key, "epochs"), index),
            state,
            index,
            small,
            network=network,
            config=config,
            augment_fn=partial(augment, operations=()),
        )[0]
    )
    for index in range(6):
        state = one(jnp.int32(index), state)
    params, statistics = jax.tree.map(lambda leaf: leaf[0], fitted(6).settled)
    jax.tree.map(partial(close, rtol=1e-3, atol=1e-4), params, state.params)
    # Statistics of three batches of three, as the README says of ten images.
    batches = [network.statistics_fn(params, small[0][n : n + 3]) for n in (0, 3, 6)]
    wanted = pooled(jax.tree.map(lambda *leaves: jnp.stack(leaves), *batches))
    jax.tree.map(partial(close, rtol=1e-3, atol=1e-4), statistics, wanted)


def test_early_stop_makes_exactly_its_steps():
    full = TrainingSet("full data", images(10), labels(10), 0.1, 50)
    assert search.steps_of(10, 4) == 3
    assert search.steps_of(3, 4) == 1
    given = search.stopped_early(full, 8, 4, name="early-stop")
    assert (given.name, given.epochs, given.steps) == ("early-stop", 2, 2)
    assert given.total_steps(4) == 8
    assert full.total_steps(4) == 150


def test_the_steps_of_a_last_epoch_by_hand():
    """One epoch of three minibatches, and one step of a second epoch."""
    network = search.network_of(BATCH, SHAPE, CLASSES)
    own = jax.random.split(jax.random.key(5), 1)[0]
    params = network.init_fn(evaluated.named_key(own, "init"))
    optimizer = schedule.make_optimizer(0.1)
    state, x, y = optimizer.init(params), jnp.asarray(images(10)), jnp.asarray(labels(10))

    @jax.jit
    def step(params, state, places, weights):
        def loss(params):
            each = optax.softmax_cross_entropy_with_integer_labels(
                network.apply_fn(params, x[places]), y[places]
            )
            return (each * weights).sum() / weights.sum()

        updates, state = optimizer.update(jax.grad(loss)(params), state, params)
        return optax.apply_updates(params, updates), state

    for index, batches in ((0, 3), (1, 1)):
        order_key = jax.random.split(jax.random.fold_in(evaluated.named_key(own, "epochs"), index))
        order = np.asarray(jax.random.permutation(order_key[0], 10))
        places = np.concatenate([order, order[:2]]).reshape(3, 4)
        weights = np.ones((3, 4), np.float32)
        weights[2, 2:] = 0
        for number in range(batches):
            params, state = step(params, state, places[number], weights[number])
    found = jax.tree.map(lambda leaf: leaf[0], fitted(1, steps=1).settled[0])
    jax.tree.map(partial(close, rtol=1e-3, atol=1e-4), found, params)


def test_a_networks_figures_are_the_same_again_and_count_by_hand():
    given = TrainingSet("x", images(10), labels(10), 0.1, 6)
    tests = {"held-out": (images(7, 2), labels(7)), "test": (images(5, 3), labels(5))}
    found = search.train(jax.random.key(5), BATCH, given, tests, MANNER)
    again = search.train(jax.random.key(5), BATCH, given, tests, MANNER)
    network = search.network_of(BATCH, SHAPE, CLASSES)
    settled = jax.tree.map(lambda leaf: leaf[0], fitted(6).settled)
    for name, (x, y) in tests.items():
        share = (np.asarray(network.settled_fn(settled, x)).argmax(axis=1) == y).mean()
        np.testing.assert_array_equal(found.accuracies[name], again.accuracies[name])
        assert found.accuracies[name].tolist() == [share]
    assert found.diverged == 0
    assert found.seconds > 0


# Ranks


PROXY = np.array([0.31, 0.50, 0.42, 0.42, 0.77, 0.12, 0.60, 0.58])
FULL = np.array([0.70, 0.71, 0.69, 0.80, 0.85, 0.50, 0.80, 0.81])


@pytest.mark.parametrize("top", [None, 2, 5, 7])
def test_spearman_among_the_best_against_scipy(top):
    places = sorted(range(8), key=lambda n: (-FULL[n], n))[:top]
    wanted = stats.spearmanr(PROXY[places], FULL[places]).statistic
    found = search.correlation(jax.random.key(0), PROXY, FULL, top=top, resamples=50)
    assert found.networks == len(places)
    assert found.value == pytest.approx(wanted)
    assert -1 <= found.low <= found.high <= 1


def test_the_interval_is_that_of_a_bootstrap():
    key, order = jax.random.key(3), np.argsort(-FULL, kind="stable")
    draws = order[np.asarray(jax.random.randint(key, (40, 8), 0, 8))]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", stats.ConstantInputWarning)
        each = [stats.spearmanr(PROXY[draw], FULL[draw]).statistic for draw in draws]
    found = search.correlation(key, PROXY, FULL, resamples=40)
    low, high = np.nanpercentile(each, [2.5, 97.5])
    assert (found.low, found.high) == (pytest.approx(low), pytest.approx(high))


def test_no_order_is_no_correlation():
    found = search.correlation(jax.random.key(0), np.full(4, 0.5), FULL[:4])
    assert found.networks == 4
    assert np.isnan([found.value, found.low, found.high]).all()


def test_equal_ones_come_in_their_order():
    assert ranking.best(np.array([0.5, 0.9, 0.9, 0.1]), 3).tolist() == [1, 2, 0]


# What is kept and found


ARCHITECTURES = [USUAL._replace(width=width) for width in (4, 8, 12, 16, 20, 24)]
HELD = {"a": [0.1, 0.9, 0.9, 0.2, 0.3, 0.0], "b": [0.5, 0.4, 0.3, 0.2, 0.1, 0.0]}
TEST = {"a": [0.2, 0.7, 0.8, 0.1, 0.3, 0.1], "b": [0.6, 0.5, 0.4, 0.3, 0.2, 0.1]}
WHOLE = [0.60, 0.80, 0.95, 0.70, 0.65, 0.50]


def kept(path, full=ARCHITECTURES):
    trials = search.Trials(path, 1, pytest.fail)
    figures = {name: (TEST[name], HELD[name]) for name in HELD}
    figures["full data"] = (WHOLE, WHOLE[::-1])
    for name, (tests, held) in figures.items():
        for one, test, own in zip(ARCHITECTURES, tests, held, strict=True):
            if name in HELD or one in full:
                accuracies = {"test": np.array([test]), "held-out": np.array([own])}
                trials.add(one, name, search.Trained(accuracies, 2.0, 0.5, 0))
    return trials


def test_a_proxy_chooses_by_held_out_images(tmp_path):
    trials = kept(tmp_path / "rows.jsonl")
    assert search.chosen_by(ARCHITECTURES, trials, "a") == ARCHITECTURES[1]  # The first of equals.
    assert search.chosen_by(ARCHITECTURES, trials, "b") == ARCHITECTURES[0]


def test_which_networks_see_the_full_data(tmp_path):
    trials = kept(tmp_path / "rows.jsonl")
    chosen = partial(search.for_full_training, ARCHITECTURES, ["a", "b"], trials, seed=0)
    assert chosen(None) == ARCHITECTURES
    found = chosen(1)
    assert {ARCHITECTURES[0], ARCHITECTURES[1]} <= set(found)
    assert len(found) <= 3
    assert found == [one for one in ARCHITECTURES if one in found]
    drawn = {
        tuple(search.for_full_training(ARCHITECTURES, ["a"], trials, 1, seed=s)) for s in range(9)
    }
    assert len(drawn) > 1  # The draw depends on the seed.


def test_what_is_found_by_hand(tmp_path):
    trials = kept(tmp_path / "rows.jsonl")
    sizes = {one: search.parameters(one, SHAPE, CLASSES) for one in ARCHITECTURES}
    about = [search.Proxy("a", 30), search.Proxy("b", 60, 1.5)]
    found = search.findings(ARCHITECTURES, ARCHITECTURES, about, trials, sizes, seed=0)
    first, second = found["proxies"]
    assert [one["top"] for one in first["correlations"]] == [None, 5]
    for proxy, name in ((first, "a"), (second, "b")):
        for one in proxy["correlations"]:
            places = np.argsort(-np.array(WHOLE))[: one["top"]]
            wanted = stats.spearmanr(np.array(TEST[name])[places], np.array(WHOLE)[places])
            assert one["value"] == pytest.approx(wanted.statistic)
    assert (first["chosen"], first["chosen_accuracy"]) == (ARCHITECTURES[1].name, 0.80)
    assert (second["chosen"], second["chosen_accuracy"]) == (ARCHITECTURES[0].name, 0.60)
    assert (first["images"], second["selecting"], first["seconds"]) == (30, 1.5, 12.0)
    full = found["full"]
    assert (full["chosen"], full["chosen_accuracy"]) == (ARCHITECTURES[3].name, 0.70)
    assert (full["best_on_test"], full["best_on_test_accuracy"]) == (ARCHITECTURES[2].name, 0.95)
    rows = search.rows(found, 100)
    assert [row["mean"] for row in rows] == [0.80, 0.60, 0.70]
    assert [row["images"] for row in rows] == [30, 60, 100]
    console = Console(width=200, record=True)
    console.print(proxies_table(found, 100))
    assert re.search(r"w8-d1-relu-average-instance +│ +80.0", console.export_text())
    assert "on it w12-d1-relu-average-instance is best with 95.0 %" in closing_words(found)[-1]


def test_the_table_of_all_networks(tmp_path):
    full = ARCHITECTURES[1:]
    trials = kept(tmp_path / "rows.jsonl", full)
    sizes = dict.fromkeys(ARCHITECTURES, 7)
    about = [search.Proxy("a", 30)]
    found = search.findings(ARCHITECTURES, full, about, trials, sizes, seed=0)
    search.write_table(tmp_path / "networks.csv", found)
    header, first, second, *_ = (tmp_path / "networks.csv").read_text().splitlines()
    assert header == (
        "network,width,depth,activation,pooling,norm,parameters,"
        '"a, test","a, held-out","full data, test","full data, held-out"'
    )
    assert first == "w4-d1-relu-average-instance,4,1,relu,average,instance,7,0.2,0.1,,"
    assert second == "w8-d1-relu-average-instance,8,1,relu,average,instance,7,0.7,0.9,0.8,0.65"


class Counted(search.Grid):
    """Trains nothing; keeps what was asked for, and stops at some training."""

    def train(self, architecture, given):
        self.manner.append((architecture.name, given.name))
        if len(self.manner) == self.seed:
            raise KeyboardInterrupt
        number = np.array([architecture.width / 100 + len(given.name) / 1000])
        return search.Trained({"test": number, "held-out": number}, 1.0, 0.0, 0)


def train_all(path, stop=None):
    trials, done = search.Trials(path, 1, lambda _: None), []
    sets = [TrainingSet(name, images(1), labels(1), 0.1, 1) for name in ("a", "bc")]
    grid = Counted(done, stop, None)
    try:
        search.train_all(ARCHITECTURES, sets, grid, trials, Report(None), stage="train")
    except KeyboardInterrupt:
        assert stop is not None
    return trials, done


def test_a_search_that_is_killed_goes_on_with_what_is_left(tmp_path):
    whole, done = train_all(tmp_path / "whole.jsonl")
    assert len(done) == len(set(done)) == 12
    path = tmp_path / "killed.jsonl"
    train_all(path, stop=5)
    rows = path.read_text().splitlines(keepends=True)
    assert 4 <= len(rows) < 12
    # A kill may leave half of a row.
    path.write_text("".join(rows[:-1]) + rows[-1][:20])
    ended, again = train_all(path)
    assert len(again) == 12 - len(rows) + 1
    for one, name in itertools.product(ARCHITECTURES, ("a", "bc")):
        assert ended.of(one, name) == whole.of(one, name)
    assert not train_all(path)[1]


def test_damaged_rows_are_told_of_and_trained_again(tmp_path):
    path = tmp_path / "rows.jsonl"
    train_all(path)
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(lines[0].replace('"diverged": 0', '"diverged": 1') + "".join(lines[1:]))
    told = []
    trials = search.Trials(path, 1, told.append)
    assert not trials.has(*_of(lines[0]))
    assert trials.has(*_of(lines[1]))
    assert re.search(r"rows.jsonl, line 1 is damaged: .*; its network is trained again", told[0])
    with pytest.raises(InputError, match="is damaged: a network has not 2 accuracies; delete it"):
        search.Trials(path, 2, lambda _: None)


def _of(line):
    row = json.loads(line)
    return next(one for one in ARCHITECTURES if one.name == row["network"]), row["set"]


# The example


def test_the_example_of_the_room(capsys):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    x, y = images(24, shape=(8, 8, 1)), labels(24)
    names = {"x_small": x[:6], "y_small": y[:6], "x_train": x, "y_train": y}
    names["tests"] = {"test": (x, y)}
    exec(compile(code, "README.md", "exec"), names)
    assert names["found"].networks == 6
    assert str(names["found"].value) in capsys.readouterr().out


def test_the_program_of_a_network_does_not_depend_on_its_activation():
    assert USUAL.program == USUAL._replace(activation="sigmoid").program
    assert inner._place(USUAL._replace(activation="sigmoid")) == 0
