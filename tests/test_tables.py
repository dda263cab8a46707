"""Rows of result files, and what is said of several of them."""

import numpy as np
import pytest
from rich.console import Console

from ddpp_jax.evaluate import evaluation_of
from ddpp_jax.results import tables

LABELS = np.array([0, 0, 1, 1])


def evaluated(method, seed, right, **about):
    """A row of two networks, the second of which has one image less right."""
    guesses = np.where(np.arange(4) < np.array([[right], [right - 1]]), LABELS, 1 - LABELS)
    about = {"architecture": "convnet", "ipc": 1, "seed": seed} | about
    return tables.evaluated_row(method, 10, [evaluation_of(guesses, LABELS, 2)], **about)


def shown(table):
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def test_a_judged_row_says_what_was_taken_for_what():
    row = evaluated("a", 3, right=3, which="last", step=5)
    assert row["accuracies"] == [0.75, 0.5]
    assert (row["mean"], row["std"], row["networks"], row["sets"]) == (0.625, 0.125, 2, 1)
    assert row["confusion"] == [[4, 0], [3, 1]]
    assert row["per_class"] == [1.0, 0.25]
    assert (row["seed"], row["step"]) == (3, 5)


def test_a_class_without_test_images_has_no_accuracy():
    row = tables.evaluated_row("a", 10, [evaluation_of(np.zeros((1, 4), int), LABELS * 0, 2)])
    assert row["per_class"] == [1.0, None]


def test_the_spread_over_seeds_is_of_like_with_like():
    rows = [
        evaluated("a", 0, 4),
        evaluated("a", 1, 2),
        evaluated("a", 0, 3, architecture="vgg11"),
        evaluated("b", 0, 3),
    ]
    (spread,) = tables.over_seeds(rows)
    assert (spread["method"], spread["architecture"], spread["seeds"]) == ("a", "convnet", 2)
    assert spread["mean"] == pytest.approx((0.875 + 0.375) / 2)
    text = shown(tables.seeds_table([spread]))
    assert "62.5" in text
    assert "35.4" in text  # 0.5 / sqrt(2)


def test_methods_are_compared_over_the_seeds_that_both_have():
    rows = [evaluated("a", seed, 2) for seed in range(3)]
    rows += [evaluated("b", seed, 3 + (seed == 1)) for seed in range(4)]
    rows += [evaluated("b", seed, 4, architecture="vgg11") for seed in range(3)]
    (comparison,) = tables.comparisons(rows)
    assert (comparison["method"], comparison["less"], comparison["seeds"]) == ("b", "a", 3)
    assert comparison["mean"] == pytest.approx((0.25 + 0.5 + 0.25) / 3)
    assert comparison["error"] == pytest.approx(np.std([1, 2, 1], ddof=1) / 4 / 3**0.5)
    assert comparison["stands"] == (comparison["low"] > 0)
    words = tables.comparison_words(comparison)
    assert words.startswith(
        "b less a (convnet, IPC 1): +33.3 ± 8.3 points (standard error, 3 seeds;"
    )
    assert words.endswith("does not stand")


def test_which_sets_are_not_mixed_but_real_images_may_be_compared_with_any():
    rows = [evaluated("real", seed, 2) for seed in range(2)]
    rows += [evaluated("a", seed, 3, which="last", step=9) for seed in range(2)]
    rows += [evaluated("b", seed, 4, which="best-test", step=9) for seed in range(2)]
    pairs = [(found["method"], found["less"]) for found in tables.comparisons(rows)]
    assert pairs == [("a", "real"), ("b", "real")]


def test_one_method_with_two_settings_is_two_methods():
    rows = [evaluated("a", seed, 2, settings="1234") for seed in range(2)]
    rows += [evaluated("a", seed, 4, settings="5678") for seed in range(2)]
    names = [found["method"] for found in tables.over_seeds(rows)]
    assert names == ["a [1234]", "a [5678]"]
    (comparison,) = tables.comparisons(rows)
    assert comparison["mean"] == pytest.approx(0.5)
    # Different settings of different methods are no matter.
    rows = [evaluated("a", 0, 2, settings="1234"), evaluated("a", 1, 2, settings="1234")]
    rows += [evaluated("b", 0, 3, settings="5678"), evaluated("b", 1, 3, settings="5678")]
    assert [found["method"] for found in tables.over_seeds(rows)] == ["a", "b"]


def test_networks_that_diverged_are_shown():
    row = evaluated("a", 0, 3) | {"diverged": 2}
    result = {"dataset": "digits", "seed": None, "class_names": ["x", "y"], "rows": [row]}
    assert "2 networks, 2 diverged" in shown(tables.table(result))
    assert "None" not in tables.title(result)


def test_which_set_is_evaluated_is_never_left_unsaid():
    last = evaluated("a", 0, 3, which="last", step=1000)
    best = evaluated("a", 0, 3, which="best-test", step=200)
    result = {"dataset": "digits", "seed": 0, "class_names": ["x", "y"], "rows": [last]}
    assert "distilled sets: last (step 1,000)" in tables.title(result)
    result["rows"] = [last, best]
    text = shown(tables.table(result))
    assert "last (step 1,000)" in text
    assert "best on the test set (optimistic) (step 200)" in text
