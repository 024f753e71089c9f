"""The simulated robot on its topics: rates, commands, scenes and the judge's word."""

from collections import Counter

from diagnostic_msgs.msg import DiagnosticArray
from diagnostic_msgs.msg import DiagnosticStatus
import numpy as np
import pytest
from rclpy.node import Node
from rclpy.parameter import Parameter
from ros_harness import Graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import JointState
from std_srvs.srv import Trigger
from trajectory_msgs.msg import JointTrajectory
from trajectory_msgs.msg import JointTrajectoryPoint

from eva_msgs.msg import Episode
from eva_ros.nodes.camera_ingest import CameraIngest
from eva_ros.nodes.sim_robot import SimRobotNode
from eva_ros.observations.images import decode_image
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time
from eva_ros.sim.experts import expert_stretches
from eva_ros.sim.experts import ExpertSettings
from eva_ros.sim.tasks import draw_scene
from eva_ros.sim.tasks import find_task

ROBOT = load_robot('aloha_sim')
MS = 1_000_000
# A scene of a transfer whose cube the left arm reaches too.
LEFT_IN_REACH = 3


@pytest.mark.parametrize('factor', [0.1, 1.0, 10.0])
def test_no_more_than_a_moment_of_simulated_time_is_caught_up(factor):
    class Behind:
        _gives_time, _due_ns, kept = True, 0, False

        def __init__(self, simulated_s):
            self.lag_ns = round(simulated_s * 1e9 / factor)

        def _pace_ns(self):
            return self.lag_ns

        def _factor(self):
            return factor

        def _keep_pace(self):
            self.kept = True

    for simulated_s, given_up in ((0.07, False), (0.09, True)):
        behind = Behind(simulated_s)
        assert SimRobotNode._wait_s(behind) == 0.0
        assert behind.kept == given_up


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


def waist_turn(arm, joints, by_rad):
    """Return a trajectory of a second that turns an arm's waist and nothing else."""
    names, values = ROBOT.arm_command(arm, joints)
    target = values + np.eye(7)[0] * by_rad
    message = JointTrajectory(joint_names=list(names))
    point = JointTrajectoryPoint(positions=target.tolist(), velocities=[0.0] * 7)
    point.time_from_start = to_duration(1.0)
    message.points = [point]
    return message


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
    message = waist_turn('right', before, 0.3)
    publisher.publish(message)
    moved = ROBOT.arm_indices('right').start
    listener.graph.wait_for(lambda: abs(listener.positions()[moved] - before[moved] - 0.3) < 0.02)
    still = np.arange(14) != moved
    np.testing.assert_allclose(listener.positions()[still], before[still], atol=0.03)


def test_a_rejected_trajectory_moves_nothing_and_is_said(listener: Listener):
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


def test_a_reset_draws_randomised_scenes_if_they_are_asked_for(listener: Listener):
    def picture():
        count = len(listener.images['top'])
        listener.graph.wait_for(lambda: len(listener.images['top']) > count + 2)
        return decode_image(listener.images['top'][-1]).astype(float)

    (refused,) = listener.node.set_parameters([Parameter('scenes', value='dirty')])
    assert not refused.successful and "no scenes 'dirty'" in refused.reason
    clean = picture()
    assert listener.node.set_parameters([Parameter('scenes', value='randomised')])[0].successful
    listener.graph.call(Trigger, topics.of(topics.SIM_ROBOT, topics.RESET))
    listener.graph.wait_for(lambda: np.abs(picture() - clean).mean() > 10)


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


