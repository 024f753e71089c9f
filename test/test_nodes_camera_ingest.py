"""What camera_ingest makes of cameras and joints, and what it says when it cannot."""

import cv2
from diagnostic_msgs.msg import DiagnosticArray
from episode_bags import messages
from episode_bags import Recording
from episode_bags import write_bag
import numpy as np
import pytest
from ros_harness import Graph
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import JointState

from eva_msgs.msg import Observation
from eva_ros.nodes.camera_ingest import CameraIngest
from eva_ros.observations.ingest import ObservationBuilder
from eva_ros.observations.views import load_view
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.records import JointStateRecord
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.observations import received_observation
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time

ROBOT = load_robot('aloha_sim')
VIEW = load_view('aloha_sim')
CAMERAS = tuple(ROBOT.cameras)


def a_jpeg(seed=0, size=(240, 320)):
    picture = np.random.default_rng(seed).integers(0, 255, (6, 8, 3), dtype=np.uint8)
    picture = cv2.resize(picture, size[::-1], interpolation=cv2.INTER_CUBIC)
    return cv2.imencode('.jpg', picture)[1].tobytes()


class Robot:
    """The drivers of a robot at rest, as a test wants them."""

    def __init__(self, graph: Graph, cameras=CAMERAS, camera_s=0.05):
        self.graph = graph
        self.observations = graph.collect(Observation, topics.OBSERVATION, qos.PIPELINE)
        self.diagnostics = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
        self.images = {name: ('jpeg', a_jpeg(i)) for i, name in enumerate(cameras)}
        self.cameras = {
            name: graph.publisher(CompressedImage, ROBOT.cameras[name].topic) for name in cameras
        }
        self.joints = graph.publisher(JointState, 'joint_states')
        names, values = ROBOT.to_joint_state(ROBOT.home)
        self.state = (list(names), values.tolist())
        self.sent = []
        graph.probe.create_timer(0.02, self.measure)
        graph.probe.create_timer(camera_s, self.look)

    def image_stamp(self):
        return self.stamp()

    def stamp(self):
        return self.graph.probe.get_clock().now().to_msg()

    def measure(self):
        names, values = self.state
        message = JointState(name=names, position=values)
        message.header.stamp = self.stamp()
        self.sent.append(message)
        self.joints.publish(message)

    def look(self):
        instant = self.image_stamp()
        for name, publisher in self.cameras.items():
            kind, data = self.images[name]
            message = CompressedImage(format=kind)
            message.data.frombytes(data)
            message.header.stamp = instant
            self.sent.append((name, message))
            publisher.publish(message)

    def hear(self, said, component='observation'):
        """Wait until a component says something on /diagnostics, and return it."""

        def find():
            return next(
                (
                    status.message
                    for array in self.diagnostics[::-1]
                    for status in array.status
                    if status.name.endswith(component) and said in status.message
                ),
                None,
            )

        return self.graph.wait_for(find)


def test_observations_are_published_at_the_views_rate_and_count_up(graph: Graph):
    graph.start(CameraIngest)
    robot = Robot(graph)
    graph.wait_for(lambda: len(robot.observations) >= 12)
    stamps = [to_ns(message.header.stamp) for message in robot.observations]
    # A busy machine may be late, never early.
    assert 0.8e9 < np.median(np.diff(stamps)) * VIEW.rate_hz < 5e9
    first = robot.observations[0]
    # The node keeps the newest alone: on a busy machine one may be lost, none comes twice.
    numbers = [message.observation_id for message in robot.observations]
    assert numbers == sorted(set(numbers))
    assert first.robot == ROBOT.name
    assert tuple(first.camera_names) == tuple(VIEW.camera_names)
    for message in robot.observations:
        assert max(map(to_ns, message.image_stamps)) <= to_ns(message.header.stamp)
    graph.wait_for(lambda: robot.observations[-1].at_rest)


def test_an_observation_is_made_when_the_images_come_not_when_the_clock_ticks(graph: Graph):
    graph.start(CameraIngest, publish_rate_hz=1.0)
    robot = Robot(graph, camera_s=0.35)
    graph.wait_for(lambda: len(robot.observations) >= 6)
    ages_ns = [
        to_ns(message.header.stamp) - min(map(to_ns, message.image_stamps))
        for message in robot.observations[1:]
    ]
    assert np.median(ages_ns) < 0.06e9


