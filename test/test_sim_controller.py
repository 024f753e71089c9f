"""The emulated joint_trajectory_controller does what Jazzy's does, and rolling's where asked."""

import numpy as np
import pytest

from eva_ros.sim.controller import TrajectoryCommand
from eva_ros.sim.controller import TrajectoryController

JOINTS = ('a', 'b')
MS = 1_000_000
S = 1000 * MS


def controller(**options):
    return TrajectoryController(JOINTS, [0.0, 0.0], **options)


def command(times=(0.1, 0.2), positions=((0.1, 0.2), (0.3, 0.4)), stamp_ns=0, **fields):
    return TrajectoryCommand(
        stamp_ns, fields.pop('joint_names', JOINTS), times, positions, **fields
    )


def run(control, start_ms, end_ms, step_ms=2):
    """Sample like a control loop; return the times in s and the positions."""
    times = np.arange(start_ms, end_ms + 1, step_ms)
    return times * 1e-3, np.array([control.sample(int(t) * MS) for t in times])


# --- what validate_trajectory_msg rejects -----------------------------------------------------


@pytest.mark.parametrize(
    ('wrong', 'words'),
    [
        (command(joint_names=(), positions=((), ())), "don't match"),
        (command(joint_names=('a',), positions=((1,), (2,))), "don't match"),
        (command(joint_names=('a', 'b', 'c'), positions=((1, 2, 3), (1, 2, 3))), "don't match"),
        (command(joint_names=('a', 'x')), "Incoming joint x doesn't match"),
        (command(times=(), positions=()), 'Empty trajectory'),
        (command(times=(0.1, 0.1)), 'not strictly increasing'),
        (command(times=(0.2, 0.1)), 'not strictly increasing'),
        (command(positions=((0.1,), (0.3, 0.4))), 'joint_names and positions at point 0'),
        (command(positions=((0.1, 0.2), ())), 'joint_names and positions at point 1'),
        (command(velocities=((0.1, 0.2), (0.0,))), 'joint_names and velocities at point 1'),
        (command(velocities=((0, 0), (0, 0)), accelerations=((1,), (0, 0))), 'accelerations'),
        (command(velocities=((0.1, 0.2), (0.0, 0.1))), 'joint b is not zero'),
        (command(stamp_ns=1 * S), 'ends in the past'),
    ],
)
def test_the_rules_of_validate_trajectory_msg(wrong, words):
    control = controller()
    assert control.accept(command(), 0) is None
    before = control.sample(50 * MS)
    rejection = control.accept(wrong, 5 * S if wrong.stamp_ns else 51 * MS)
    assert words in rejection
    # What runs goes on.
    assert np.array_equal(control.sample(50 * MS), before)
    _, path = run(control, 60, 400)
    np.testing.assert_allclose(path[-1], [0.3, 0.4])


def test_a_last_velocity_is_accepted_where_allowed():
    control = controller(allow_nonzero_velocity_at_trajectory_end=True)
    assert control.accept(command(velocities=((0.1, 0.2), (0.0, 0.1))), 0) is None


def test_what_the_original_does_not_check_passes():
    control = controller()
    nan = float('nan')
    assert control.accept(command(positions=((nan, 99.0), (0.0, 0.0))), 0) is None
    assert np.isnan(control.sample(50 * MS)[0])
    # A joint that is left out because another is named twice is sent to zero.
    control = TrajectoryController(JOINTS, [0.5, 0.5])
    assert control.accept(command(joint_names=('a', 'a')), 0) is None
    _, path = run(control, 0, 300)
    assert path[-1, 1] == 0.0


# --- time --------------------------------------------------------------------------------------


def test_stamp_zero_is_now_and_the_end_is_held():
    control = controller()
    assert control.accept(command(), 3 * S) is None
    np.testing.assert_allclose(control.sample(3 * S), [0.0, 0.0])
    np.testing.assert_allclose(control.sample(3 * S + 100 * MS), [0.1, 0.2])
    assert control.is_moving(3 * S + 150 * MS)
    np.testing.assert_allclose(control.sample(9 * S), [0.3, 0.4])
    assert not control.is_moving(9 * S)
    assert not control.desired().velocities.any()


def test_joints_are_reordered_by_name():
    control = controller()
    control.accept(command(joint_names=('b', 'a')), 0)
    np.testing.assert_allclose(control.sample(200 * MS), [0.4, 0.3])


def test_points_in_the_past_are_skipped():
    control = controller()
    assert control.accept(command(stamp_ns=1 * S, times=(0.1, 0.4)), 1 * S + 200 * MS) is None
    # Already a third of the way between both points.
    expected = [0.1 + 0.2 / 3.0, 0.2 + 0.2 / 3.0]
    np.testing.assert_allclose(control.sample(1 * S + 200 * MS), expected, atol=1e-9)


