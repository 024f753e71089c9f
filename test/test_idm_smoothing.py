"""The command path's low-pass filter."""

import numpy as np
import pytest

from eva_ros.idm.smoothing import smooth
from eva_ros.idm.smoothing import smoothing_matrix


def test_parabola_passes_unchanged_up_to_its_ends():
    t = np.linspace(0, 1.6, 17)
    path = np.stack([t, 1 - t**2, np.ones(17)], -1)
    np.testing.assert_allclose(smooth(path, 0.1), path, atol=1e-9)


def test_gain_is_one_half_at_the_cutoff():
    time = np.arange(400) * 0.1
    wave = np.sin(2 * np.pi * 1.5 * time)[:, None]
    middle = smooth(wave, 0.1, cutoff_hz=1.5)[150:250]
    assert np.abs(middle).max() == pytest.approx(0.5, abs=0.01)


def test_minimum_jerk_reach_survives_and_noise_does_not():
    t = np.linspace(0, 1, 17)[:, None]
    reach = 10 * t**3 - 15 * t**4 + 6 * t**5
    noise = 0.02 * np.random.default_rng(0).standard_normal((17, 1))
    assert np.abs(smooth(reach, 0.1) - reach).max() < 0.01
    rough = [np.abs(np.diff(path, 3, axis=0)).mean() for path in (noise, smooth(noise, 0.1))]
    assert rough[1] < 0.2 * rough[0]


def test_short_path_and_high_cutoff_pass_unchanged():
    path = np.random.default_rng(0).standard_normal((3, 2))
    np.testing.assert_array_equal(smooth(path, 0.1), path)
    np.testing.assert_array_equal(smoothing_matrix(9, 0.1, 5.0), np.eye(9))