def test_cameras_slower_than_the_view_are_observed_at_its_rate(graph: Graph):
    graph.start(CameraIngest)
    robot = Robot(graph, camera_s=0.5)
    graph.wait_for(lambda: len(robot.observations) >= 12)
    stamps = [to_ns(message.header.stamp) for message in robot.observations[2:]]
    assert 0.8e9 < np.mean(np.diff(stamps)) * VIEW.rate_hz < 5e9


def test_an_observation_is_what_the_same_messages_give_offline(graph: Graph):
    graph.start(CameraIngest)
    robot = Robot(graph)
    graph.wait_for(lambda: robot.observations and robot.observations[-1].at_rest)
    live = received_observation(robot.observations[-1], ROBOT).observation
    builder = ObservationBuilder(ROBOT, VIEW)
    for message in list(robot.sent):
        if isinstance(message, JointState):
            builder.add_joint_state(
                to_ns(message.header.stamp), message.name, message.position, message.velocity
            )
        else:
            name, image = message
            builder.add_image_message(name, to_ns(image.header.stamp), image)
    offline = builder.latest(live.stamp_ns)
    np.testing.assert_array_equal(live.view, offline.view)
    np.testing.assert_array_equal(live.joint_positions, offline.joint_positions)


def test_a_bag_played_through_ros_gives_the_same_tensors_as_the_reader(graph: Graph, tmp_path):
    content = messages(Recording(duration_s=1.0, marked=False))
    graph.start(CameraIngest, stale_after_s=30.0)
    observations = graph.collect(Observation, topics.OBSERVATION, qos.PIPELINE)
    kinds = {entry[1]: entry[2] for entry in content}
    publishers = {
        topic: graph.publisher(
            JointState if 'Joint' in kind else CompressedImage, topic.lstrip('/')
        )
        for topic, kind in kinds.items()
    }
    graph.wait_for(lambda: all(p.get_subscription_count() for p in publishers.values()))
    # The last message is of a moment when all have been published, on a busy machine, too.
    shift_ns = graph.probe.get_clock().now().nanoseconds - content[-1][0] + 4_000_000_000
    bag = write_bag(tmp_path / 'bag', [(entry[0] + shift_ns, *entry[1:]) for entry in content])
    builder, last = ObservationBuilder(ROBOT, VIEW), {}
    with BagReader(bag) as reader:
        for topic, received_ns, data in reader.messages():
            publishers['/' + topic.name].publish(bytes(data))
            record = reader.decode(topic, received_ns, data)
            last[record.topic] = record.stamp_ns
            if isinstance(record, JointStateRecord):
                builder.add_joint_state(record.stamp_ns, record.names, record.positions)
            else:
                camera = record.topic.split('/')[0]
                builder.add_image_message(camera, record.stamp_ns, record.message)
    newest = [last[ROBOT.cameras[name].topic] for name in VIEW.camera_names]

    def played():
        return next(
            (
                message
                for message in observations
                if [to_ns(stamp) for stamp in message.image_stamps] == newest
                and to_ns(message.joint_state.header.stamp) == last['joint_states']
            ),
            None,
        )

    live = received_observation(graph.wait_for(played), ROBOT).observation
    offline = builder.latest(live.stamp_ns)
    np.testing.assert_array_equal(live.view, offline.view)
    np.testing.assert_array_equal(live.joint_positions, offline.joint_positions)
    assert live.image_stamps == offline.image_stamps


def test_a_camera_that_never_publishes_is_named_and_nothing_is_published(graph: Graph):
    graph.start(CameraIngest)
    robot = Robot(graph, cameras=('top', 'left_wrist'))
    topic = ROBOT.cameras['right_wrist'].topic
    # Until `stale_after_s` is over it is awaited, from then on it is an error.
    robot.hear(f"not made: nothing is heard on '{topic}'")
    assert robot.hear('is its driver running', f'{topic} stream')
    assert not robot.observations


