"""Arms that do not do what was sent are found, with the arm's name."""

from dataclasses import replace

import numpy as np
import pytest

from eva_ros.control.settings import GateSettings
from eva_ros.control.tracking_monitor import TrackingMonitor
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.spec import load_robot
from eva_ros.robot.splines import HermiteSpline

ROBOT = load_robot('aloha_sim')
GOAL = ROBOT.home + 0.6 * np.isin(np.arange(14), (0, 7))


@pytest.fixture
def path():
    still = np.zeros((2, 14))
    return HermiteSpline(np.array([0.0, 2.0]), np.stack([ROBOT.home, GOAL]), still, still)


def follow(path, place, settings=None, until_s=2.5, moving=False):
    """Return the first fault and when, with arms that are at place(arm, elapsed_s)."""
    watch = TrackingMonitor(ROBOT, settings or GateSettings(), path, ROBOT.home, moving=moving)
    for elapsed_s in np.arange(0.0, until_s, 0.01):
        for arm in ('left', 'right'):
            fault = watch.fault(arm, place(arm, elapsed_s)[ROBOT.arm_indices(arm)], elapsed_s)
            if fault:
                return elapsed_s, *fault
    return None


def on_path(path, lag_s=0.0):
    return lambda arm, elapsed_s: path.sample(max(0.0, elapsed_s - lag_s))[0]


def test_arms_that_follow_are_left_alone(path):
    assert follow(path, on_path(path)) is None


def straight(goal):
    still = np.zeros((2, 14))
    return HermiteSpline(np.array([0.0, 2.0]), np.stack([ROBOT.home, goal]), still, still)


def test_arms_that_follow_downwards_are_left_alone_too():
    down = straight(ROBOT.home - 0.6 * np.isin(np.arange(14), (0, 7)))
    assert follow(down, on_path(down)) is None


@pytest.mark.parametrize('sign', [-1.0, 1.0])
def test_an_arm_that_goes_the_other_way_has_not_begun(sign):
    there = straight(ROBOT.home + sign * 0.6 * np.isin(np.arange(14), (0, 7)))

    def place(arm, elapsed_s):
        on = there.sample(elapsed_s)[0]
        return on if arm == 'right' else 2.0 * ROBOT.home - on

    wide = GateSettings(max_tracking_error=5.0)
    _, reason, detail = follow(there, place, wide)
    assert (reason, 'left arm' in detail) == ('ARM_NOT_FOLLOWING', True)


def out_and_back():
    """A path by which both waists turn by 24 mrad in 0.1 s, and back."""
    out = ROBOT.home + 0.024 * np.isin(np.arange(14), (0, 7))
    still = np.zeros((3, 14))
    return HermiteSpline(np.array([0.0, 0.1, 0.2]), np.stack([ROBOT.home, out, ROBOT.home]),
                         still, still)  # fmt: skip


def test_an_arm_that_went_out_and_back_has_begun():
    there = out_and_back()
    assert follow(there, on_path(there)) is None
    assert follow(there, on_path(there, 0.02)) is None

    def place(arm, elapsed_s):
        return there.sample(elapsed_s)[0] if arm == 'left' else ROBOT.home

    elapsed_s, reason, detail = follow(there, place)
    assert (reason, 'right arm' in detail) == ('ARM_NOT_FOLLOWING', True)
    assert elapsed_s < 0.6


def test_an_arm_that_stands_and_trembles_has_not_begun():
    """Noise of an encoder, 1.5 mrad, on all joints; the arm is held where it stands."""
    goal = ROBOT.home + 0.4 * ~ROBOT.gripper_mask
    there = straight(goal)
    for seed in range(40):
        rng = np.random.default_rng(seed)
        begin = ROBOT.home + rng.normal(0.0, 1.5e-3, 14)
        watch = TrackingMonitor(ROBOT, GateSettings(), there, begin)
        for elapsed_s in np.arange(0.0, 2.0, 0.02):
            measured = ROBOT.home[7:] + rng.normal(0.0, 1.5e-3, 7)
            if fault := watch.fault('right', measured, elapsed_s):
                break
        assert (fault[0], watch.idle) == ('ARM_NOT_FOLLOWING', {'right'})


