"""The last look at a motion and at the messages: each thing it refuses, by itself."""

from dataclasses import replace

import numpy as np
import pytest

from eva_ros.control import gate
from eva_ros.control.chunk import Chunk
from eva_ros.control.chunk_checks import clamp_range
from eva_ros.control.gate import check_chunk
from eva_ros.control.gate import plan_home
from eva_ros.control.reasons import RefusedError
from eva_ros.control.settings import GateSettings
from eva_ros.control.stop import stop_limits
from eva_ros.control.trajectory import check_command
from eva_ros.control.trajectory import to_command
from eva_ros.control.verdict import begun_at_rest
from eva_ros.control.verdict import check_before
from eva_ros.control.verdict import check_motion
from eva_ros.robot.motion import minimum_jerk
from eva_ros.robot.spec import load_robot
from eva_ros.robot.splines import HermiteSpline

ROBOT = load_robot('aloha_sim')
LIMITS = ROBOT.limits
SETTINGS = GateSettings(check_collisions=False)
ELBOW = ROBOT.joint_names.index('left_elbow')


def move(seconds=2.0, by=0.3, begin=ROBOT.home):
    """A move of the left elbow from rest to rest: through the middle, in two pieces."""
    goal = begin + by * (np.arange(14) == ELBOW)
    still = np.zeros((2, 14))
    path = HermiteSpline(np.array([0.0, seconds]), np.stack([begin, goal]), still, still)
    times = np.array([0.0, 0.5, 1.0]) * seconds
    q, v, a = path.sample(times)
    v[[0, -1]], a[[0, -1]] = 0.0, 0.0
    return HermiteSpline(times, q, v, a)


# --- the motion ----------------------------------------------------------------------------------


def fastest(limits):
    """Return how long the move takes that just keeps the limits."""
    velocity, acceleration, jerk = 1.875, 10.0 / np.sqrt(3.0), 60.0
    return max(
        0.3 * velocity / limits.max_velocity[ELBOW],
        np.sqrt(0.3 * acceleration / limits.max_acceleration[ELBOW]),
        np.cbrt(0.3 * jerk / limits.max_jerk[ELBOW]),
    )


@pytest.mark.parametrize('kind', ['max_velocity', 'max_acceleration', 'max_jerk'])
def test_a_motion_that_breaks_a_limit_of_its_rates_is_refused(kind):
    check_motion(move(), LIMITS, moving=False)
    tight = getattr(LIMITS, kind).copy()
    tight[ELBOW] = 0.02
    with pytest.raises(RefusedError, match='breaks a limit') as refusal:
        check_motion(move(), replace(LIMITS, **{kind: tight}), moving=False)
    assert refusal.value.reason == 'LIMIT_VIOLATION'


def test_a_motion_is_refused_where_it_is_a_little_too_fast():
    lasting = fastest(LIMITS)
    check_motion(move(1.01 * lasting), LIMITS, moving=False)
    with pytest.raises(RefusedError, match='breaks a limit'):
        check_motion(move(0.98 * lasting), LIMITS, moving=False)


@pytest.mark.parametrize('by', [-0.3, 0.3])
def test_a_motion_that_leaves_the_position_limits_is_refused(by):
    begin = ROBOT.home.copy()
    end = LIMITS.min_position if by < 0.0 else LIMITS.max_position
    begin[ELBOW] = end[ELBOW] - 0.9 * by
    with pytest.raises(RefusedError, match='breaks a limit'):
        check_motion(move(by=by, begin=begin), LIMITS, moving=False)
    begin[ELBOW] = end[ELBOW] - 1.01 * by
    check_motion(move(by=by, begin=begin), LIMITS, moving=False)


def spoiled(part, index, value):
    path = move()
    getattr(path, part)[index] = value
    return path


@pytest.mark.parametrize(
    ('part', 'index', 'value'),
    [
        ('positions', (1, 3), np.nan),
        ('velocities', (1, 3), np.inf),
        ('accelerations', (1, 3), np.nan),
        ('times', 2, np.inf),
        ('times', 1, 0.0),
        ('times', 1, 3.0),
        ('velocities', (0, 3), 0.01),
        ('velocities', (-1, 3), 0.01),
        ('accelerations', (-1, 3), 0.01),
    ],
)
def test_a_motion_that_is_not_well_formed_is_refused(part, index, value):
    with pytest.raises(RefusedError, match='not well formed'), np.errstate(all='ignore'):
        check_motion(spoiled(part, index, value), LIMITS, moving=False)


def test_a_motion_may_begin_as_it_moves_where_it_goes_on_with_one():
    path = spoiled('velocities', (0, 3), 0.01)
    check_motion(path, LIMITS, moving=True)
    with pytest.raises(RefusedError, match='not well formed'):
        check_motion(spoiled('velocities', (-1, 3), 0.01), LIMITS, moving=True)


# --- what comes before the steps of a chunk ------------------------------------------------------


