"""Both arms stop together, on the path, within the limits."""

from hypothesis import given
from hypothesis import settings as runs
from hypothesis import strategies as st
import numpy as np
import pytest

from eva_ros.control.chunk import Chunk
from eva_ros.control.gate import check_chunk
from eva_ros.control.settings import GateSettings
from eva_ros.control.stop import brake
from eva_ros.control.stop import hold
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.spec import load_robot
from eva_ros.robot.splines import HermiteSpline
from eva_ros.robot.splines import stretch_needed
from eva_ros.sim.controller import TrajectoryCommand
from eva_ros.sim.controller import TrajectoryController

ROBOT = load_robot('aloha_sim')
SETTINGS = GateSettings(max_start_blend=1.0, max_time_stretch=20.0, check_collisions=False)


def running(seed):
    rng = np.random.default_rng(seed)
    t = np.arange(17)[:, None] * 0.1
    q = ROBOT.home + minimum_jerk_fraction(t / 1.4) * rng.uniform(-1.0, 1.0, 14) * (
        ~ROBOT.gripper_mask
    )
    q += 0.02 * rng.normal(size=q.shape) * ~ROBOT.gripper_mask
    chunk = Chunk(0, 1, ROBOT.joint_names, 0.1, q, ROBOT.home)
    verdict = check_chunk(chunk, ROBOT.home, ROBOT, SETTINGS, 0)
    assert verdict.accepted
    return verdict.path


@given(st.integers(0, 10_000), st.floats(-0.2, 1.2))
@runs(max_examples=60, deadline=None)
def test_a_stop_keeps_the_limits_ends_at_rest_and_stays_on_the_path(seed, part):
    path = running(seed)
    elapsed_s = part * path.duration
    stop = brake(ROBOT, SETTINGS, path, elapsed_s).path
    assert not stop.velocities[-1].any()
    assert not stop.accelerations[-1].any()
    assert (np.diff(stop.times) > 0.0).all()
    bounds = stop.bounds
    assert (bounds.velocity <= ROBOT.limits.max_velocity * 1.01).all()
    assert (bounds.acceleration <= ROBOT.limits.max_acceleration * 1.01).all()
    on_path = path.sample(np.linspace(0.0, path.duration, 4000))[0]
    for q in stop.sample(np.linspace(0.0, stop.duration, 40))[0]:
        assert np.abs(on_path - q).max(axis=1).min() < 5e-3


def test_a_stop_is_short_and_shorter_than_the_path():
    path = running(1)
    stop = brake(ROBOT, SETTINGS, path, 0.4 * path.duration).path
    assert stop.duration < 0.5 * path.duration
    moved = np.abs(stop.positions[-1] - stop.positions[0]).max()
    fastest = np.abs(path.sample(0.4 * path.duration)[1]).max()
    # Braking evenly covers half of what full speed would.
    assert 0.0 < moved < 0.75 * fastest * stop.duration


def test_an_estop_brakes_the_harder_the_more_deceleration_it_may_use():
    path = running(1)
    durations = [
        brake(
            ROBOT, SETTINGS.model_copy(update={'estop_deceleration': factor}), path,
            0.4 * path.duration, urgent=True,
        ).path.duration
        for factor in (1.0, 1.5, 3.0)
    ]  # fmt: skip
    assert durations[0] > 1.2 * durations[1] > 1.4 * durations[2]


def test_both_arms_stop_at_the_same_time():
    path = running(2)
    command = brake(ROBOT, SETTINGS, path, 0.5).command
    left, right = command['left'], command['right']
    np.testing.assert_array_equal(left.time_from_start, right.time_from_start)
    assert left.time_from_start[0] == pytest.approx(SETTINGS.control_period_s)


def test_a_stop_in_the_controller_is_smooth_in_mid_motion():
    """The message arrives while the old one runs: position and velocity go on without a jump."""
    path = running(3)
    for arm in ('left', 'right'):
        names, start = ROBOT.arm_command(arm, path.positions[0])
        control = TrajectoryController(names, start)
        _, points = ROBOT.arm_command(arm, path.positions[1:])
        control.accept(
            TrajectoryCommand(
                0, names, path.times[1:], points,
                ROBOT.arm_command_rates(arm, path.velocities[1:]),
                ROBOT.arm_command_rates(arm, path.accelerations[1:]),
            ),
            0,
        )  # fmt: skip
        samples = [control.sample(t * 2_000_000) for t in range(300)]
        now_ns = 300 * 2_000_000
        stop = brake(ROBOT, SETTINGS, path, now_ns * 1e-9).command[arm]
        assert control.accept(TrajectoryCommand(0, **vars(stop)), now_ns) is None
        samples += [control.sample(t * 2_000_000) for t in range(300, 800)]
        q = np.array(samples)[:, :6]
        v = np.diff(q, axis=0) / 0.002
        assert np.abs(np.diff(v, axis=0)).max() < 0.1
        assert not v[-1].any()


def test_a_hold_stays():
    stop = hold(ROBOT, SETTINGS, ROBOT.home)
    for arm, trajectory in stop.command.items():
        _, expected = ROBOT.arm_command(arm, ROBOT.home)
        np.testing.assert_array_equal(trajectory.positions, expected[None])
        assert not trajectory.velocities.any()
        assert not trajectory.accelerations.any()
    assert set(stop.command) == {'left', 'right'}


def test_a_hold_a_little_outside_the_limits_is_at_the_limit():
    stop = hold(ROBOT, SETTINGS, ROBOT.limits.max_position + 1e-3)
    np.testing.assert_array_equal(stop.path.positions[-1], ROBOT.limits.max_position)


@pytest.mark.parametrize('outside', [0.3, 10.0, np.nan, np.inf])
def test_arms_that_rest_far_outside_their_limits_are_not_moved_by_a_hold(outside):
    assert hold(ROBOT, SETTINGS, ROBOT.limits.max_position + outside) is None


def test_a_hold_takes_no_joint_back_faster_than_its_limits_allow():
    for outside in np.geomspace(1e-4, 1.0, 40):
        place = ROBOT.limits.max_position + outside * (np.arange(14) == 0)
        stop = hold(ROBOT, SETTINGS, place)
        if stop is None:
            assert outside > 1e-3
            continue
        still = np.zeros((2, 14))
        ends = np.stack([place, stop.path.positions[-1]])
        way = HermiteSpline(np.array([0.0, SETTINGS.hold_s]), ends, still, still)
        assert (stretch_needed(way.bounds, ROBOT.limits) <= 1.0).all()
