"""What is measured means what its name says."""

import numpy as np
import pytest

from eva_ros.evaluation.metrics import moving_pixels
from eva_ros.evaluation.metrics import psnr_moving
from eva_ros.evaluation.metrics import psnr_still


def clip(places, steps=3):
    """Return frames [T, 32, 32, 3] with a bright square at each place."""
    frames = np.full((steps, 32, 32, 3), 100, dtype=np.uint8)
    for frame, place in zip(frames, places):
        frame[8:16, place : place + 8] = 220
    return frames


def test_only_what_moved_counts():
    real = clip([0, 8, 16])
    noisy = real.copy()
    noisy[:, 24:, :] += 10  # nothing ever moves there
    assert psnr_moving(noisy, real, real[0]) == float('inf')
    moved = moving_pixels(real, real[0])
    assert not moved[0].any() and moved[1].sum() == 2 * 64


def test_a_dream_that_foresees_half_of_it_lies_between_nothing_moves_and_the_truth():
    real = clip([0, 8, 16])
    half = ((real.astype(int) + real[:1]) // 2).astype(np.uint8)
    still = psnr_still(real, real[0])
    assert still == pytest.approx(10 * np.log10(255**2 / 120**2))
    assert psnr_moving(half, real, real[0]) == pytest.approx(still + 6.02, abs=0.05)
    assert psnr_moving(real, real, real[0]) == float('inf')


def test_where_nothing_moved_there_is_no_figure():
    real = clip([4, 4, 4])
    assert np.isnan(psnr_still(real, real[0]))


def test_psnr_is_twenty_times_the_logarithm_of_255_by_the_error():
    real = np.zeros((2, 4, 4, 3), np.uint8)
    real[1, :2] = 200
    dream = real.copy()
    dream[1, :2] -= 10
    expected = 20 * np.log10(255 / 10)
    assert psnr_moving(dream, real, real[0]) == pytest.approx(expected, abs=1e-4)
