"""The simulated robot on its topics: rates, commands, scenes and the judge's word."""

from collections import Counter

import numpy as np
import pytest
from rclpy.parameter import Parameter
from ros_harness import Graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from trajectory_msgs.msg import JointTrajectoryPoint

from eva_msgs.msg import Episode
from eva_ros.episodes.images import decode_image
from eva_ros.nodes.sim_robot import SimRobotNode
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_ns

ROBOT = load_robot('aloha_sim')
MS = 1_000_000


class Listener:
    """Hears everything the simulated robot says."""

    def __init__(self, graph: Graph):
        self.graph = graph
        self.clock = graph.collect(Clock, topics.CLOCK, qos.CLOCK)
        self.states = graph.collect(JointState, 'joint_states', qos.SENSOR_OUTPUT)
        self.episodes = graph.collect(Episode, topics.EPISODE, qos.LATCHED)
        self.images = {
            name: graph.collect(CompressedImage, camera.topic, qos.SENSOR_OUTPUT)
            for name, camera in ROBOT.cameras.items()
        }

    def positions(self):
        return ROBOT.from_joint_state(self.states[-1].name, self.states[-1].position)

    def wait_for_start(self, task):
        def found():
            return [e for e in self.episodes if e.phase == Episode.START and e.task == task]

        return self.graph.wait_for(found)[-1]


@pytest.fixture
def listener(graph):
    listener = Listener(graph)
    thread = graph.start(SimRobotNode, task='reach_left', seed=3)
    assert thread.refusal == ''
    listener.node = thread.node
    return listener


def test_images_and_joint_states_come_at_their_rates_in_simulated_time(listener: Listener):
    listener.graph.wait_for(lambda: len(listener.images['right_wrist']) >= 5)
    listener.graph.wait_for(lambda: len(listener.states) >= 30)
    for heard in listener.images.values():
        steps = np.diff([to_ns(message.header.stamp) for message in heard])
        # A listener that is late by more than ten images loses some.
        assert Counter(steps).most_common(1)[0][0] == 50 * MS
        assert not any(steps % (50 * MS))
    stamps = [to_ns(message.header.stamp) for message in listener.states]
    assert Counter(np.diff(stamps)).most_common(1)[0][0] == 10 * MS
    assert all(stamp % (2 * MS) == 0 for stamp in stamps)
    picture = decode_image(listener.images['top'][0])
    assert picture.shape == (240, 320, 3)
    assert picture.std() > 10
    assert to_ns(listener.clock[-1].clock) % (10 * MS) == 0


def test_a_trajectory_moves_the_arm_it_is_for(listener: Listener):
    listener.graph.wait_for(lambda: listener.states)
    before = listener.positions()
    controller = ROBOT.arms['right'].controller
    publisher = listener.graph.publisher(JointTrajectory, controller.topic, qos.COMMAND)
    names, values = ROBOT.arm_command('right', before)
    target = values + np.eye(7)[0] * 0.3
    message = JointTrajectory(joint_names=list(names))
    point = JointTrajectoryPoint(positions=target.tolist(), velocities=[0.0] * 7)
    point.time_from_start = to_duration(1.0)
    message.points = [point]
    publisher.publish(message)
    moved = ROBOT.arm_indices('right').start
    listener.graph.wait_for(lambda: abs(listener.positions()[moved] - before[moved] - 0.3) < 0.02)
    still = np.arange(14) != moved
    np.testing.assert_allclose(listener.positions()[still], before[still], atol=0.03)


def test_a_rejected_trajectory_moves_nothing_and_is_said(listener: Listener):
    from diagnostic_msgs.msg import DiagnosticArray

    heard = listener.graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
    controller = ROBOT.arms['left'].controller
    publisher = listener.graph.publisher(JointTrajectory, controller.topic, qos.COMMAND)
    publisher.publish(JointTrajectory(joint_names=list(controller.joints)))

    def rejected():
        return [
            status.message
            for array in heard
            for status in array.status
            if status.name.endswith('left controller')
        ]

    assert listener.graph.wait_for(rejected)[-1].startswith('rejected: ')


def test_a_reset_draws_the_scene_asked_for_and_time_goes_on(listener: Listener):
    first = listener.wait_for_start('reach_left')
    listener.graph.wait_for(lambda: len(listener.states) > 10)
    before = listener.positions()
    changes = [Parameter('task', value='reach_right'), Parameter('seed', value=4)]
    assert all(result.successful for result in listener.node.set_parameters(changes))
    answer = listener.graph.call(Trigger, topics.of(topics.SIM_ROBOT, topics.RESET))
    assert answer.success
    start = listener.wait_for_start('reach_right')
    assert start.index == first.index + 1
    assert to_ns(start.header.stamp) > to_ns(first.header.stamp)
    listener.graph.wait_for(lambda: np.abs(listener.positions() - before).max() > 0.05)
    stamps = [to_ns(message.header.stamp) for message in listener.states]
    assert all(np.diff(stamps) > 0)


def test_an_unknown_task_is_refused_with_those_there_are(listener: Listener):
    (result,) = listener.node.set_parameters([Parameter('task', value='juggle')])
    assert not result.successful
    assert 'juggle' in result.reason
    assert 'reach_left' in result.reason


def test_a_robot_that_is_not_simulated_is_refused(graph: Graph):
    thread = graph.start(SimRobotNode, robot='piper_dual')
    assert "'piper_dual' is not a simulated one" in thread.refusal


def test_the_judges_word_is_said_once_when_the_task_is_done(listener: Listener):
    listener.node._todo.put(lambda: setattr(listener.node._sim, 'success', lambda: True))
    ends = listener.graph.wait_for(
        lambda: [episode for episode in listener.episodes if episode.phase == Episode.END]
    )
    count = len(listener.states)
    listener.graph.wait_for(lambda: len(listener.states) > count + 20)
    assert [(end.task, end.success) for end in ends] == [('reach_left', Episode.SUCCESS)]
    late = listener.graph.collect(Episode, topics.EPISODE, qos.LATCHED)
    assert listener.graph.wait_for(lambda: late)[0].phase == Episode.END
