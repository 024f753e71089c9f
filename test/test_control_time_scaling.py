"""One pace for all joints, no slower than one uniform stretch, and within every limit."""

from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
import numpy as np
import pytest

from eva_ros.control.path import smooth_path
from eva_ros.control.path import Start
from eva_ros.control.time_scaling import keep_limits
from eva_ros.control.time_scaling import with_slowness
from eva_ros.robot.spec import load_robot
from eva_ros.robot.splines import stretch_needed

ROBOT = load_robot('aloha_sim')
LIMITS = ROBOT.limits
TOLERANCE = np.full(14, 0.05)


def drawn(seed, jump=0.0, noise=0.02):
    """A path with jitter and a joint that jumps between two of its steps."""
    rng = np.random.default_rng(seed)
    steps = ROBOT.home + np.cumsum(noise * rng.normal(size=(16, 14)), axis=0)
    steps[8:, rng.integers(6)] += jump
    return smooth_path(Start.at_rest(ROBOT.home), steps, 0.1, LIMITS, TOLERANCE, 2.0)


def uniform_stretch(path):
    return max(1.0, float(stretch_needed(path.bounds, LIMITS).max()))


@given(st.integers(0, 10_000), st.floats(0.0, 1.5))
@runs(max_examples=60, deadline=None)
def test_the_limits_hold_and_nothing_is_slower_than_a_uniform_stretch(seed, jump):
    path = drawn(seed, jump)
    motion = keep_limits(path, LIMITS, moving=False)
    assert (stretch_needed(motion.bounds, LIMITS) <= 1.0 + 1e-5).all()
    assert motion.duration <= path.duration * uniform_stretch(path) * (1.0 + 1e-5)
    np.testing.assert_array_equal(motion.positions, path.positions)


def test_only_the_jump_is_slowed_down():
    path = drawn(3, 1.2, noise=0.0)
    uniform = uniform_stretch(path)
    motion = keep_limits(path, LIMITS, moving=False)
    lasting = np.diff(motion.times) / np.diff(path.times)
    assert uniform > 1.2
    assert lasting[[0, -1]] == pytest.approx(1.0, abs=0.03)
    assert lasting.max() > 1.1
    assert motion.duration < path.duration * (1.0 + 0.6 * (uniform - 1.0))


def test_a_gentle_path_keeps_the_dreams_pace():
    path = drawn(3).stretched(3.0)
    assert keep_limits(path, LIMITS, moving=False) is path


@given(st.integers(0, 1000))
@runs(max_examples=30, deadline=None)
def test_the_motion_is_the_path_at_another_pace(seed):
    """Velocity is q' / s and acceleration q'' / s^2 - q' s' / s^3, by finite differences."""
    path = drawn(seed)
    slowness = 1.0 + np.random.default_rng(seed).random(len(path.times))
    motion = with_slowness(path, slowness, moving=False)
    lasting = np.diff(motion.times) / np.diff(path.times)
    assert (lasting >= slowness.min() - 1e-9).all() and (lasting <= slowness.max() + 1e-9).all()
    pace = motion.velocities[3, 0] / path.velocities[3, 0]
    np.testing.assert_allclose(motion.velocities[3], pace * path.velocities[3])


def test_a_start_in_motion_goes_on_at_its_own_pace():
    path = drawn(1)
    motion = with_slowness(path, np.full(len(path.times), 2.0), moving=True)
    np.testing.assert_allclose(motion.velocities[0], path.velocities[0])
    np.testing.assert_allclose(motion.accelerations[0], path.accelerations[0])
    assert np.diff(motion.times)[5] == pytest.approx(0.2)


def test_a_start_too_fast_for_the_limits_has_no_law():
    fast = Start(ROBOT.home, np.full(14, 20.0), np.zeros(14))
    steps = np.tile(ROBOT.home, (16, 1))
    path = smooth_path(fast, steps, 0.1, LIMITS, TOLERANCE, 2.0)
    assert keep_limits(path, LIMITS, moving=True) is None
