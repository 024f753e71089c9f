"""Differences, minimum-jerk moves and splines."""

from hypothesis import given
from hypothesis import settings
from hypothesis import strategies as st
import numpy as np
import pytest

from eva_ros.robot.limits import Limits
from eva_ros.robot.motion import differences
from eva_ros.robot.motion import minimum_jerk
from eva_ros.robot.splines import HermiteSpline
from eva_ros.robot.splines import segment_coefficients
from eva_ros.robot.splines import stretch_needed
from eva_ros.robot.violations import count_violations


def random_spline(seed, points=6, joints=3):
    rng = np.random.default_rng(seed)
    times = np.concatenate([[0.0], np.cumsum(rng.uniform(0.05, 0.3, points - 1))])
    q, v, a = rng.normal(size=(3, points, joints)) * [[[1.0]], [[2.0]], [[10.0]]]
    return HermiteSpline(times, q, v, a)


def make_limits(joints, velocity=1.0, acceleration=5.0, jerk=50.0):
    def full(x):
        return np.full(joints, x)

    return Limits(
        tuple(f'j{i}' for i in range(joints)), full(-1.0), full(1.0), full(velocity),
        full(acceleration), full(acceleration), full(jerk),
    )  # fmt: skip


def test_differences_of_a_cubic_are_its_derivatives():
    t = np.arange(8)[:, None] * 0.1
    v, a, j = differences(2.0 * t**3, 0.1)
    assert v.shape == (7, 1)
    np.testing.assert_allclose(a[:, 0], 12.0 * t[1:-1, 0], atol=1e-9)
    np.testing.assert_allclose(j, 12.0, atol=1e-8)


def test_a_minimum_jerk_move_starts_and_ends_at_rest():
    q = minimum_jerk([0.0, 1.0], [1.0, -1.0], 1001)
    np.testing.assert_allclose(q[[0, -1]], [[0.0, 1.0], [1.0, -1.0]])
    v, a, _ = differences(q, 1e-3)
    assert np.abs(v[[0, -1]]).max() < 1e-4
    assert np.abs(a[[0, -1]]).max() < 0.2
    assert v[:, 0].max() == pytest.approx(1.875, rel=1e-4)


@pytest.mark.parametrize('given', [0, 1, 2])
def test_a_segment_meets_what_its_points_give(given):
    rng = np.random.default_rng(given)
    T = np.float64(0.3)
    q, v, a = rng.normal(size=(3, 2, 5))
    c = segment_coefficients(
        T, q[0], q[1], (v[0], v[1]) if given else None, (a[0], a[1]) if given > 1 else None
    )
    for i, t in enumerate((0.0, T)):
        powers = t ** np.arange(6)[:, None]
        np.testing.assert_allclose((c * powers).sum(axis=0), q[i], atol=1e-9)
        if given:
            slope = (c[1:] * np.arange(1, 6)[:, None] * powers[:5]).sum(axis=0)
            np.testing.assert_allclose(slope, v[i], atol=1e-9)
        if given > 1:
            second = np.array([2.0, 6.0, 12.0, 20.0])[:, None]
            np.testing.assert_allclose((c[2:] * second * powers[:4]).sum(axis=0), a[i], atol=1e-8)
    assert not c[2 * given + 2 :].any()


def test_a_spline_passes_its_points_and_stands_still_outside():
    spline = random_spline(3)
    q, v, a = spline.sample(spline.times)
    np.testing.assert_allclose(q, spline.positions, atol=1e-9)
    np.testing.assert_allclose(v, spline.velocities, atol=1e-9)
    np.testing.assert_allclose(a, spline.accelerations, atol=1e-7)
    q, v, a = spline.sample([-1.0, spline.times[-1] + 1.0])
    np.testing.assert_allclose(q, spline.positions[[0, -1]])
    assert not v.any()
    assert not a.any()


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_bounds_hold_everywhere_and_are_tight(seed):
    spline = random_spline(seed)
    t = np.linspace(0.0, spline.times[-1], 4001)
    q, v, a = spline.sample(t)
    bounds = spline.bounds
    for bound, values in ((bounds.velocity, v), (bounds.acceleration, a)):
        largest = np.abs(values).max(axis=0)
        assert (bound >= largest * (1.0 - 1e-9)).all()
        assert (bound <= largest * 1.03 + 1e-9).all()
    piece = np.clip(np.searchsorted(spline.times, t, side='right') - 1, 0, 4)
    assert (q >= bounds.min_position[piece] - 1e-9).all()
    assert (q <= bounds.max_position[piece] + 1e-9).all()
    jerk = np.abs(np.diff(a, axis=0) / np.diff(t)[:, None]).max(axis=0)
    assert (bounds.jerk >= jerk * (1.0 - 1e-6)).all()


@given(st.integers(0, 10_000))
@settings(max_examples=40, deadline=None)
def test_a_stretched_motion_keeps_the_limits_and_its_path(seed):
    spline, limits = random_spline(seed), make_limits(3)
    factor = max(1.0, float(stretch_needed(spline.bounds, limits).max()))
    slow = spline.stretched(factor)
    assert factor >= 1.0
    assert (slow.bounds.velocity <= limits.max_velocity * (1.0 + 1e-9)).all()
    assert (slow.bounds.acceleration <= limits.max_acceleration * (1.0 + 1e-9)).all()
    assert (slow.bounds.jerk <= limits.max_jerk * (1.0 + 1e-9)).all()
    t = np.linspace(0.0, spline.times[-1], 50)
    np.testing.assert_allclose(slow.sample(t * factor)[0], spline.sample(t)[0], atol=1e-9)


def test_violations_are_counted_once_for_each_step_and_joint():
    limits = make_limits(2, velocity=1.0, acceleration=1e6, jerk=1e9)
    q = np.zeros((5, 2))
    assert count_violations(q, 0.1, limits) == 0
    q[3, 0] = 2.0  # out of range there, too fast to it and from it
    assert count_violations(q, 0.1, limits) == 2


def test_rounding_breaks_no_limit():
    """A gripper that is closed lies at its limit; a spline through there ends 1e-9 below."""
    limits = make_limits(2, velocity=1.0, acceleration=1e6, jerk=1e9)
    low, high = limits.min_position, limits.max_position
    q = np.linspace(low, low + 0.4, 5)
    assert count_violations(q - 1e-9, 0.1, limits) == 0
    assert count_violations(high - np.linspace(0.4, -1e-9, 5)[:, None], 0.1, limits) == 0
    assert count_violations(q - 1e-5, 0.1, limits) == 2
    assert count_violations(1.0001 * (q - low) + low, 0.1, limits) == 8