def test_what_comes_before_a_chunk_keeps_the_limits_of_a_stop():
    lasting = fastest(stop_limits(LIMITS, SETTINGS, urgent=False))
    check_before(move(1.01 * lasting), LIMITS, SETTINGS)
    with pytest.raises(RefusedError, match='before the chunk breaks a limit') as refusal:
        check_before(move(0.95 * lasting), LIMITS, SETTINGS)
    assert refusal.value.reason == 'LIMIT_VIOLATION'


def test_what_comes_before_a_chunk_stays_within_the_position_limits():
    begin = ROBOT.home.copy()
    begin[ELBOW] = LIMITS.max_position[ELBOW] - 0.27
    with pytest.raises(RefusedError, match='before the chunk breaks a limit'):
        check_before(move(begin=begin), LIMITS, SETTINGS)


# --- the messages --------------------------------------------------------------------------------


@pytest.fixture
def command():
    return to_command(ROBOT, move())


def refusal_of(command, **changes):
    """Return what is said against the command with the right arm's message changed."""
    changed = {**command, 'right': replace(command['right'], **changes)}
    with pytest.raises(RefusedError) as refusal, np.errstate(all='ignore'):
        check_command(changed, ROBOT)
    assert refusal.value.reason == 'LIMIT_VIOLATION'
    return refusal.value.detail


def with_value(array, index, value):
    array = np.array(array)
    array[index] = value
    return array


def test_messages_that_are_as_they_should_be_pass(command):
    check_command(command, ROBOT)


def test_a_command_for_one_arm_alone_is_refused(command):
    with pytest.raises(RefusedError, match='no command for every arm'):
        check_command({'left': command['left']}, ROBOT)
    with pytest.raises(RefusedError, match='no command for every arm'):
        check_command({}, ROBOT)
    with pytest.raises(RefusedError, match='no command for every arm'):
        check_command({**command, 'middle': command['left']}, ROBOT)


def test_arms_that_would_not_end_together_are_refused(command):
    later = command['right'].time_from_start + 0.001
    said = refusal_of(command, time_from_start=later)
    assert said == 'The arms would not end together.'


def test_the_other_arms_joints_are_refused(command):
    names = command['left'].joint_names
    said = refusal_of(command, joint_names=names)
    assert said == 'The right arm: the joints are not those of its controller.'
    backwards = command['right'].joint_names[::-1]
    assert 'not those of its controller' in refusal_of(command, joint_names=backwards)


@pytest.mark.parametrize('part', ['positions', 'velocities', 'accelerations'])
def test_points_that_lack_a_joint_or_a_row_are_refused(command, part):
    rows = getattr(command['right'], part)
    said = 'The right arm: the points do not hold every joint.'
    assert refusal_of(command, **{part: rows[:, :-1]}) == said
    assert refusal_of(command, **{part: rows[:-1]}) == said


def test_a_message_without_points_is_refused(command):
    nothing = np.zeros((0, 7))
    said = refusal_of(command, time_from_start=np.zeros(0), positions=nothing,
                      velocities=nothing, accelerations=nothing)  # fmt: skip
    assert said == 'The right arm: the points do not hold every joint.'