def test_a_future_stamp_forgets_the_old_trajectory_at_receipt():
    control = controller()
    control.accept(command(times=(1.0, 2.0), positions=((1.0, 1.0), (2.0, 2.0))), 0)
    _, path = run(control, 0, 500)
    begin = path[-1]
    control.accept(
        command(stamp_ns=2 * S, times=(0.1, 0.2), positions=((0.0, 0.0), (0.0, 0.0))), 500 * MS
    )
    # Jazzy: straight from here to the first point, due at 2.1 s; the old motion is over.
    np.testing.assert_allclose(control.sample(1300 * MS), begin * (1.0 - 0.8 / 1.6), atol=1e-6)


def test_with_splice_the_old_trajectory_goes_on_until_the_stamp():
    control = controller(splice=True)
    control.accept(command(times=(1.0, 2.0), positions=((1.0, 1.0), (2.0, 2.0))), 0)
    run(control, 0, 500)
    control.accept(
        command(stamp_ns=1500 * MS, times=(0.5, 1.0), positions=((0.0, 0.0), (0.0, 0.0))), 500 * MS
    )
    np.testing.assert_allclose(control.sample(1000 * MS), [1.0, 1.0], atol=1e-9)
    np.testing.assert_allclose(control.sample(1500 * MS), [1.5, 1.5], atol=1e-9)
    np.testing.assert_allclose(control.sample(2000 * MS), [0.0, 0.0], atol=1e-9)


def test_with_splice_a_later_message_replaces_one_that_waits():
    control = controller(splice=True)
    control.accept(command(times=(1.0,), positions=((1.0, 1.0),)), 0)
    run(control, 0, 100)
    control.accept(command(stamp_ns=800 * MS, times=(0.1,), positions=((9.0, 9.0),)), 100 * MS)
    control.accept(command(stamp_ns=500 * MS, times=(0.1,), positions=((0.5, 0.5),)), 100 * MS)
    _, path = run(control, 102, 1200)
    assert path.max() <= 0.6
    np.testing.assert_allclose(path[-1], [0.5, 0.5])


def test_with_splice_a_message_for_now_begins_now():
    jazzy, rolling = controller(), controller(splice=True)
    for control in (jazzy, rolling):
        control.accept(command(), 0)
        run(control, 0, 50)
        control.accept(command(times=(0.1, 0.3)), 50 * MS)
    np.testing.assert_allclose(run(jazzy, 50, 400)[1], run(rolling, 50, 400)[1], atol=1e-6)


# --- where it begins ---------------------------------------------------------------------------


def test_from_the_last_command_the_motion_is_smooth_across_a_message():
    control = controller()
    rest = np.zeros((2, 2))
    control.accept(command(times=(0.5, 1.0), velocities=rest, accelerations=rest), 0)
    _, before = run(control, 0, 250)
    control.accept(command(times=(0.3, 0.8), velocities=rest, accelerations=rest), 252 * MS)
    _, after = run(control, 252, 1100)
    speed = np.abs(np.diff(np.vstack([before, after]), axis=0)) / 0.002
    assert speed.max() < 2.0  # no jump: 1.875 x 0.4 rad over 0.5 s is 1.5


# --- spline by what the points give ------------------------------------------------------------


def test_positions_alone_give_straight_lines():
    control = controller()
    control.accept(command(times=(0.1, 0.3)), 0)
    t, path = run(control, 0, 300)
    expected = np.interp(t, [0.0, 0.1, 0.3], [0.0, 0.1, 0.3])
    np.testing.assert_allclose(path[:, 0], expected, atol=1e-9)


def test_velocities_give_cubics_and_accelerations_quintics():
    from scipy.interpolate import BPoly

    positions, velocities = np.array([[0.1, 0.2], [0.3, 0.4]]), np.array([[1.0, -1.0], [0.0, 0.0]])
    accelerations = np.array([[5.0, 3.0], [0.0, 0.0]])
    for given in (None, accelerations):
        control = controller()
        control.accept(
            command(times=(0.2, 0.5), positions=positions, velocities=velocities,
                    accelerations=given), 0,
        )  # fmt: skip
        t, path = run(control, 0, 500)
        for j in range(2):
            knots = [[0.0, 0.0], [positions[0, j], velocities[0, j]], [positions[1, j], 0.0]]
            if given is not None:
                extra = [0.0, accelerations[0, j], 0.0]
                knots = [[*row, more] for row, more in zip(knots, extra)]
            expected = BPoly.from_derivatives([0.0, 0.2, 0.5], knots)(t)
            np.testing.assert_allclose(path[:, j], expected, atol=1e-9)


def test_a_point_without_velocity_makes_its_neighbours_straight():
    control = controller()
    control.accept(command(times=(0.1, 0.2), velocities=((1.0, 1.0), ())), 0)
    control.sample(0)
    np.testing.assert_allclose(control.sample(150 * MS), [0.2, 0.3], atol=1e-9)
