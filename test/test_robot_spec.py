"""A robot YAML: strict, matched by name, grippers 0 to 1 inside."""

import re

import numpy as np
import pytest
from robot_files import robot_content
from robot_files import write_robot
import yaml

from eva_ros.errors import UserError
from eva_ros.robot.paths import config_dir
from eva_ros.robot.paths import find_config
from eva_ros.robot.spec import load_robot


@pytest.fixture(scope='module')
def robot():
    return load_robot('aloha_sim')


def test_both_shipped_robots_load():
    assert load_robot('aloha_sim').simulated
    piper = load_robot('piper_dual')
    assert not piper.simulated
    assert len(piper.joint_names) == 14


def test_an_unknown_robot_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match='aloha_sim, franka_duo, piper_dual'):
        load_robot('alhoa_sim')
    with pytest.raises(UserError, match='There is no file'):
        load_robot('robots/alhoa_sim.yaml')


def test_the_order_is_left_arm_gripper_right_arm_gripper(robot):
    assert robot.joint_names[0] == 'left_waist'
    assert robot.joint_names[6] == 'left_gripper'
    assert robot.joint_names[13] == 'right_gripper'
    assert np.flatnonzero(robot.gripper_mask).tolist() == [6, 13]
    assert robot.limits.joint_names == robot.joint_names


def test_joint_states_are_matched_by_name_in_any_order(robot):
    names, values = robot.to_joint_state(robot.home)
    shuffled = np.random.default_rng(0).permutation(14)
    names = [names[i] for i in shuffled] + ['left_gripper', 'left_right_finger']
    values = [*values[shuffled], 1.5, -0.03]
    np.testing.assert_allclose(robot.from_joint_state(names, values), robot.home, atol=1e-12)


def test_a_joint_state_without_a_joint_is_refused_with_its_name(robot):
    names, values = robot.to_joint_state(robot.home)
    with pytest.raises(UserError, match='lacks left_elbow'):
        robot.from_joint_state(names[:2] + names[3:], values[:13])
    with pytest.raises(UserError, match='left_waist more than once'):
        robot.from_joint_state((*names, 'left_waist'), [*values, 0.0])
    with pytest.raises(UserError, match='15 names but 14 positions'):
        robot.from_joint_state((*names, 'x'), values)
    with pytest.raises(UserError, match='right_elbow is not a number'):
        robot.from_joint_state(names, np.where(np.array(names) == 'right_elbow', np.nan, values))


def test_grippers_are_0_to_1_inside_and_metres_outside(robot):
    q = np.zeros((2, 14))
    q[1, 6] = 1.0
    names, values = robot.arm_command('left', q)
    assert names[-1] == 'left_left_finger'
    np.testing.assert_allclose(values[:, -1], [0.021, 0.057])
    np.testing.assert_allclose(robot.arm_command_rates('left', q)[:, -1], [0.0, 0.036])


def test_grippers_are_sent_further_closed_than_they_are_read(robot):
    read = np.random.default_rng(0).uniform(0.0, 1.0, (5, 14))
    read[:, 6], read[:, 13] = [1.0, 0.8, 0.6, 0.4, 0.0], [1.2, 1.0, 1.0, 1.0, -0.1]
    sent = robot.gripping(read)
    np.testing.assert_allclose(sent[:, 6], [1.0, 0.633, 0.0, 0.0, 0.0], atol=1e-12)
    np.testing.assert_allclose(sent[:, 13], [1.0, 1.0, 1.0, 1.0, 0.0])
    np.testing.assert_array_equal(sent[:, ~robot.gripper_mask], read[:, ~robot.gripper_mask])
    as_read = load_robot('piper_dual').gripping(read)
    np.testing.assert_allclose(as_read[:, 6], read[:, 6])


def test_a_gripper_that_is_about_to_open_or_nearly_open_is_sent_as_it_was_read(robot):
    read = np.zeros((8, 14))
    read[:, 6] = [0.6, 0.6, 0.6, 0.65, 0.8, 1.0, 1.0, 1.0]
    read[:, 13] = 0.95
    sent = robot.gripping(read)
    np.testing.assert_allclose(sent[:, 6], read[:, 6])
    np.testing.assert_allclose(sent[:, 13], read[:, 13])
    still = np.zeros((8, 14))
    still[:, 6] = 0.6
    np.testing.assert_allclose(robot.gripping(still)[:, 6], 0.0)
    np.testing.assert_array_equal(robot.gripping(still[0]), robot.gripping(still)[0])


def test_velocities_are_nan_where_the_joint_state_gives_none(robot):
    velocities = robot.velocities_from_joint_state(
        ['left_waist', 'left_left_finger'], [0.5, 0.036]
    )
    assert velocities[0] == 0.5
    assert velocities[6] == pytest.approx(1.0)
    assert np.isnan(velocities[7:]).all()


def test_arms_with_the_same_joint_names_are_read_from_their_own_topics():
    piper = load_robot('piper_dual')
    names = ['joint1', 'joint2', 'joint3', 'joint4', 'joint5', 'joint6', 'gripper']
    values = [0.1, 0.2, -0.3, 0.4, 0.5, 0.6, 0.035]
    left = piper.arms['left'].from_joint_state(names, values)
    np.testing.assert_allclose(left, [0.1, 0.2, -0.3, 0.4, 0.5, 0.6, 0.5])
    assert piper.joint_state_topics == (
        'left_arm/joint_states_single', 'right_arm/joint_states_single',
    )  # fmt: skip
    with pytest.raises(UserError, match='one joint state does not hold both'):
        piper.from_joint_state(names, values)


