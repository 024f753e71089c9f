"""Recorded bags hold what a player needs: offers, clocks, calibrations, frames, commands."""

from pathlib import Path
import time

from action_servers import ACTION
from action_servers import message_packages
from geometry_msgs.msg import TransformStamped
import pytest
from rclpy.parameter import Parameter
from rclpy.qos import DurabilityPolicy
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from robot_files import robot_content
from robot_files import write_robot
from ros_harness import Graph
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability
from rosbags.interfaces import QosReliability
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo
from test_nodes_episode_recorder import Drivers
from test_nodes_episode_recorder import recorder
from test_nodes_episode_recorder import start
from test_nodes_episode_recorder import trigger
import yaml

from eva_msgs.msg import Observation
from eva_ros.inspection.check import check_bag
from eva_ros.nodes.camera_ingest import CameraIngest
from eva_ros.nodes.sim_robot import SimRobotNode
from eva_ros.observations.views import load_view
from eva_ros.recordings.bag_search import find_bags
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.heard_topics import message_class
from eva_ros.ros.run_recorder import recorded_topics
from eva_ros.ros.run_recorder import RunRecorder
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time

ROBOT = load_robot('aloha_sim')
CAMERAS = {f'/{camera.topic}' for camera in ROBOT.cameras.values()}
SECOND = 1_000_000_000


def offers(bag: Path) -> dict[str, list]:
    """Return what the publishers of each topic offered, as the bag's metadata say."""
    about = yaml.safe_load((bag / 'metadata.yaml').read_text())['rosbag2_bagfile_information']
    topics_ = [found['topic_metadata'] for found in about['topics_with_message_count']]
    return {topic['name']: topic['offered_qos_profiles'] for topic in topics_}


def play(graph: Graph, bag: Path, wanted: set[str]) -> None:
    """Play topics of a bag in the order of their log times, and give those as the time.

    Publishers offer what the bag says that the recorded ones did, as `ros2 bag play` has it.
    """
    clock = graph.probe.create_publisher(Clock, topics.CLOCK, qos.CLOCK)
    with AnyReader([bag]) as reader:
        found = [c for c in reader.connections if c.topic in wanted]
        assert {c.topic for c in found} == wanted
        publishers = {c.topic: publisher(graph, c) for c in found}
        first = None
        for connection, logged_ns, data in reader.messages(found):
            first = first or (logged_ns, time.monotonic_ns())
            while logged_ns - first[0] > time.monotonic_ns() - first[1]:
                time.sleep(0.001)
            clock.publish(Clock(clock=to_time(logged_ns)))
            publishers[connection.topic].publish(data)


def publisher(graph: Graph, connection):
    (offered, *_) = connection.ext.offered_qos_profiles
    reliable = offered.reliability == QosReliability.RELIABLE
    kept = offered.durability == QosDurability.TRANSIENT_LOCAL
    profile = QoSProfile(
        depth=10,
        reliability=ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT,
        durability=DurabilityPolicy.TRANSIENT_LOCAL if kept else DurabilityPolicy.VOLATILE,
    )
    kind = message_class(connection.msgtype)
    return graph.publisher(kind, connection.topic, profile)


def recorded_as_the_demo_does(graph: Graph, folder: Path) -> Path:
    bag = folder / 'bag'
    graph.wait_for(lambda: graph.probe.get_clock().now().nanoseconds)
    run = RunRecorder(graph.probe, bag, recorded_topics(ROBOT))
    graph.wait_for(lambda: all(run.counts[camera] > 30 for camera in CAMERAS))
    run.close()
    return bag


def recorded_as_an_episode(graph: Graph, folder: Path) -> Path:
    node = recorder(graph, folder, use_sim_time=True)
    graph.wait_for(lambda: trigger(graph, topics.START).success)
    heard = node._heard.topics
    cameras = [camera.topic for camera in ROBOT.cameras.values()]
    graph.wait_for(lambda: all(heard[camera].count > 30 for camera in cameras))
    answer = trigger(graph, topics.STOP)
    assert answer.success, answer.message
    (bag,) = find_bags([folder])
    return bag


@pytest.mark.parametrize('record', [recorded_as_the_demo_does, recorded_as_an_episode])
def test_a_bag_of_the_simulated_robot_feeds_camera_ingest_when_it_is_played(
    graph: Graph, tmp_path, record
):
    graph.probe.set_parameters([Parameter('use_sim_time', value=True)])
    robot = graph.start(SimRobotNode)
    assert robot.refusal == ''
    bag = record(graph, tmp_path)
    for thread in list(graph.running):
        thread.stop()
    graph.running.clear()
    assert graph.start(CameraIngest, use_sim_time=True).refusal == ''
    seen = graph.collect(Observation, topics.OBSERVATION, qos.PIPELINE)
    play(graph, bag, {*CAMERAS, '/joint_states'})
    assert len(seen) >= 5
    for observation in seen:
        age_ns = to_ns(observation.header.stamp) - to_ns(observation.joint_state.header.stamp)
        assert 0 <= age_ns < SECOND // 2


