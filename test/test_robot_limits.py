"""Limits: refused where they cannot be right, tightened but never loosened."""

import dataclasses

import numpy as np
import pytest
from robot_files import robot_content
import yaml

from eva_ros.control.command_supervisor import CommandSupervisor
from eva_ros.control.settings import GateSettings
from eva_ros.errors import UserError
from eva_ros.robot.limits import Limits
from eva_ros.robot.paths import find_config
from eva_ros.robot.spec import load_robot

JOINT = 'left_elbow'
SHIPPED = load_robot('aloha_sim').limits


@pytest.fixture
def content():
    return {**robot_content(), 'urdf': None, 'collision': None}


def load(content, tmp_path):
    path = tmp_path / 'robot.yaml'
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content))
    return load_robot(path)


def changed(content, **values):
    entry = {**content['joint_limits'][JOINT], **values}
    entry = {key: value for key, value in entry.items() if value is not ...}
    return {**content, 'joint_limits': {**content['joint_limits'], JOINT: entry}}


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        ({'has_velocity_limits': True, 'max_velocity': ...},
         'has_velocity_limits is true but max_velocity is missing'),
        ({'has_jerk_limits': False}, 'max_jerk is given but has_jerk_limits is not true'),
        ({'min_position': ...}, 'min_position is missing'),
        ({'max_deceleration': 3.0}, 'source.deceleration is missing'),
        ({'min_position': 1.7, 'max_position': 1.6}, 'not below max_position'),
        ({'min_position': 1.6, 'max_position': 1.6}, 'not below max_position'),
        ({'max_velocity': float('nan')}, 'finite'),
        ({'max_acceleration': float('inf')}, 'finite'),
        ({'max_velocity': 0.0}, 'above 0'),
        ({'max_acceleration': -1.0}, 'above 0'),
        ({'max_velocity': 1000.0}, 'placeholder'),
        ({'max_velocity': True}, 'valid number'),
        ({'max_velocity': '3.1'}, 'valid number'),
        ({'min_position': -10.0, 'max_position': 13.0}, 'placeholder'),
        ({'has_position_limits': 1}, 'boolean'),
        ({'max_torque': 3.0}, 'unknown key "max_torque"'),
        ({'source': {'position': 'model'}}, 'source.velocity is missing'),
        ({'source': ...}, 'source'),
        (
            {'has_soft_limits': True, 'soft_lower_limit': -9.0, 'soft_upper_limit': 1.0,
             'source': dict.fromkeys(['position', 'velocity', 'acceleration', 'jerk', 'soft'],
                                     'test')},
            'beyond the position limits',
        ),
    ],
)  # fmt: skip
def test_limits_that_cannot_be_right_are_refused_with_file_and_joint(
    content, tmp_path, values, words
):
    with pytest.raises(UserError) as error:
        load(changed(content, **values), tmp_path)
    assert words in str(error.value)
    assert JOINT in str(error.value)
    assert 'robot.yaml' in str(error.value)


def test_a_joint_named_twice_is_refused(tmp_path):
    text = find_config('robots', 'aloha_sim').read_text()
    text = text.replace('  <side>_elbow: {', '  <side>_waist: {')
    with pytest.raises(UserError, match='"<side>_waist" is named twice'):
        load(text, tmp_path)


@pytest.mark.parametrize('lacking', ['all', 'velocity', 'acceleration', 'position'])
def test_a_joint_without_limits_is_looked_at_but_never_driven(content, tmp_path, lacking):
    flags = {} if lacking == 'all' else {f'has_{lacking}_limits': False}
    names = {'position': ('min_position', 'max_position')}.get(lacking, (f'max_{lacking}',))
    content = changed(content, **flags, **dict.fromkeys(names, ...))
    if lacking == 'all':
        del content['joint_limits'][JOINT]
    robot = load(content, tmp_path)
    robot.require('recordings')
    with pytest.raises(UserError, match=f'limits of {JOINT}'):
        robot.require('gate')
    with pytest.raises(UserError, match=f'not complete for driving the arms.*{JOINT}'):
        CommandSupervisor(robot, GateSettings(), dry_run=True, now_ns=0)


def test_flags_follow_from_the_values_that_are_given(content, tmp_path):
    flags = {f'has_{kind}_limits': ... for kind in ('position', 'velocity', 'acceleration')}
    limits = load(changed(content, **flags), tmp_path).limits
    for field in dataclasses.fields(limits)[1:]:
        assert list(getattr(limits, field.name)) == list(getattr(SHIPPED, field.name))


def test_a_gripper_beyond_open_is_refused(content, tmp_path):
    content['joint_limits']['left_gripper']['max_position'] = 1.2
    with pytest.raises(UserError, match='left_gripper: a gripper moves within 0 to 1'):
        load(content, tmp_path)


def test_soft_limits_bound_the_range(content, tmp_path):
    source = {**content['joint_limits'][JOINT]['source'], 'soft': 'test'}
    soft = {'has_soft_limits': True, 'soft_lower_limit': -1.0, 'soft_upper_limit': 1.2}
    limits = load(changed(content, source=source, **soft), tmp_path).limits
    j = limits.joint_names.index(JOINT)
    assert (limits.min_position[j], limits.max_position[j]) == (-1.0, 1.2)


def test_every_shipped_limit_says_where_it_comes_from():
    for name in ('aloha_sim', 'piper_dual'):
        entries = yaml.safe_load(find_config('robots', name).read_text())['joint_limits']
        for entry in entries.values():
            kinds = {k.partition('_')[2] for k in entry if k != 'source'}
            assert kinds and all(len(entry['source'][kind]) > 10 for kind in kinds)


def limits_of(names, **values):
    arrays = {
        'min_position': -1.0, 'max_position': 1.0, 'max_velocity': 2.0,
        'max_acceleration': 3.0, 'max_deceleration': 3.0, 'max_jerk': np.inf,
    }  # fmt: skip
    arrays.update(values)
    return Limits(tuple(names), **{k: np.full(len(names), v) for k, v in arrays.items()})


def test_limits_leave_each_joint_a_position():
    with pytest.raises(UserError, match='No position is left for joint b'):
        limits_of('b', min_position=3.0)


def test_limits_cannot_be_changed_in_place():
    with pytest.raises(ValueError, match='read-only'):
        limits_of('ab').max_velocity[0] = 100.0


def test_deceleration_is_acceleration_where_none_is_given():
    limits = load_robot('aloha_sim').limits
    assert (limits.max_deceleration == limits.max_acceleration).all()


def test_scaling_leaves_positions():
    scaled = limits_of('a', max_jerk=8.0).scaled(velocity=0.5, acceleration=0.25)
    assert scaled.max_velocity[0] == 1.0
    assert scaled.max_acceleration[0] == 0.75
    assert scaled.max_jerk[0] == 2.0
    assert scaled.max_position[0] == 1.0