def broken(tmp_path, pattern, replacement):
    text = find_config('robots', 'aloha_sim').read_text()
    assert re.search(pattern, text)
    path = tmp_path / 'broken.yaml'
    text = text.replace('collision: ..', f'collision: {config_dir()}')
    path.write_text(re.sub(pattern, replacement, text, count=1))
    return path


@pytest.mark.parametrize(
    ('pattern', 'replacement', 'words'),
    [
        ('name: aloha_sim', 'name: aloha_sim\ncolour: red', 'unknown key "colour"'),
        ('simulated: true', 'simulated: maybe', 'simulated'),
        ('closed: 0.021', 'closed: 0.057', 'same position'),
        ('trajectory_msgs/msg/JointTrajectory}', 'trajectory_msgs/msg/JointTrajectory, '
         'joints: [a, b, c, d, e, f, g]}', 'must end with'),
        ('<side>_waist: 0.0', '<side>_waist: 4.0', 'left_waist is outside its limits'),
        ('<side>_waist: 0.0, ', '', 'home must hold the joints of the arms: left_waist'),
        (r'\[<side>_waist, <side>_shoulder', '[<side>_waist, <side>_waist',
         'arms name left_waist, right_waist twice'),
        ('arms:', 'arms: [', 'not valid YAML'),
        ('unit: m,', 'unit: mm,', 'unit'),
        ('rest_velocity: 0.02', 'rest_velocity: 0.0', 'rest_velocity'),
        ('rest_velocity: 0.02', 'rest_velocity: true', 'rest_velocity: Input should be a valid '
         'number, not true.'),
        ('height: 240', "height: '240'", "height: Input should be a valid integer, not the text "
         "'240'."),
        ('width: 320', 'width: true', 'width: Input should be a valid integer, not true.'),
        ('grip: 2.67', 'grip: 0.9', 'grip: Input should be greater than or equal to 1'),
        ('closed: 0.021', "closed: '0.021'", "valid number, not the text '0.021'."),
        ('simulated: true', 'simulated: 1', 'simulated: Input should be a valid boolean, not 1.'),
        ('<side>_waist: 0.0', "<side>_waist: '0.0'", "home.left_waist: Input should be a valid "
         "number, not the text '0.0'."),
    ],
)  # fmt: skip
def test_a_wrong_key_is_refused_with_the_file(tmp_path, pattern, replacement, words):
    with pytest.raises(UserError) as error:
        load_robot(broken(tmp_path, pattern, replacement))
    assert words in str(error.value)
    assert 'broken.yaml' in str(error.value)


def test_yaml_runs_no_code(tmp_path):
    path = tmp_path / 'evil.yaml'
    path.write_text('name: !!python/object/apply:os.getcwd []\n')
    with pytest.raises(UserError, match='not valid YAML'):
        load_robot(path)


def test_the_controller_files_name_the_joints_of_the_robot(robot):
    path = find_config('controllers', 'aloha_sim')
    content = yaml.safe_load(path.read_text())
    for arm in ('left', 'right'):
        parameters = content[f'{arm}_arm_controller']['ros__parameters']
        assert tuple(parameters['joints']) == robot.arms[arm].controller.joints
        assert parameters['interpolate_from_desired_state'] is True
        assert not parameters['allow_nonzero_velocity_at_trajectory_end']
        assert robot.arms[arm].controller.topic == f'{arm}_arm_controller/joint_trajectory'


@pytest.mark.parametrize(
    ('change', 'words'),
    [
        ({'collision': {'bodies': []}}, 'collision.bodies'),
        ({'collision': {'bodies': [{'name': 'a', 'frame': 'world'}] * 2}}, 'capsule or box'),
        (
            {'collision': {'bodies': [
                {'name': name, 'frame': 'world', 'box': {'center': [0, 0, 0], 'size': [1, 1, 1]}}
                for name in 'ab'], 'allowed': [['a', 'c']]}},
            'allowed names c',
        ),
        (
            {'collision': {'bodies': [
                {'name': name, 'frame': 'world', 'box': {'center': [0, 0, 0], 'size': [1, 1, 0]}}
                for name in 'ab']}},
            'size above 0',
        ),
        ({'workspace': {'min': [0, 0, 0], 'max': [1, 0, 1]}}, 'min must be below max'),
        ({'max_tracking_error': {'elbow': 0.1}}, 'max_tracking_error names elbow'),
        ({'max_tracking_error': {'left_elbow': 0.0}}, 'max_tracking_error'),
        ({'urdf': None}, 'collision and workspace need a urdf'),
    ],
)  # fmt: skip
def test_what_the_gate_reads_is_checked(tmp_path, change, words):
    path = write_robot(tmp_path, {**robot_content(), **change})
    with pytest.raises(UserError) as error:
        load_robot(path)
    assert words in str(error.value) and 'robot.yaml' in str(error.value)