def test_a_left_arm_that_lifts_the_cube_itself_ends_no_transfer(graph: Graph):
    listener = Listener(graph)
    scene = draw_scene(find_task('transfer_cube'), LEFT_IN_REACH)
    lift = expert_stretches(
        find_task('lift_left'), scene, np.random.default_rng(0), ExpertSettings(pause_chance=0.0)
    )
    path = np.concatenate(lift)[::10]
    thread = graph.start(SimRobotNode, task='transfer_cube', seed=LEFT_IN_REACH)
    graph.wait_for(lambda: listener.states)
    names, values = ROBOT.arm_command('left', path)
    message = JointTrajectory(joint_names=list(names))
    for i, positions in enumerate(values):
        point = JointTrajectoryPoint(positions=positions.tolist())
        point.time_from_start = to_duration(0.2 * (i + 1))
        message.points.append(point)
    controller = ROBOT.arms['left'].controller
    graph.publisher(JointTrajectory, controller.topic, qos.COMMAND).publish(message)
    # What gym-aloha would have called a transfer.
    graph.wait_for(thread.node._sim.gym_aloha_success, timeout_s=30)
    count = len(listener.states)
    graph.wait_for(lambda: len(listener.states) > count + 100)
    assert all(episode.phase == Episode.START for episode in listener.episodes)


def test_a_robot_that_gives_no_time_follows_that_of_another_and_moves_by_it(graph: Graph):
    listener = Listener(graph)
    graph.start(SimRobotNode, task='reach_left', seed=3, publish_clock=False)
    graph.wait_for(lambda: len(listener.states) >= 20 and listener.images['top'])
    now_ns = graph.probe.get_clock().now().nanoseconds
    # As a real robot's drivers stamp: by the system's clock, which nobody publishes.
    assert graph.probe.count_publishers(topics.CLOCK) == 0
    for message in (listener.states[-1], listener.images['top'][-1], listener.episodes[-1]):
        assert abs(to_ns(message.header.stamp) - now_ns) < 30 * 1000 * MS
    steps = np.diff([to_ns(message.header.stamp) for message in listener.states])
    assert Counter(steps).most_common(1)[0][0] == 10 * MS
    before = listener.positions()
    publisher = graph.publisher(JointTrajectory, ROBOT.arms['left'].controller.topic, qos.COMMAND)
    message = waist_turn('left', before, 0.2)
    message.header.stamp = graph.probe.get_clock().now().to_msg()
    publisher.publish(message)
    graph.wait_for(lambda: abs(listener.positions()[0] - before[0]) > 0.15)


def test_a_robot_that_gives_no_time_keeps_pace_with_the_simulated_time(graph: Graph):
    listener = Listener(graph)
    clock = graph.probe.create_publisher(Clock, topics.CLOCK, qos.CLOCK)
    graph.start(SimRobotNode, publish_clock=False, use_sim_time=True)

    def at(stamp_ns):
        clock.publish(Clock(clock=to_time(stamp_ns)))
        return listener.states and to_ns(listener.states[-1].header.stamp)

    # Far from its own time, and it stands still for as long as this does.
    graph.wait_for(lambda: (at(500_000 * MS) or 0) >= 500_000 * MS)
    assert at(500_000 * MS) < 500_050 * MS
    graph.wait_for(lambda: at(500_100 * MS) >= 500_090 * MS)
    assert max(to_ns(m.header.stamp) for m in listener.states) < 500_150 * MS
    # Set back, as by a simulation that begins again.
    graph.wait_for(lambda: at(100_000 * MS) < 100_050 * MS)


def errors(heard, name):
    found = (status for message in heard for status in message.status if status.name == name)
    return [status for status in found if status.level == DiagnosticStatus.ERROR]


def test_two_nodes_that_publish_the_time_are_both_named(graph: Graph):
    heard = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
    other = Node('gazebo', context=graph.context)
    graph.add(other)
    other.create_publisher(Clock, topics.CLOCK, qos.CLOCK)
    graph.start(SimRobotNode)
    graph.start(CameraIngest, use_sim_time=True)
    for name in ('/sim_robot: clock', '/camera_ingest: clock'):
        status = graph.wait_for(lambda name=name: errors(heard, name))[-1]
        assert '/gazebo and /sim_robot publish /clock' in status.message
        assert 'publish_clock:=false' in status.message
