"""Intervals: known values, honest coverage, and the same answer every time."""

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest

from eva_ros.evaluation.statistics import bootstrap_interval
from eva_ros.evaluation.statistics import paired_difference
from eva_ros.evaluation.statistics import paired_gain
from eva_ros.evaluation.statistics import wilson_interval


@pytest.mark.parametrize(
    ('successes', 'trials', 'expected'),
    # Newcombe (1998), table I, method 3.
    [(81, 263, (0.2553, 0.3662)), (15, 148, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611))],
)
def test_wilson_interval_equals_published_values(successes, trials, expected):
    assert wilson_interval(successes, trials) == pytest.approx(expected, abs=5e-5)


@given(st.integers(1, 500), st.data())
def test_wilson_interval_holds_the_rate_and_stays_within_0_and_1(trials, data):
    successes = data.draw(st.integers(0, trials))
    low, high = wilson_interval(successes, trials)
    assert 0 <= low <= successes / trials <= high <= 1
    mirrored = wilson_interval(trials - successes, trials)
    assert (1 - mirrored[1], 1 - mirrored[0]) == pytest.approx((low, high))


def test_no_trials_say_nothing_and_impossible_counts_are_refused():
    assert wilson_interval(0, 0) == (0, 1)
    with pytest.raises(ValueError, match='cannot be'):
        wilson_interval(3, 2)


def test_bootstrap_interval_holds_the_true_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(200):
        low, high = bootstrap_interval(rng.exponential(2.0, size=60), seed=trial)
        hits += low <= 2.0 <= high
    assert 0.87 <= hits / 200 <= 0.99


def test_bootstrap_interval_is_the_same_for_the_same_seed_and_leaves_nan_out():
    values = [0.1, 0.5, np.nan, 0.4, 0.3]
    assert bootstrap_interval(values, 1) == bootstrap_interval([0.1, 0.5, 0.4, 0.3], 1)
    with pytest.raises(ValueError, match='at least one'):
        bootstrap_interval([np.nan], 1)


def test_paired_difference_sees_through_what_both_share():
    rng = np.random.default_rng(3)
    scene = rng.normal(0, 10, size=100)
    mean, (low, high) = paired_difference(scene + 1 + rng.normal(0, 0.1, 100), scene, seed=0)
    assert 0.9 < low < mean < high < 1.1
    with pytest.raises(ValueError, match='not pairs'):
        paired_difference([1.0], [1.0, 2.0], seed=0)


def test_paired_gain_weighs_tasks_alike_and_counts_what_changed():
    ours = {'easy': [1, 1, 1, 1], 'hard': [1] * 6 + [0] * 4}
    theirs = {'easy': [1, 1, 1, 0], 'hard': [0] * 8 + [1, 0]}
    gain = paired_gain(ours, theirs, seed=0)
    assert gain.mean == pytest.approx((0.25 + 0.5) / 2)
    assert (gain.gained, gain.lost) == (7, 1)
    assert gain.p_value == pytest.approx(2 * (1 + 8) / 2**8)
    low, high = gain.interval
    assert low < gain.mean < high
    same = paired_gain(theirs, theirs, seed=0)
    assert (same.mean, same.interval, same.p_value) == (0.0, (0.0, 0.0), 1.0)


@pytest.mark.parametrize('other', [{}, {'easy': [1]}, {'hard': [1, 0]}])
def test_paired_gain_of_other_scenes_is_refused(other):
    with pytest.raises(ValueError, match='differ'):
        paired_gain({'easy': [1, 0]}, other, seed=0)
