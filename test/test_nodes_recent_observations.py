"""The latest observations: which of them stand for the views before an instant."""

from types import SimpleNamespace

import pytest

from eva_ros.nodes.rollout_generator.recent import RecentObservations

PERIOD_NS = 100_000_000
HISTORY = 4


def recent(stamps_ms):
    """Return what keeps observations of these instants, for dreams from HISTORY frames."""
    kept = RecentObservations((HISTORY + 1) * PERIOD_NS)
    for stamp_ms in stamps_ms:
        stamp_ns = round(stamp_ms * 1e6)
        observation = SimpleNamespace(stamp_ns=stamp_ns)
        kept.add(SimpleNamespace(stamp_ns=stamp_ns, observation=observation))
    return kept


def before(stamps_ms, at_ms=10_000):
    """Return how long before an instant the history was observed, ms."""
    found = recent(stamps_ms).before(round(at_ms * 1e6), HISTORY, PERIOD_NS)
    return [at_ms - round(o.stamp_ns / 1e6) for o in found]


def published(rate_hz, count=200, last_ms=10_000):
    return [last_ms - 1000 * k / rate_hz for k in range(count, -1, -1)]


@pytest.mark.parametrize('rate_hz', [10, 20, 30, 50, 100])
def test_history_is_one_view_period_apart_at_any_higher_publish_rate(rate_hz):
    found = before(published(rate_hz))
    assert len(found) == HISTORY
    for age_ms, due_ms in zip(found, (400, 300, 200, 100)):
        assert age_ms == pytest.approx(due_ms, abs=500 / rate_hz + 1)


@pytest.mark.parametrize('rate_hz', [2, 5, 8])
def test_at_a_lower_publish_rate_no_observation_stands_for_two_instants(rate_hz):
    found = before(published(rate_hz))
    assert len(found) < HISTORY
    assert len(set(found)) == len(found)


def test_history_of_an_earlier_observation_is_before_that_one():
    assert before(published(10), at_ms=9_500) == [400, 300, 200, 100]


def test_late_timers_move_history_by_less_than_half_a_period():
    assert before([9_560, 9_740, 9_790, 9_930, 10_000]) == [440, 260, 210, 70]


@pytest.mark.parametrize(
    ('stamps', 'found'),
    [
        ([5_000, 5_100, 5_200, 10_000], []),
        ([9_600, 9_700, 10_000], [400, 300]),
        ([9_540, 9_700, 9_800, 9_900, 10_000], [300, 200, 100]),
        ([], []),
    ],
)
def test_what_was_not_observed_is_left_out(stamps, found):
    assert before(stamps) == found


def test_observations_of_a_clock_that_was_set_back_are_no_history():
    assert before([12_000, *range(12_100, 13_000, 100), 9_900, 10_000]) == [100]
