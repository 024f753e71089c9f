"""Arms of one to eight joints, alike or not, with or without grippers, in their own units."""

import dataclasses

from hypothesis import given
from hypothesis import strategies as st
import numpy as np
import pytest
from robot_files import arm
from robot_files import content
from robot_files import LIMITS
from robot_files import OPENING
from robot_files import PAIRS
from robot_files import write_robot

from eva_ros.control.chunk import Chunk
from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.gate import check_chunk
from eva_ros.control.settings import GateSettings
from eva_ros.errors import UserError
from eva_ros.robot.spec import load_robot


@pytest.fixture(params=PAIRS)
def robot(request, tmp_path):
    return load_robot(write_robot(tmp_path, PAIRS[request.param]))


def motion(robot, steps=17):
    """Return a chunk from home in which every joint moves a little."""
    way = 0.2 * (1.0 - np.cos(np.linspace(0.0, np.pi, steps)))[:, None]
    return Chunk(
        observation_stamp_ns=0,
        rollout_id=1,
        joint_names=robot.joint_names,
        dt=0.1,
        positions=robot.home + way,
        observed_positions=robot.home,
        confidence=1.0,
        executability=10.0,
    )


def test_joint_states_come_back_as_they_were(robot):
    names, values = robot.to_joint_state(robot.home + 0.1)
    assert len(names) == len(robot.joint_names)
    order = np.random.default_rng(0).permutation(len(names))
    found = robot.from_joint_state([names[i] for i in order], values[order])
    np.testing.assert_allclose(found, robot.home + 0.1, atol=1e-12)


def test_a_chunk_becomes_a_command_for_every_arm_there_is(robot):
    chunk = motion(robot)
    settings = GateSettings(check_collisions=False, allowed_start_tolerance=1.0)
    verdict = check_chunk(chunk, robot.home, robot, settings, 0)
    assert verdict.accepted, verdict.detail
    assert set(verdict.command) == set(robot.arms)
    for name, trajectory in verdict.command.items():
        assert trajectory.joint_names == robot.arms[name].controller.joints
        end = robot.arms[name].command_interface.from_message(trajectory.positions[-1])
        np.testing.assert_allclose(end, chunk.positions[-1][robot.arm_indices(name)], atol=0.05)


@pytest.mark.parametrize('count', [0, 9])
def test_an_arm_of_no_joints_or_of_nine_is_refused(tmp_path, count):
    with pytest.raises(UserError, match=r'arms\.left\.joints'):
        load_robot(write_robot(tmp_path, content(left=arm('left', count))))


def test_a_third_arm_is_refused(tmp_path):
    arms = {'left': arm('left', 2), 'middle': arm('middle', 2)}
    with pytest.raises(UserError, match='middle'):
        load_robot(write_robot(tmp_path, content(**arms)))


@given(
    scale=st.floats(1e-4, 10.0), offset=st.floats(-1e4, 1e4), sign=st.sampled_from([1, -1]),
    angle=st.floats(-3.0, 3.0),
)  # fmt: skip
def test_servo_ticks_are_read_and_sent_by_scale_offset_and_sign(
    tmp_path_factory, scale, offset, sign, angle
):
    calibration = {'left_j1': {'scale': scale, 'offset': offset, 'sign': sign}}
    entry = arm('left', 2, gripper=False, calibration=calibration)
    entry['controller'].update(unit='state')
    robot = load_robot(write_robot(tmp_path_factory.mktemp('ticks'), content(left=entry)))
    raw = offset + sign * angle / scale
    found = robot.from_joint_state(['left_j0', 'left_j1'], [0.5, raw])
    assert found == pytest.approx([0.5, angle], abs=1e-9 + 1e-12 * abs(offset) * scale)
    _, sent = robot.arm_command('left', [0.5, angle])
    assert sent == pytest.approx([0.5, raw])
    rates = robot.arms['left'].velocities_from_joint_state(['left_j1'], [sign / scale])
    assert np.isnan(rates[0]) and rates[1] == pytest.approx(1.0)


