"""Spread and paired differences against closed forms."""

import math

import numpy as np
import pytest

from ddpp_jax.results import paired_difference, spread


def test_spread_keeps_seeds_and_networks_apart():
    found = spread([np.array([0.1, 0.3]), np.array([0.4, 0.4]), np.array([0.6, 0.8])])
    assert found.seeds == 3
    assert found.mean == pytest.approx((0.2 + 0.4 + 0.7) / 3)
    expected = math.sqrt(sum((m - found.mean) ** 2 for m in (0.2, 0.4, 0.7)) / 2)
    assert found.over_seeds == pytest.approx(expected)
    assert found.error == pytest.approx(expected / math.sqrt(3))
    assert found.over_networks == pytest.approx((0.1 + 0 + 0.1) / 3)


def test_one_seed_has_no_spread_and_settles_nothing():
    found = spread([np.array([0.1, 0.3])])
    assert found.mean == pytest.approx(0.2)
    assert math.isnan(found.over_seeds)
    difference = paired_difference(np.array([0.9]), np.array([0.1]))
    assert difference.mean == pytest.approx(0.8)
    assert math.isnan(difference.error)
    assert not difference.stands


def test_pairing_takes_out_what_the_seeds_share():
    theirs = np.array([0.2, 0.5, 0.8])
    difference = paired_difference(theirs + np.array([0.019, 0.020, 0.021]), theirs)
    assert difference.mean == pytest.approx(0.02)
    assert difference.error == pytest.approx(0.001 / math.sqrt(3))
    # Student's t for two degrees of freedom and 95 %, from a printed table.
    assert difference.high - difference.mean == pytest.approx(4.303 * difference.error, rel=1e-3)
    assert difference.stands
    assert paired_difference(theirs, theirs + 0.02 + np.array([0, 1e-3, 0])).high < 0


def test_differences_that_agree_to_the_last_digit_settle_nothing():
    difference = paired_difference(np.array([0.5, 0.6]), np.array([0.4, 0.5]))
    assert difference.mean == pytest.approx(0.1)
    assert paired_difference(np.array([0.75, 0.5]), np.array([0.5, 0.25])).error == 0
    assert not paired_difference(np.array([0.75, 0.5]), np.array([0.5, 0.25])).stands


def test_a_difference_within_its_error_does_not_stand():
    ours, theirs = np.array([0.3, 0.5, 0.4]), np.array([0.4, 0.4, 0.4])
    assert not paired_difference(ours, theirs).stands
