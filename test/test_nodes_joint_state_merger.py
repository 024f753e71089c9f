"""robot_state_publisher hears both arms, whatever their drivers call the joints."""

import numpy as np
import pytest
from ros_harness import Graph
from sensor_msgs.msg import JointState
from two_drivers import JOINTS
from two_drivers import robot_of_two_drivers

from eva_ros.nodes.joint_state_merger import JointStateMerger
from eva_ros.ros import qos
from eva_ros.ros import topics

NAMES = ['joint1', 'joint2', 'joint3', 'joint4', 'joint5', 'joint6', 'gripper']
MERGED = topics.of(topics.JOINT_STATE_MERGER, topics.MERGED_JOINT_STATES)


def merged_positions(heard):
    return {n: p for message in heard for n, p in zip(message.name, message.position)}


def start(graph: Graph, robot):
    thread = graph.start(JointStateMerger, robot=str(robot))
    assert thread.refusal == ''
    heard = graph.collect(JointState, MERGED, qos.SENSOR_OUTPUT)
    graph.wait_for(lambda: thread.node.count_subscribers(MERGED))
    return heard


def speak(graph: Graph, side, names, positions):
    topic = f'{side}_arm/joint_states_single'
    publisher = graph.publisher(JointState, topic, qos.SENSOR_OUTPUT)
    publisher.publish(JointState(name=names, position=positions))


@pytest.mark.parametrize('unit', ['rad', 'deg'])
def test_both_arms_come_out_under_the_names_and_units_of_the_urdf(graph: Graph, tmp_path, unit):
    heard = start(graph, robot_of_two_drivers(tmp_path, unit))
    angles = np.linspace(0.1, 0.6, 6)
    for side, sign in (('left', 1.0), ('right', -1.0)):
        given = sign * (np.degrees(angles) if unit == 'deg' else angles)
        speak(graph, side, NAMES, [*given, 0.07])
    graph.wait_for(lambda: set(merged_positions(heard)) >= set(JOINTS))
    positions = merged_positions(heard)
    expected = [*angles, 0.07, *-angles, 0.07]
    np.testing.assert_allclose([positions[name] for name in JOINTS], expected)
    assert all(message.header.stamp.sec > 0 for message in heard)


def test_a_message_of_some_joints_and_joints_of_no_arm_are_passed_on(graph: Graph, tmp_path):
    heard = start(graph, robot_of_two_drivers(tmp_path))
    speak(graph, 'left', ['gripper', 'lift'], [0.02, 0.4])
    graph.wait_for(lambda: heard)
    assert merged_positions(heard) == {'left_gripper': 0.02, 'lift': 0.4}


def test_a_position_that_is_not_finite_goes_no_further(graph: Graph, tmp_path):
    heard = start(graph, robot_of_two_drivers(tmp_path))
    speak(graph, 'left', NAMES, [float('nan')] * 7)
    speak(graph, 'right', NAMES, [0.0] * 7)
    graph.wait_for(lambda: heard)
    assert all('left_joint1' not in message.name for message in heard)


def test_a_urdf_with_one_joint_for_both_arms_is_refused(graph: Graph, tmp_path):
    path = robot_of_two_drivers(tmp_path)
    urdf = tmp_path / 'two.urdf'
    urdf.write_text(urdf.read_text().replace('joint name="left_', 'joint name="'))
    urdf.write_text(urdf.read_text().replace('joint name="right_', 'joint name="'))
    thread = graph.start(JointStateMerger, robot=str(path))
    assert thread.refusal == (
        f'The URDF {urdf} has one joint gripper for both arms of piper_dual: it must name its '
        'joints as the robot YAML does.'
    )


def test_a_robot_without_a_urdf_is_refused(graph: Graph):
    thread = graph.start(JointStateMerger, robot='piper_dual')
    assert 'names no URDF: add `urdf`' in thread.refusal