@pytest.mark.parametrize('value', [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize('part', ['positions', 'velocities', 'accelerations', 'time_from_start'])
def test_a_value_that_is_not_finite_is_refused(command, part, value):
    array = getattr(command['right'], part)
    index = (0, 2) if array.ndim == 2 else 0
    said = refusal_of(command, **{part: with_value(array, index, value)})
    assert said == 'The right arm: a value is not finite.'


@pytest.mark.parametrize('times', [[0.0, 2.0], [-0.5, 2.0], [2.0, 2.0], [2.5, 2.0],
                                   [4e-10, 2.0], [2.0 - 4e-10, 2.0]])  # fmt: skip
def test_times_that_do_not_increase_by_whole_nanoseconds_are_refused(command, times):
    said = refusal_of(command, time_from_start=np.array(times))
    assert said == 'The right arm: the times do not increase.'


@pytest.mark.parametrize('part', ['velocities', 'accelerations'])
def test_a_message_that_does_not_end_at_rest_is_refused(command, part):
    array = getattr(command['right'], part)
    said = refusal_of(command, **{part: with_value(array, (-1, 4), 1e-6)})
    assert said == 'The right arm: it does not end at rest.'


@pytest.mark.parametrize('joint', range(7))
@pytest.mark.parametrize('end', ['min_position', 'max_position'])
def test_a_point_outside_the_limits_is_refused(command, joint, end):
    at = ROBOT.arm_command('right', getattr(LIMITS, end))[1][joint]
    outwards = 1.0 if end == 'max_position' else -1.0
    positions = command['right'].positions
    inside = replace(command['right'], positions=with_value(positions, (0, joint), at))
    check_command({**command, 'right': inside}, ROBOT)
    beyond = with_value(positions, (0, joint), at + 1e-6 * outwards)
    said = refusal_of(command, positions=beyond)
    assert said == 'The right arm: a position is outside the limits.'


def test_a_gripper_that_closes_upwards_has_the_same_limits():
    arm = ROBOT.arms['right']
    swapped = replace(arm.gripper, closed=arm.gripper.open, open=arm.gripper.closed)
    robot = replace(ROBOT, arms={**ROBOT.arms, 'right': replace(arm, gripper=swapped)})
    check_command(to_command(robot, move()), robot)


@pytest.mark.parametrize('sign', [-1.0, 1.0])
@pytest.mark.parametrize('joint', [0, 5, 6])
def test_a_point_that_is_too_fast_is_refused(command, joint, sign):
    most = np.abs(ROBOT.arm_command_rates('right', LIMITS.max_velocity))[joint] * sign
    velocities = command['right'].velocities
    kept = replace(command['right'], velocities=with_value(velocities, (0, joint), most))
    check_command({**command, 'right': kept}, ROBOT)
    said = refusal_of(command, velocities=with_value(velocities, (0, joint), 1.01 * most))
    assert said == 'The right arm: a velocity is above the limits.'


@pytest.mark.parametrize('plan', ['chunk', 'home'])
def test_no_message_leaves_that_was_not_looked_at(monkeypatch, plan):
    """What is wrong with the messages, and not with the motion, refuses the chunk as well."""

    def moves_at_its_end(robot, path):
        command = to_command(robot, path)
        command['right'].velocities[-1, 2] = 0.1
        return command

    monkeypatch.setattr(gate, 'to_command', moves_at_its_end)
    if plan == 'home':
        verdict = plan_home(ROBOT.home, ROBOT, SETTINGS, 0)
    else:
        path = minimum_jerk(ROBOT.home, move().positions[-1], 17)
        chunk = Chunk(0, 1, ROBOT.joint_names, 0.1, path, ROBOT.home)
        verdict = check_chunk(chunk, ROBOT.home, ROBOT, SETTINGS, 0)
    assert (verdict.accepted, verdict.reason) == (False, 'LIMIT_VIOLATION')
    assert verdict.detail == 'The right arm: it does not end at rest.'
    assert verdict.command == {} and verdict.path is None


# --- home ----------------------------------------------------------------------------------------


def test_a_way_home_on_which_the_arms_would_touch_is_refused():
    settings = GateSettings(collision_margin=0.005)
    assert plan_home(ROBOT.home, ROBOT, settings, 0).accepted
    reaching = ROBOT.home.copy()
    for name, value in (('shoulder', 0.75), ('elbow', -0.35)):
        for arm in ROBOT.arms:
            reaching[ROBOT.joint_names.index(f'{arm}_{name}')] = value
    verdict = plan_home(ROBOT.home, replace(ROBOT, home=reaching), settings, 0)
    assert (verdict.accepted, verdict.reason) == (False, 'COLLISION')
    assert verdict.command == {} and len(verdict.collision_pair) == 2


def test_a_way_home_that_leaves_the_workspace_is_refused():
    low = replace(ROBOT, workspace=((-0.6, -1.0, 0.0), (0.6, 1.0, 0.5)))
    high = ROBOT.home.copy()
    high[1], high[2] = -0.3, -0.6
    verdict = plan_home(ROBOT.home, replace(low, home=high), SETTINGS, 0)
    assert (verdict.accepted, verdict.reason) == (False, 'WORKSPACE')


# --- the clamp -----------------------------------------------------------------------------------


def test_a_margin_wider_than_a_joints_range_leaves_a_tenth_of_it():
    low, high = LIMITS.min_position.copy(), LIMITS.max_position.copy()
    high[ELBOW] = low[ELBOW] + 0.02
    narrow = replace(ROBOT, limits=replace(LIMITS, min_position=low, max_position=high))
    lowest, highest = clamp_range(narrow, GateSettings(joint_limit_margin=0.05))
    assert highest[ELBOW] - lowest[ELBOW] == pytest.approx(0.002)
    assert lowest[ELBOW] == pytest.approx(low[ELBOW] + 0.009)
    # The others have the margin that was asked for, and grippers none.
    assert lowest[0] == pytest.approx(low[0] + 0.05)
    assert (lowest[6], highest[6]) == (low[6], high[6])


def test_a_motion_that_cannot_begin_at_rest_is_refused():
    still = np.tile(ROBOT.home, (17, 1))
    verdict = check_chunk(
        Chunk(0, 1, ROBOT.joint_names, 0.1, still, ROBOT.home), ROBOT.home, ROBOT, SETTINGS, 0
    )
    assert begun_at_rest(verdict, ROBOT, SETTINGS).accepted
    verdict.path.positions[3, ELBOW] = np.nan
    refused = begun_at_rest(verdict, ROBOT, SETTINGS)
    assert (refused.accepted, refused.reason) == (False, 'LIMIT_VIOLATION')
    assert refused.command == {} and refused.path is None
