"""The parts of an audit against loops, enumerations, scikit-learn and closed forms."""

import itertools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import small
from scipy.stats import hypergeom, norm, ttest_1samp
from sklearn.metrics import roc_auc_score, roc_curve
from test_layers import ROOT, imports

from ddpp_jax import audit, distill
from ddpp_jax.audit import neighbours
from ddpp_jax.audit.copies import tail
from ddpp_jax.audit.exposure import scaled
from ddpp_jax.audit.findings import (
    are_copies,
    area_chance,
    copies_values,
    finds_members,
    power_values,
)
from ddpp_jax.audit.power import best_threshold
from ddpp_jax.audit.worst import most_vulnerable
from ddpp_jax.cli.attacking import as_many_steps
from ddpp_jax.configs import EvaluateConfig
from ddpp_jax.data import normalised, restricted
from ddpp_jax.evaluate import Procedure
from ddpp_jax.progress import Report

ALLOWED = {
    *("_types", "errors", "text", "core", "configs", "storage", "networks", "data", "progress"),
    *("training", "sets", "evaluate", "results", "audit"),
}


def draws(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def test_the_room_needs_no_method_and_no_stage_but_evaluation():
    for path in (ROOT / "audit").glob("*.py"):
        if path.stem != "__main__":
            rooms = {module.split(".")[1] for module in imports(path) if "ddpp_jax." in module}
            assert rooms <= ALLOWED, path.name


# Copies


@pytest.mark.parametrize("most", [1, 3, 1000])
def test_nearest_neighbours_are_those_of_a_loop(monkeypatch, most):
    monkeypatch.setattr(neighbours, "_MOST_QUERIES", most)
    monkeypatch.setattr(neighbours, "_MOST_REFERENCES", most + 1)
    queries, references = draws(7, 2, 2, 1), draws(11, 2, 2, 1, seed=1)
    found = audit.nearest(queries, references)
    for query, index, distance in zip(queries, found.indices, found.distances, strict=True):
        far = [math.sqrt(((query - one) ** 2).mean()) for one in references]
        assert index == int(np.argmin(far))
        assert distance == pytest.approx(min(far), rel=1e-12)
    itself = audit.nearest(references[2:5], references, own=np.arange(2, 5))
    for place, index in enumerate(itself.indices):
        far = [((references[place + 2] - one) ** 2).mean() for one in references]
        far[place + 2] = np.inf
        assert index == int(np.argmin(far))


def test_a_copy_is_at_no_distance_and_bytes_are_from_0_to_1():
    references = np.random.default_rng(0).integers(0, 256, (50, 4, 4, 3)).astype(np.uint8)
    found = audit.nearest(references[[7, 3]].astype(np.float32) / np.float32(255), references)
    assert found.indices.tolist() == [7, 3]
    assert found.distances.max() < 1e-7
    black, white = np.zeros((1, 2, 2, 1), np.uint8), np.full((1, 2, 2, 1), 255, np.uint8)
    assert audit.nearest(black, white).distances.tolist() == [1.0]
    assert audit.nearest(references[:2], references).distances.tolist() == [0, 0]


def test_the_chance_of_nearer_images_is_that_of_all_ways_to_draw():
    strata = np.array([0, 0, 0, 0, 1, 1, 1])
    places = np.array([0, 0, 0, 2, 3, 4, 4, 6])  # Some are nearest to several.
    counts = []
    for first in itertools.combinations(range(4), 2):
        for second in itertools.combinations(range(4, 7), 1):
            used = np.isin(np.arange(7), first + second)
            counts.append(int(used[places].sum()))
    expected = np.bincount(counts, minlength=9) / len(counts)
    used = np.isin(np.arange(7), [0, 2, 4])
    found = audit.chance_of(places, used, strata)
    np.testing.assert_allclose(found.distribution, expected, atol=1e-15)
    assert found.nearer == 6
    assert found.expected == pytest.approx(np.mean(counts))
    assert found.p_value == pytest.approx(np.mean(np.array(counts) >= 6))
    both = found.beside(found)
    sums = np.add.outer(counts, counts).ravel()
    assert (both.nearer, both.images) == (12, 16)
    assert both.p_value == pytest.approx(np.mean(sums >= 12))


def test_images_that_are_each_nearest_to_one_follow_the_hypergeometric_distribution():
    found = audit.chance_of(np.arange(9), np.arange(40) < 30, np.zeros(40, int))
    np.testing.assert_allclose(found.distribution, hypergeom(40, 30, 9).pmf(np.arange(10)))
    assert found.p_value == pytest.approx(hypergeom(40, 30, 9).sf(8))


def test_the_lowest_of_exchangeable_numbers():
    ways = list(itertools.combinations(range(7), 3))  # The ranks of three images among four others.
    for count in range(4):
        hit = sum(set(range(count)) <= set(ranks) for ranks in ways)
        assert tail(count, 3, 4) == pytest.approx(hit / len(ways))


def source(count, seed):
    return draws(count, 3, 3, 1, seed=seed), np.arange(count) % 2


def test_copies_are_found_and_what_is_none_is_not():
    (used, used_labels), (unused, unused_labels) = source(60, 1), source(40, 2)
    real = audit.Real(used, unused, used_labels, unused_labels)
    fresh, _ = source(20, 3)
    p_values = []
    for seed in range(10, 30):
        near = audit.find_copies(source(20, seed)[0], real)
        p_values.append((near.chance.p_value, near.near_p_value))
    assert np.mean(np.array(p_values) < 0.05, axis=0).max() <= 0.2
    near = audit.find_copies(np.concatenate([fresh[:17], used[[4, 9, 30]]]), real)
    assert near.near[17:].all()
    assert near.used.indices[17:].tolist() == [4, 9, 30]
    assert near.ratios[17:].tolist() == [0, 0, 0]
    assert near.near_p_value < 0.05
    assert near.near_expected == pytest.approx(20 / 41)
    values = copies_values([near])
    assert values["near_copies"] >= 3
    assert values["ratios"][:3] == [0, 0, 0]
    whole = audit.find_copies(used[:20], real)
    assert whole.chance.nearer == 20
    assert are_copies(copies_values([whole]))
    assert are_copies(copies_values([whole, whole]))


def test_images_that_are_among_both_kinds_prove_nothing():
    images, labels = source(30, 1)
    real = audit.Real(images, images, labels, labels)
    near = audit.find_copies(images[:10], real)
    assert near.chance.nearer == 0
    assert near.ratios.tolist() == [1.0] * 10
    assert not near.near.any()


# Splits


def test_members_are_half_of_each_class_and_each_image_half_of_the_time():
    labels = np.repeat([0, 1, 2], [6, 4, 10])[np.random.default_rng(0).permutation(20)]
    members = audit.split_members(jax.random.key(3), labels, 8)
    for label, half in ((0, 3), (1, 2), (2, 5)):
        assert members[:, labels == label].sum(axis=1).tolist() == [half] * 8
    assert members.sum(axis=0).tolist() == [4] * 20
    np.testing.assert_array_equal(members[::2], ~members[1::2])
    more = audit.split_members(jax.random.key(3), labels, 12)
    np.testing.assert_array_equal(more[:8], members)
    assert len({own.tobytes() for own in more}) == 12
    assert audit.others_of(members, 3).tolist() == [True, True, False, False] + [True] * 4
    with pytest.raises(ValueError, match="unequal"):
        audit.split_members(jax.random.key(3), labels, 7)
    with pytest.raises(ValueError, match="unequal"):
        audit.split_members(jax.random.key(3), labels[1:], 8)


def test_audited_images_are_even_in_every_class():
    labels = np.repeat([0, 1, 2], [7, 4, 9])
    kept = audit.audited_images(jax.random.key(0), labels)
    assert np.bincount(labels[kept]).tolist() == [6, 4, 8]
    assert kept.tolist() == sorted(set(kept.tolist()))


def test_a_dataset_with_some_of_its_images_is_as_if_there_were_no_others():
    data = small.dataset()
    kept = np.array([5, 1, 30])
    part = restricted(data, kept)
    np.testing.assert_array_equal(part.x_train, data.x_train[kept])
    np.testing.assert_array_equal(part.y_train, data.y_train[kept])
    assert part.fingerprint != data.fingerprint
    assert restricted(data, kept[::-1]).fingerprint != part.fingerprint
    assert len(part.y_held) == 0
    assert normalised(part, data.transform).x_train.shape == part.x_train.shape


def test_starts_are_told_by_their_seed():
    data = small.dataset()
    chosen = distill.start_indices(data, ipc=3, seed=5)
    start = distill.start_from(data, ipc=3, alpha=0.1, seed=5)
    np.testing.assert_array_equal(data.x_train[chosen], start.images)
    np.testing.assert_array_equal(data.y_train[chosen], start.labels)


# Attacks


def shadows_of(count, images, *, gap, seed=0):
    """Members of shadows, and confidences that are normal, further up for members."""
    members = audit.split_members(jax.random.key(seed), np.zeros(images, int), count)
    own = draws(images, seed=seed + 1) * 3  # Some images are easier than others.
    return members, draws(count, images, seed=seed + 2) + own + gap * members


@pytest.mark.parametrize("one_variance", [False, True])
def test_lira_is_that_of_a_loop(one_variance):
    members, confidences = shadows_of(8, 12, gap=1.0)
    found = audit.lira_scores(confidences, members, one_variance=one_variance)
    for target in range(8):
        partner = target + 1 if target % 2 == 0 else target - 1
        others = [s for s in range(8) if s not in (target, partner)]
        sides, squares = {}, {True: 0.0, False: 0.0}
        for image in range(12):
            for is_in in (True, False):
                values = [confidences[s, image] for s in others if members[s, image] == is_in]
                assert len(values) == 3
                sides[image, is_in] = np.mean(values), np.var(values, ddof=1)
                squares[is_in] += np.var(values, ddof=1) / 12
        for image in range(12):
            logs = []
            for is_in in (True, False):
                mean, variance = sides[image, is_in]
                variance = squares[is_in] if one_variance else variance
                logs.append(norm(mean, math.sqrt(variance)).logpdf(confidences[target, image]))
            assert found[target, image] == pytest.approx(logs[0] - logs[1], rel=1e-9)


def test_losses_follow_from_confidences():
    chances = np.array([[[0.2, 0.9], [0.5, 0.999]]])
    scores = audit.loss_scores(np.log(chances / (1 - chances)))
    np.testing.assert_allclose(scores, np.log(chances).mean(axis=1), rtol=1e-12)
    assert np.isfinite(audit.loss_scores(np.full((1, 1, 1), -1e4))).all()


@pytest.mark.parametrize("gap", [0.0, 2.0])
def test_lira_has_the_power_that_normal_distributions_allow(gap):
    members, confidences = shadows_of(64, 300, gap=gap)
    power = audit.power_of(audit.lira_scores(confidences, members), members)
    best = norm.cdf(gap / math.sqrt(2))
    assert power.area.mean == pytest.approx(best, abs=0.02)
    assert power.area.mean < best + 3 * power.area.error
    assert power.advantage.mean == pytest.approx(2 * norm.cdf(gap / 2) - 1, abs=0.04)
    few = norm.cdf(gap - norm.ppf(0.99))
    assert power.pooled[0.01].share == pytest.approx(few, abs=0.25 * few + 0.01)
    assert finds_members(power_values(power, 64)) == (gap > 0)
    # Thresholds know nothing of how easy an image is.
    by_loss = audit.power_of(audit.loss_scores(confidences[:, None]), members)
    assert by_loss.area.mean == pytest.approx(norm.cdf(gap / math.sqrt(2 + 2 * 9)), abs=0.04)


def test_the_chance_of_an_area_is_that_of_a_t_test():
    areas = np.array([0.55, 0.51, 0.49, 0.58])
    mean = audit.Mean(areas.mean(), areas.std(ddof=1) / 2)
    expected = ttest_1samp(areas, 0.5, alternative="greater").pvalue
    assert area_chance(mean, 4) == pytest.approx(expected)
    assert area_chance(audit.Mean(0.6, 0.0), 4) == 1
    assert area_chance(audit.Mean(1.0, 0.0), 4) == 1 / 16


def test_curves_areas_and_rates_are_scikit_learns():
    generator = np.random.default_rng(0)
    for tied in (False, True):
        positives, negatives = generator.normal(1, 1, 83), generator.normal(0, 1, 119)
        if tied:
            positives, negatives = positives.round(), negatives.round()
        truth = np.repeat([1, 0], [83, 119])
        scores = np.concatenate([positives, negatives])
        fpr, tpr, thresholds = roc_curve(truth, scores, drop_intermediate=False)
        mine = audit.roc(positives, negatives)
        for found, expected in zip(mine, (fpr, tpr, thresholds), strict=True):
            np.testing.assert_allclose(found, expected)
        area = roc_auc_score(truth, scores)
        assert audit.area(positives, negatives) == pytest.approx(area, rel=1e-12)
        for rate in (0.0, 0.001, 0.01, 0.2, 1.0):
            expected = tpr[fpr <= rate].max()
            assert audit.share_found(positives, negatives, rate) == pytest.approx(expected)


def test_rates_say_how_many_others_they_are_of():
    members, confidences = shadows_of(4, 500, gap=1.0)
    power = audit.power_of(audit.loss_scores(confidences[:, None]), members)
    assert (power.rates[0.01].allowed, power.rates[0.01].negatives) == (2, 250)
    assert (power.rates[0.001].allowed, power.pooled[0.001].allowed) == (0, 1)
    assert power.pooled[0.001].negatives == 1000
    shares = [
        audit.share_found(scores[own], scores[~own], 0.01)
        for scores, own in zip(confidences, members, strict=True)
    ]
    assert power.rates[0.01].share == pytest.approx(np.mean(shares))
    assert power.rates[0.01].error == pytest.approx(np.std(shares, ddof=1) / 2)
    alarms, found = power.curve
    assert (alarms[0], found[0], alarms[-1], found[-1]) == (0, 0, 1, 1)


def test_only_the_chosen_are_looked_for():
    members, confidences = shadows_of(4, 40, gap=0.0)
    chosen = members & (np.arange(40) < 10)[None]
    scores = np.where(chosen, 100.0, confidences)
    power = audit.power_of(scores, members, chosen=chosen)
    assert power.area == (1.0, 0.0)
    assert power.rates[0.01].share == 1
    assert audit.power_of(scores, members).area.mean < 0.9
    with pytest.raises(ValueError, match="no member to be found"):
        audit.power_of(scores, members, chosen=chosen & False)


def test_thresholds_come_from_other_targets():
    members, confidences = shadows_of(4, 30, gap=1.0)
    threshold = best_threshold(confidences, members, members, 0)
    changed = confidences.copy()
    changed[:2] = draws(2, 30, seed=9)  # The target and its other half.
    assert best_threshold(changed, members, members, 0) == threshold
    gains = [
        (confidences[2:][members[2:]] >= t).mean() - (confidences[2:][~members[2:]] >= t).mean()
        for t in confidences[2:].ravel()
    ]
    reached = (confidences[2:][members[2:]] >= threshold).mean()
    reached -= (confidences[2:][~members[2:]] >= threshold).mean()
    assert reached == pytest.approx(max(gains))
    assert best_threshold(confidences[:2], members[:2], members[:2], 0) == math.inf


def test_the_most_vulnerable_are_found_and_luck_is_not_taken_for_it():
    members, confidences = shadows_of(16, 200, gap=0.0)
    by_luck = most_vulnerable(confidences, members, 10)
    assert abs(by_luck.success.mean - 0.5) < 4 * by_luck.success.error
    planted = np.array([3, 50, 120, 199])
    confidences[:, planted] += 6.0 * members[:, planted]
    found = most_vulnerable(confidences, members, 4)
    assert sorted(found.indices.tolist()) == planted.tolist()
    assert found.success.mean > 0.95
    assert found.found > 0.9 > 0.1 > found.alarms
    with pytest.raises(ValueError, match="cannot be halved"):
        most_vulnerable(confidences[:6], members[:6], 4)


def test_confidences_are_those_of_probabilities(float64):
    logits, labels = draws(5, 4), np.array([0, 3, 1, 2, 2])
    chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    own = chances[np.arange(5), labels]
    found = scaled(jnp.asarray(logits), jnp.asarray(labels))
    np.testing.assert_allclose(found, np.log(own / (1 - own)), rtol=1e-10)
    sure = scaled(jnp.asarray([[200.0, 0.0, 0.0]]), jnp.asarray([0]))
    assert float(sure[0]) == pytest.approx(200 - math.log(2))


def test_networks_that_were_trained_on_a_set_are_asked():
    data, network = small.dataset(), small.network()
    procedure = Procedure(EvaluateConfig(networks=2, eval_epochs=4), (), 3)
    real, test = (data.x_train, data.y_train), (data.x_test, data.y_test)
    small_set = small.start()
    shown = audit.expose(jax.random.key(0), procedure, network, small_set, real, test, Report(None))
    assert shown.confidences.shape == (2, 40)
    from ddpp_jax import evaluate

    states, _ = evaluate.train(jax.random.key(0), procedure, network, small_set, Report(None))
    for place in range(2):
        params = jax.tree.map(lambda leaf, place=place: leaf[place], states.params)
        logits = np.asarray(network.apply_fn(params, jnp.asarray(data.x_train)), np.float64)
        chances = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
        own = chances[np.arange(40), data.y_train]
        np.testing.assert_allclose(
            shown.confidences[place], np.log(own / (1 - own)), rtol=1e-3, atol=1e-4
        )
    same = evaluate.run(
        jax.random.key(0), procedure, network, small_set, {"test": test}, Report(None)
    )["test"]
    np.testing.assert_array_equal(shown.evaluation.accuracies, same.accuracies)


def test_networks_on_more_images_make_as_many_steps():
    config = EvaluateConfig(eval_epochs=299, eval_batch=64)
    longer = as_many_steps(config, 60, 640)  # One batch in an epoch, and ten.
    assert longer.eval_epochs + 1 == 30
    assert as_many_steps(config, 60, 60) == config