def test_arms_with_a_topic_each_are_observed_together(graph: Graph, tmp_path):
    piper = load_robot('piper_dual')
    text = (ROBOT.path.parents[1] / 'views' / 'aloha_sim.yaml').read_text()
    view = tmp_path / 'view.yaml'
    view.write_text(text.replace('[240, 320]', '[480, 640]'))
    thread = graph.start(CameraIngest, robot='piper_dual', view=str(view))
    assert thread.refusal == ''
    observations = graph.collect(Observation, topics.OBSERVATION, qos.PIPELINE)
    diagnostics = graph.collect(DiagnosticArray, topics.DIAGNOSTICS)
    cameras = [graph.publisher(CompressedImage, c.topic) for c in piper.cameras.values()]
    arms = {name: graph.publisher(JointState, a.state_topic) for name, a in piper.arms.items()}
    silent = arms.pop('right')
    picture = CompressedImage(format='jpeg')
    picture.data.frombytes(a_jpeg(size=(480, 640)))

    def publish():
        picture.header.stamp = graph.probe.get_clock().now().to_msg()
        for camera in cameras:
            camera.publish(picture)
        # Both arms call their joints the same: the topic alone says whose they are.
        for angle, name in enumerate(arms, start=1):
            message = JointState(name=list(piper.arms[name].state_joints))
            message.position = [0.1 * angle] * 6 + [0.07]
            message.header = picture.header
            arms[name].publish(message)

    graph.probe.create_timer(0.05, publish)
    right = piper.arms['right'].state_topic
    graph.wait_for(
        lambda: [s for a in diagnostics for s in a.status if f"heard on '{right}'" in s.message]
    )
    assert not observations
    arms['right'] = silent
    state = graph.wait_for(lambda: observations)[0].joint_state
    assert tuple(state.name) == piper.joint_names
    np.testing.assert_allclose(state.position, [0.1] * 6 + [1.0] + [0.2] * 6 + [1.0])


def test_a_camera_that_falls_silent_ends_the_observations(graph: Graph):
    graph.start(CameraIngest, stale_after_s=0.3)
    robot = Robot(graph)
    graph.wait_for(lambda: robot.observations)
    del robot.cameras['top']
    assert ROBOT.cameras['top'].topic in robot.hear('not made')
    count = len(robot.observations)
    robot.hear('not made')
    assert len(robot.observations) == count


def test_a_camera_that_falls_silent_in_the_second_round_of_a_looped_bag_is_noticed(graph: Graph):
    graph.start(CameraIngest, use_sim_time=True, stale_after_s=0.5)
    robot, clock = Robot(graph), graph.publisher(Clock, topics.CLOCK)
    now_s = [100.0]

    def go_on():
        now_s[0] += 0.02
        clock.publish(Clock(clock=to_time(round(now_s[0] * 1e9))))

    robot.stamp = lambda: to_time(round(now_s[0] * 1e9))
    graph.probe.create_timer(0.02, go_on)
    graph.wait_for(lambda: robot.observations)
    now_s[0] += 30.0
    graph.wait_for(lambda: to_ns(robot.observations[-1].header.stamp) > 130 * 10**9)
    topic = ROBOT.cameras['top'].topic
    del robot.cameras['top']
    now_s[0] = 100.0
    robot.diagnostics.clear()

    def said(component):
        return [
            status.message
            for array in robot.diagnostics
            if to_ns(array.header.stamp) < 120 * 10**9
            for status in array.status
            if status.name.endswith(component)
        ]

    silent = f"nothing is heard on '{topic}'"
    graph.wait_for(lambda: any(silent in text for text in said(f'{topic} stream')))
    graph.wait_for(lambda: any(silent in text for text in said('observation')))


@pytest.mark.parametrize(
    ('image', 'said'),
    [
        (('jpeg', a_jpeg(size=(120, 160))), '120x160'),
        (('jpeg', b'no picture'), 'cannot be decoded'),
        (('h264', a_jpeg()), 'h264'),
    ],
)
def test_an_image_of_another_size_or_encoding_is_named(graph: Graph, image, said):
    graph.start(CameraIngest)
    robot = Robot(graph)
    robot.images['top'] = image
    count = len(robot.observations)
    sentence = robot.hear(said)
    assert "'top'" in sentence
    assert len(robot.observations) <= count + 1


def test_a_missing_joint_name_is_named(graph: Graph):
    graph.start(CameraIngest)
    robot = Robot(graph)
    names, values = robot.state
    robot.state = (names[1:], values[1:])
    assert 'left_waist' in robot.hear('left_waist')


