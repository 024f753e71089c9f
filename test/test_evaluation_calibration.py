"""The stated uncertainty of a reading is compared with its error."""

import numpy as np
import pytest

from eva_ros.evaluation.calibration import ReadClip
from eva_ros.evaluation.calibration import summary
from eva_ros.evaluation.calibration import table


def clips(scale, *, stated=1.0, count=40):
    """Return clips whose errors follow a Laplace law of 0.01 to 0.1 rad."""
    rng = np.random.default_rng(0)
    spreads = np.linspace(0.01, 0.1, count)
    return [
        ReadClip(
            np.abs(rng.laplace(0, scale * spread, (200, 2))),
            np.full((200, 2), stated * spread),
            1 / (1 + (spread / 0.05) ** 2),
        )
        for spread in spreads
    ]


def test_a_spread_that_is_the_true_one_covers_what_it_states():
    figures = summary(clips(1.0))
    for level in (50, 90):
        low, high = figures[f'coverage_{level}']['interval']
        assert low - 0.01 <= level / 100 <= high + 0.01
        assert high - low < 0.05


def test_a_spread_that_is_too_small_covers_less():
    figures = summary(clips(1.0, stated=0.5))
    assert figures['coverage_90']['interval'][1] < 0.75


def test_a_confidence_that_falls_with_the_error_tells_wrong_readings():
    figures = summary(clips(1.0))
    assert 10 < figures['wrong'] < 35
    assert figures['auc_of_confidence'] > 0.95
    blind = [ReadClip(clip.error, clip.spread, 0.5) for clip in clips(1.0)]
    assert summary(blind)['auc_of_confidence'] == pytest.approx(0.5)


def test_where_no_reading_is_wrong_there_is_no_auc_and_that_is_said():
    figures = summary(clips(0.1))
    assert figures['wrong'] == 0 and figures['auc_of_confidence'] is None
    assert 'not measured' in table('recordings', figures)