def test_states_in_degrees_are_commanded_in_radians_unless_the_controller_takes_degrees(tmp_path):
    for unit, sent in (('rad', np.pi / 2), ('state', 90.0)):
        entry = arm('left', 1, gripper=False, state_unit='deg')
        entry['controller']['unit'] = unit
        robot = load_robot(write_robot(tmp_path, content(left=entry)))
        assert robot.from_joint_state(['left_j0'], [90.0]) == pytest.approx([np.pi / 2])
        assert robot.arm_command('left', [np.pi / 2])[1] == pytest.approx([sent])


def test_joints_may_have_other_names_in_joint_states_and_commands(tmp_path):
    entry = arm('left', 2, gripper=False, state_joints=['m1', 'm2'])
    entry['controller']['joints'] = ['c1', 'c2']
    robot = load_robot(write_robot(tmp_path, content(left=entry)))
    assert robot.to_joint_state([0.1, 0.2])[0] == ('m1', 'm2')
    assert robot.arm_command('left', [0.1, 0.2])[0] == ('c1', 'c2')


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        ({'state_joints': ['a']}, 'state_joints must name 2 joints'),
        ({'state_joints': ['a', 'a']}, 'state_joints names a joint twice'),
        ({'calibration': {'elbow': {}}}, 'calibration names elbow'),
        ({'calibration': {'left_j0': {'scale': 0.0}}}, 'greater than 0'),
        ({'calibration': {'left_j0': {'sign': 2}}}, 'sign'),
        ({'calibration': {'left_j0': {}}, 'state_unit': 'deg'},
         'either state_unit or calibration'),
        ({'controller': {'topic': 'x', 'joints': ['a', 'b', 'c']}},
         'controller.joints must name 2'),
    ],
)  # fmt: skip
def test_contradictions_in_an_arm_are_refused_with_the_file(tmp_path, changes, words):
    with pytest.raises(UserError) as error:
        load_robot(write_robot(tmp_path, content(left=arm('left', 2, gripper=False, **changes))))
    assert words in str(error.value) and 'robot.yaml' in str(error.value)


@pytest.mark.parametrize('lacking', ['controller', 'home', 'joint_limits', 'cameras'])
def test_what_is_missing_is_said_for_each_purpose_and_nothing_is_driven(tmp_path, lacking):
    given = content(left=arm('left', 2), right=arm('right', 2))
    if lacking == 'controller':
        del given['arms']['left']['controller']
    else:
        del given[lacking]
    robot = load_robot(write_robot(tmp_path, given))
    if lacking != 'cameras':
        robot.require('recordings')
        robot.require('training')
        with pytest.raises(UserError, match='not complete for driving the arms'):
            CommandSupervisor(robot, GateSettings(), dry_run=False, now_ns=0)
        with pytest.raises(UserError, match='not complete for driving the arms'):
            check_chunk(motion(robot), robot.home, robot, GateSettings(), 0)
    else:
        with pytest.raises(UserError, match='not complete for recordings: no cameras'):
            robot.require('recordings')


def test_what_both_arms_share_is_written_once_and_may_differ_for_one(tmp_path):
    both = arm('<side>', 2)
    given = content(left=arm('left', 2), right=arm('right', 2))
    given['arms'] = {'both': both, 'right': {'state_topic': 'right/joint_states'}}
    given['home'] = {'<side>_j0': 0.1, '<side>_j1': 0.0, '<side>_gripper': 0.5, 'right_j0': 0.3}
    given['joint_limits'] = {'<side>_j0': LIMITS, '<side>_j1': LIMITS, '<side>_gripper': OPENING}
    robot = load_robot(write_robot(tmp_path, given))
    assert robot.joint_state_topics == ('joint_states', 'right/joint_states')
    assert robot.arms['right'].controller.joints == ('right_j0', 'right_j1', 'right_finger')
    assert robot.home.tolist() == [0.1, 0.0, 0.5, 0.3, 0.0, 0.5]
    assert not np.isinf(dataclasses.astuple(robot.limits)[1]).any()