@pytest.mark.parametrize('sign', [-1.0, 1.0])
def test_an_arm_that_was_held_up_need_not_move_before_it_is_led_on(sign):
    """It lies on the table, and was sent 0.08 rad deeper: the way back begins down there."""
    turn = sign * np.isin(np.arange(14), (0, 7))
    deep, up = ROBOT.home - 0.08 * turn, ROBOT.home + 0.2 * turn
    still = np.zeros((2, 14))
    path = HermiteSpline(np.array([0.0, 2.0]), np.stack([deep, up]), still, still)

    def place(arm, elapsed_s):
        sent = path.sample(elapsed_s)[0]
        return np.maximum(sent, ROBOT.home) if sign > 0.0 else np.minimum(sent, ROBOT.home)

    assert follow(path, place) is None
    elapsed_s, reason, _ = follow(path, lambda arm, elapsed_s: ROBOT.home)
    assert reason == 'ARM_NOT_FOLLOWING'
    # Not before the way led it on, and not long after.
    led_s = elapsed_s - GateSettings().start_timeout_s
    assert 0.015 < sign * (path.sample(led_s)[0] - ROBOT.home)[0] < 0.03


def test_an_arm_that_moves_already_need_not_begin(path):
    """It may be behind where a chunk joins, as far as max_tracking_error allows."""
    short = straight(ROBOT.home + 0.1 * np.isin(np.arange(14), (0, 7)))

    def stays(arm, elapsed_s):
        return ROBOT.home + 1e-6 * elapsed_s

    assert follow(short, stays)[1] == 'ARM_NOT_FOLLOWING'
    assert follow(short, stays, moving=True) is None


def test_before_a_motion_begins_its_first_point_counts(path):
    watch = TrackingMonitor(ROBOT, GateSettings(), path, ROBOT.home)
    assert watch.fault('left', ROBOT.home[:7], -1.0) is None
    assert watch.fault('left', ROBOT.home[:7] + 0.2, -0.5)[0] == 'TRACKING'


def test_a_lag_as_the_assets_have_it_is_allowed(path):
    fastest = 0.6 * 1.875 / 2.0
    assert follow(path, on_path(path, 0.065 / fastest)) is None


def test_an_arm_that_stays_is_named_before_it_is_far_behind(path):
    def place(arm, elapsed_s):
        return path.sample(elapsed_s)[0] if arm == 'left' else ROBOT.home

    elapsed_s, reason, detail = follow(path, place)
    assert (reason, 'right arm' in detail) == ('ARM_NOT_FOLLOWING', True)
    sent = 0.6 * minimum_jerk_fraction(elapsed_s / 2.0)
    assert sent < 0.1


def test_an_arm_that_need_not_move_may_stay():
    goal = ROBOT.home + 0.6 * (np.arange(14) == 7)
    still = np.zeros((2, 14))
    path = HermiteSpline(np.array([0.0, 2.0]), np.stack([ROBOT.home, goal]), still, still)
    assert follow(path, on_path(path)) is None


def test_a_joint_that_leaves_the_path_is_named(path):
    def place(arm, elapsed_s):
        off = 0.2 * (elapsed_s > 1.0) * (np.arange(14) == 9)
        return path.sample(elapsed_s)[0] + off

    elapsed_s, reason, detail = follow(path, place)
    assert (reason, elapsed_s) == ('TRACKING', pytest.approx(1.01))
    assert 'right_elbow' in detail and '0.200' in detail


def test_values_that_stay_the_same_in_mid_motion_are_frozen(path):
    wide = GateSettings(max_tracking_error=5.0)
    elapsed_s, reason, detail = follow(path, lambda arm, t: path.sample(min(t, 0.8))[0], wide)
    assert reason == 'STALE_JOINT_STATE'
    assert elapsed_s == pytest.approx(0.8 + wide.frozen_joint_state_s, abs=0.02)
    assert 'have not changed' in detail


def test_a_gripper_that_holds_something_is_no_fault(path):
    def place(arm, elapsed_s):
        return path.sample(elapsed_s)[0] + 0.5 * ROBOT.gripper_mask

    assert follow(path, place) is None


def test_grippers_are_watched_where_the_robot_says_so(path):
    strict = replace(ROBOT, max_tracking_error={'left_gripper': 0.2})
    watch = TrackingMonitor(strict, GateSettings(), path, ROBOT.home)
    held = (ROBOT.home + 0.5 * ROBOT.gripper_mask)[:7]
    assert watch.fault('left', held, 0.0)[0] == 'TRACKING'