def test_a_bag_says_what_its_publishers_offered_and_holds_the_simulated_time(
    graph: Graph, tmp_path
):
    graph.probe.set_parameters([Parameter('use_sim_time', value=True)])
    assert graph.start(SimRobotNode).refusal == ''
    for bag in (
        recorded_as_the_demo_does(graph, tmp_path / 'demo'),
        recorded_as_an_episode(graph, tmp_path / 'episodes'),
    ):
        found = offers(bag)
        assert found.keys() >= {*CAMERAS, '/joint_states', '/clock', '/episode'}
        for topic, profiles in found.items():
            (offered,) = profiles
            spoken = 'best_effort' if topic == '/clock' else 'reliable'
            assert offered['reliability'] == spoken, topic
            kept = 'transient_local' if topic in ('/episode', '/safety_state') else 'volatile'
            assert offered['durability'] == kept, topic
        assert found['/joint_states'][0]['deadline'] == {'sec': 9223372036, 'nsec': 854775807}
        with AnyReader([bag]) as reader:
            clocks = [c for c in reader.connections if c.topic == '/clock']
            for connection, logged_ns, data in reader.messages(clocks):
                clock = reader.deserialize(data, connection.msgtype).clock
                assert abs(logged_ns - to_ns(clock)) < SECOND


def test_a_recording_needs_one_clock_that_goes(graph: Graph, tmp_path):
    drivers = Drivers(graph)
    recorder(graph, tmp_path, use_sim_time=True)
    drivers.matched()
    answer = trigger(graph, topics.START)
    assert not answer.success
    assert answer.message == (
        'use_sim_time is set and nothing was heard on /clock: is the simulator running?'
    )
    for _ in range(2):
        graph.publisher(Clock, topics.CLOCK, qos.CLOCK, listeners=0)
    graph.wait_for(lambda: '/probe and /probe publish' in trigger(graph, topics.START).message)
    assert list(tmp_path.iterdir()) == []


def test_calibrations_are_recorded_where_they_are_published(graph: Graph, tmp_path):
    drivers = Drivers(graph)
    info = graph.publisher(CameraInfo, 'top/camera_info', qos.SENSOR_OUTPUT, listeners=0)
    node = recorder(graph, tmp_path)
    start(graph, drivers, node)
    graph.wait_for(lambda: info.get_subscription_count())
    info.publish(CameraInfo(height=240, width=320))
    graph.wait_for(lambda: node._heard.topics['top/camera_info'].count)
    assert trigger(graph, topics.STOP).success
    (bag,) = find_bags([tmp_path])
    found = offers(bag)
    assert found['/top/camera_info'][0]['reliability'] == 'reliable'
    # Nobody publishes those of the wrists: the bag does not name them.
    assert '/left_wrist/camera_info' not in found


@pytest.fixture(scope='module')
def packages(tmp_path_factory):
    folder = tmp_path_factory.mktemp('packages')
    with message_packages(folder, ['control_msgs', 'tf2_msgs']):
        yield


def test_arms_that_take_actions_are_recorded_with_what_their_controllers_ask_and_frames(
    graph: Graph, packages, tmp_path
):
    from control_msgs.msg import JointTrajectoryControllerState
    from tf2_msgs.msg import TFMessage

    content = robot_content()
    for arm, entry in content['arms'].items():
        name = f'{arm}_arm_controller/follow_joint_trajectory'
        entry['controller'].update(type=ACTION, topic=name)
    robot = write_robot(tmp_path, content)
    drivers = Drivers(graph)
    # A static frame of each arm's own robot_state_publisher.
    for arm in ROBOT.arms:
        frames = graph.publisher(TFMessage, '/tf_static', qos.LATCHED, listeners=0)
        frame = TransformStamped(child_frame_id=f'{arm}_base')
        frames.publish(TFMessage(transforms=[frame]))
    states = graph.publisher(
        JointTrajectoryControllerState, 'left_arm_controller/controller_state', listeners=0
    )
    node = recorder(graph, tmp_path / 'bags', robot=str(robot))
    graph.wait_for(lambda: len(node._heard.topics['/tf_static'].latched) == 2)
    heard = node._heard.topics['left_arm_controller/controller_state']
    for _ in range(2):
        start(graph, drivers, node)
        graph.wait_for(lambda: states.get_subscription_count())
        state = JointTrajectoryControllerState(joint_names=['left_waist'])
        state.reference.positions = [0.25]
        states.publish(state)
        graph.wait_for(lambda: heard.count)
        assert trigger(graph, topics.STOP).success
    bags = find_bags([tmp_path / 'bags'])
    assert len(bags) == 2
    for bag in bags:
        assert offers(bag)['/tf_static'][0]['durability'] == 'transient_local'
        with AnyReader([bag]) as reader:
            read = [
                (c.topic, reader.deserialize(data, c.msgtype)) for c, _, data in reader.messages()
            ]
        frames = [m.transforms[0].child_frame_id for t, m in read if t == '/tf_static']
        assert sorted(frames) == ['left_base', 'right_base']
        (state,) = [m for t, m in read if t == '/left_arm_controller/controller_state']
        assert state.reference.positions.tolist() == [0.25]
        reasons = ' '.join(check_bag(bag, ROBOT, load_view('aloha_sim')).reasons)
        assert 'controller_state' not in reasons and 'tf_static' not in reasons