def test_moving_joints_are_not_at_rest(graph: Graph):
    graph.start(CameraIngest)
    robot = Robot(graph)
    graph.wait_for(lambda: robot.observations and robot.observations[-1].at_rest)
    names, values = ROBOT.to_joint_state(ROBOT.home)
    step = [0]

    def measure():
        step[0] += 1
        moved = [values[0] + 0.01 * step[0], *values[1:]]
        robot.joints.publish(
            JointState(name=list(names), position=moved, header=header(robot.stamp()))
        )

    robot.measure = measure
    robot.state = (list(names), values.tolist())
    graph.probe.create_timer(0.02, measure)
    graph.wait_for(lambda: not robot.observations[-1].at_rest)


def header(stamp):
    message = JointState().header
    message.stamp = stamp
    return message


def test_a_view_with_a_camera_that_the_robot_lacks_is_refused(graph: Graph, tmp_path):
    text = (ROBOT.path.parents[1] / 'views' / 'aloha_sim.yaml').read_text()
    path = tmp_path / 'view.yaml'
    path.write_text(text.replace('top', 'ceiling'))
    thread = graph.start(CameraIngest, view=str(path))
    assert 'ceiling' in thread.refusal
    assert 'aloha_sim' in thread.refusal


def test_an_unknown_key_in_the_view_is_refused_with_file_and_key(graph: Graph, tmp_path):
    text = (ROBOT.path.parents[1] / 'views' / 'aloha_sim.yaml').read_text()
    path = tmp_path / 'view.yaml'
    path.write_text(text + '\nrate_khz: 1\n')
    thread = graph.start(CameraIngest, view=str(path))
    assert str(path) in thread.refusal
    assert 'rate_khz' in thread.refusal


def test_a_camera_that_repeats_its_stamps_is_named_and_ends_the_observations(graph: Graph):
    graph.start(CameraIngest)
    robot = Robot(graph)
    graph.wait_for(lambda: robot.observations)
    looks = []

    def image_stamp():
        looks.append(robot.stamp() if len(looks) % 2 else looks[-1])
        return looks[-1]

    looks.append(robot.stamp())
    robot.image_stamp = image_stamp
    said = robot.hear("not made: of camera '")
    assert 'pictures repeat the stamp before them; up to 10% may' in said
    assert robot.hear('repeat the stamp', f'{ROBOT.cameras["top"].topic} stream')
    count = len(robot.observations)
    robot.hear("not made: of camera '")
    assert len(robot.observations) == count


def test_a_camera_whose_format_promises_other_colours_is_named(graph: Graph):
    graph.start(CameraIngest)
    robot = Robot(graph)
    grey = cv2.imencode('.jpg', np.zeros((240, 320), np.uint8))[1].tobytes()
    robot.images['top'] = ('yuv422_yuy2; jpeg compressed mono8', grey)
    said = robot.hear('promises colours', f'{ROBOT.cameras["top"].topic} stream')
    assert "Camera 'top'" in said and "'yuv422_yuy2; jpeg compressed mono8'" in said


def test_an_encoder_that_wraps_is_named(graph: Graph):
    graph.start(CameraIngest)
    robot = Robot(graph)
    names, values = robot.state
    robot.state = (names, [*values[:3], 3.13, *values[4:]])
    graph.wait_for(lambda: len(robot.observations) > 2)
    robot.state = (names, [*values[:3], -3.13, *values[4:]])
    assert (
        'encoder of left_forearm_roll wraps (-6.26 rad' in robot.hear('wraps', 'encoders').lower()
    )


def test_a_late_stamp_is_taken_as_it_is(graph: Graph):
    """The stamp of a message counts, not when it came."""
    graph.start(CameraIngest)
    robot = Robot(graph)
    offset_ns = 200_000_000

    def stamp():
        return to_time(robot.graph.probe.get_clock().now().nanoseconds - offset_ns)

    robot.stamp = stamp
    graph.wait_for(lambda: len(robot.observations) > 3)
    message = robot.observations[-1]
    age_ns = to_ns(message.header.stamp) - min(map(to_ns, message.image_stamps))
    assert age_ns >= offset_ns
