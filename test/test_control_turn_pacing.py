"""When the next observation is taken, so that its chunk is ready while the arms still move."""

import pytest

from eva_ros.control.turn_pacing import TurnPacing

S = 1_000_000_000


def paced(*took_s, switch=0.5):
    pacing = TurnPacing(switch)
    for seconds in took_s:
        pacing.took(seconds)
    return pacing


@pytest.mark.parametrize(('switch', 'look_s'), [(0.25, 0.1), (0.5, 0.5), (0.75, 0.9)])
def test_the_chunk_is_ready_at_the_switch(switch, look_s):
    look_ns = paced(0.3, switch=switch).look_ns(5 * S, 1.6, 5 * S)
    assert look_ns == pytest.approx((5 + look_s) * S)


def test_one_slow_turn_changes_nothing():
    assert paced(0.3, 0.3, 9.0).look_ns(0, 1.6, 0) == paced(0.3).look_ns(0, 1.6, 0)


def test_what_is_late_already_is_looked_at_now():
    assert paced(1.0).look_ns(0, 1.6, S // 4) == S // 4


@pytest.mark.parametrize('now_s', [0.0, 0.5])
def test_a_chunk_that_would_come_after_the_motion_is_not_begun(now_s):
    took_s = 1.5 if now_s else 1.7
    assert paced(took_s).look_ns(0, 1.6, round(now_s * S)) is None


def test_nothing_is_begun_in_motion_before_it_is_known_how_long_a_turn_takes():
    assert paced().look_ns(0, 1.6, 0) is None
