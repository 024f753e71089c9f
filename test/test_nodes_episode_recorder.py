"""The recorder: an episode a bag, whole, honest about what it lacks, readable after a kill."""

from pathlib import Path
import signal
import subprocess
import sys
import time

from action_msgs.msg import GoalStatus
from episode_bags import joints_at
from episode_bags import jpeg
from episode_bags import picture
from episode_bags import SECOND
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
import numpy as np
import pytest
from rclpy.action import ActionClient
from rclpy.parameter import Parameter
from ros_harness import Graph
from ros_harness import TIMEOUT_S
from ros_harness import wait
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CompressedImage
from sensor_msgs.msg import JointState
from std_msgs.msg import String
from std_srvs.srv import Trigger

from eva_msgs.action import RecordEpisode
from eva_msgs.msg import Episode
from eva_ros.cli.up import die_with_parent
from eva_ros.errors import UserError
from eva_ros.inspection.check import check_bag
from eva_ros.nodes.episode_recorder import EpisodeRecorder
from eva_ros.observations.views import load_view
from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.bag_search import find_bags
from eva_ros.recordings.recorded_bag import RecordedBag
from eva_ros.recordings.records import EpisodeRecord
from eva_ros.recordings.records import ImageRecord
from eva_ros.recordings.records import JointStateRecord
from eva_ros.recordings.records import TextRecord
from eva_ros.robot.spec import load_robot
from eva_ros.ros import qos
from eva_ros.ros import topics
from eva_ros.ros.bag_thread import BagThread
from eva_ros.ros.run_recorder import RunRecorder
from eva_ros.ros.stamps import to_time

ROBOT, VIEW = load_robot('aloha_sim'), load_view('aloha_sim')
NODE = topics.EPISODE_RECORDER
NAMES, _ = ROBOT.to_joint_state(ROBOT.home)


class Drivers:
    """Cameras and joint states, sent by hand."""

    def __init__(self, graph: Graph, *, left_out: tuple[str, ...] = (), quality=qos.SENSOR_OUTPUT):
        self.graph = graph
        self.cameras = {
            name: graph.publisher(CompressedImage, camera.topic, quality, listeners=0)
            for name, camera in ROBOT.cameras.items()
            if name not in left_out
        }
        self.joints = graph.publisher(JointState, 'joint_states', quality, listeners=0)
        self.now_ns = graph.probe.get_clock().now().nanoseconds
        self.sent = 0

    def matched(self, listeners: int = 1) -> None:
        """Wait until the recorder hears every stream."""
        speakers = [*self.cameras.values(), self.joints]
        self.graph.wait_for(lambda: all(p.get_subscription_count() >= listeners for p in speakers))

    def send(self, count: int = 5) -> None:
        """Send joint states at 100 Hz and images at 20 Hz of their stamps."""
        for _ in range(5 * count):
            stamp_ns = self.now_ns + self.sent * SECOND // 100
            if self.sent % 5 == 0:
                for name, publisher in self.cameras.items():
                    message = CompressedImage(format='jpeg', data=jpeg(picture(name, stamp_ns)))
                    message.header.stamp = to_time(stamp_ns)
                    publisher.publish(message)
            _, values = ROBOT.to_joint_state(joints_at(SECOND + self.sent * SECOND // 100))
            state = JointState(name=list(NAMES), position=values.tolist())
            state.header.stamp = to_time(stamp_ns)
            self.joints.publish(state)
            self.sent += 1


def trigger(graph: Graph, name: str) -> Trigger.Response:
    return graph.call(Trigger, topics.of(NODE, name))


def recorder(graph: Graph, folder: Path, **parameters):
    """Return the node once it hears the drivers."""
    thread = graph.start(
        EpisodeRecorder, folder=str(folder), warn_free_gb=0.0, stop_free_gb=0.0, **parameters
    )
    assert thread.refusal == ''
    return thread.node


def heard(node, count: int):
    """Return a condition: each needed topic was heard so often."""
    needed = [*(camera.topic for camera in ROBOT.cameras.values()), 'joint_states']
    found = node._heard.topics
    return lambda: all(found[name].count >= count for name in needed)


def reliable(node):
    """Return a condition: the recorder listens as the drivers speak."""
    return lambda: node._heard.topics['joint_states'].quality == (True, False)


def start(graph: Graph, drivers: Drivers, node) -> str:
    drivers.matched()
    answer = trigger(graph, topics.START)
    assert answer.success, answer.message
    graph.wait_for(reliable(node))
    drivers.matched()
    drivers.now_ns = graph.probe.get_clock().now().nanoseconds
    return answer.message


def test_an_episode_is_one_bag_that_holds_every_message_and_says_what_it_is(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags', instruction='reach the cube', task='reach')
    start(graph, drivers, node)
    drivers.send(8)
    graph.wait_for(lambda: node._heard.topics['joint_states'].count == 40 and heard(node, 8)())
    # The last marker must come after the last stamp.
    last_ns = drivers.now_ns + drivers.sent * SECOND // 100
    graph.wait_for(lambda: graph.probe.get_clock().now().nanoseconds > last_ns)
    answer = trigger(graph, topics.STOP)
    assert answer.success and 'dropped' not in answer.message
    (bag,) = find_bags([tmp_path / 'bags'])
    said = []
    with BagReader(bag, said.append) as reader:
        records = list(reader.records())
        facts = reader.facts
    assert said == []
    images = [r for r in records if isinstance(r, ImageRecord)]
    states = [r for r in records if isinstance(r, JointStateRecord)]
    markers = [r for r in records if isinstance(r, EpisodeRecord)]
    assert (len(images), len(states), [m.starts for m in markers]) == (24, 40, [True, False])
    assert len({image.topic for image in images}) == len(ROBOT.cameras)
    for index, state in enumerate(states):
        _, values = ROBOT.to_joint_state(joints_at(SECOND + index * SECOND // 100))
        np.testing.assert_array_equal(state.positions, values)
    assert facts['eva.instruction'] == markers[0].instruction == 'reach the cube'
    assert facts['eva.robot_yaml'] == ROBOT.path.read_text() and facts['eva.version']
    assert 'eva.success' not in facts and markers[-1].success is None
    check = check_bag(bag, ROBOT, VIEW)
    assert [e['instruction'] for e in check.episodes] == ['reach the cube']
    assert check.lost_messages == 0


def test_drivers_of_another_clock_are_named(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    start(graph, drivers, node)
    drivers.now_ns = 1_000 * SECOND
    drivers.send(1)
    graph.wait_for(heard(node, 1))
    answer = trigger(graph, topics.STOP)
    assert answer.success
    assert "'/joint_states' is stamped" in answer.message
    assert 'before the time of this node: use_sim_time:=true' in answer.message


def test_a_discarded_episode_leaves_nothing_and_wrong_orders_are_refused(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    assert 'Nothing is being recorded' in trigger(graph, topics.STOP).message
    assert not trigger(graph, topics.DISCARD).success
    start(graph, drivers, node)
    again = trigger(graph, topics.START)
    assert not again.success and 'is being recorded: stop it' in again.message
    assert trigger(graph, topics.DISCARD).success
    assert list((tmp_path / 'bags').iterdir()) == []


def test_a_recording_without_a_driver_is_refused(graph, tmp_path):
    drivers = Drivers(graph, left_out=('top',))
    recorder(graph, tmp_path / 'bags')
    drivers.matched()
    answer = trigger(graph, topics.START)
    assert not answer.success and ROBOT.cameras['top'].topic in answer.message


def test_a_full_disk_is_reported_and_refused(graph, tmp_path):
    node = recorder(graph, tmp_path / 'bags')
    node.set_parameters([Parameter('warn_free_gb', value=1e6)])
    health = node.diagnostics._health
    graph.wait_for(lambda: 'disk' in health and 'make room' in health['disk'].message)
    node.set_parameters([Parameter('stop_free_gb', value=1e6)])
    answer = trigger(graph, topics.START)
    assert not answer.success and 'GB are free on the disk' in answer.message


def test_messages_that_were_sent_and_never_heard_are_counted(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    start(graph, drivers, node)
    drivers.send(1)
    graph.wait_for(heard(node, 1))
    # As if three of the middleware's numbers had never come.
    node._heard.topics['joint_states'].sequence -= 3
    drivers.send(1)
    graph.wait_for(heard(node, 2))
    answer = trigger(graph, topics.STOP)
    assert "3 messages were dropped on 'joint_states'" in answer.message


def finished(folder: Path) -> tuple[list[EpisodeRecord], list, dict[str, str]]:
    """Return the markers, all records and the facts of a bag that nothing is wrong with."""
    said = []
    with BagReader(folder, said.append) as reader:
        records, facts = list(reader.records()), reader.facts
    assert said == []
    return [r for r in records if isinstance(r, EpisodeRecord)], records, facts


def assert_one_bag(folder: Path, images: int) -> None:
    """Assert that the only bag in a folder has both markers and so many images."""
    (bag,) = find_bags([folder])
    markers, records, _ = finished(bag)
    assert [m.starts for m in markers] == [True, False]
    assert sum(isinstance(r, ImageRecord) for r in records) == images


def test_a_judges_word_on_an_earlier_episode_does_not_end_this_one(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    judge = graph.publisher(Episode, topics.EPISODE, qos.LATCHED)
    start(graph, drivers, node)
    stale = Episode(phase=Episode.END, success=Episode.SUCCESS)
    stale.header.stamp = to_time(node._recording.start_ns - 1)
    # Handed over by hand: on its topic the next one may replace it before it is heard.
    node._on_episode(stale)
    fresh = Episode(phase=Episode.END, success=Episode.FAILURE)
    fresh.header.stamp = graph.probe.get_clock().now().to_msg()
    judge.publish(fresh)
    graph.wait_for(lambda: node._recording is None)
    (bag,) = find_bags([tmp_path / 'bags'])
    markers, _, facts = finished(bag)
    assert facts['eva.success'] == 'false' and markers[-1].success is False


def test_what_a_publisher_keeps_for_late_listeners_is_in_every_bag(graph, tmp_path):
    drivers = Drivers(graph)
    extra = {'extra_topics': '/robot_description std_msgs/msg/String'}
    speaker = graph.publisher(String, '/robot_description', qos.LATCHED, listeners=0)
    node = recorder(graph, tmp_path / 'bags', **extra)
    speaker.publish(String(data='<robot/>'))
    graph.wait_for(lambda: node._heard.topics['/robot_description'].latched)
    for _ in range(2):
        start(graph, drivers, node)
        assert trigger(graph, topics.STOP).success
    bags = find_bags([tmp_path / 'bags'])
    assert len(bags) == 2
    for bag in bags:
        texts = [r.text for r in finished(bag)[1] if isinstance(r, TextRecord)]
        assert texts == ['<robot/>']


def test_a_disk_that_fills_up_ends_the_recording_in_good_order(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    start(graph, drivers, node)
    drivers.send(2)
    graph.wait_for(heard(node, 2))
    recording = node._recording
    node.set_parameters([Parameter('stop_free_gb', value=1e6)])
    assert recording.over.wait(TIMEOUT_S)
    assert 'GB are free on the disk' in recording.sentence and recording.kept
    assert_one_bag(tmp_path / 'bags', images=6)


def test_a_stream_that_falls_silent_is_reported_while_it_is(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags', stale_after_s=60.0)
    start(graph, drivers, node)
    drivers.send(1)
    graph.wait_for(heard(node, 1))
    health = node.diagnostics._health
    node._watch()
    assert health['recording'].level == 'ok'
    node.set_parameters([Parameter('stale_after_s', value=0.01)])
    words = 'nothing is heard any more on'
    graph.wait_for(lambda: words in health['recording'].message)
    assert health['recording'].level == 'warn'
    assert ROBOT.cameras['top'].topic in health['recording'].message


@pytest.mark.parametrize('way', ['deactivate', 'shutdown'])
def test_a_node_that_stops_finishes_its_bag(graph, tmp_path, way):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    start(graph, drivers, node)
    drivers.send(2)
    graph.wait_for(heard(node, 2))
    if way == 'deactivate':
        request = ChangeState.Request()
        request.transition.id = Transition.TRANSITION_DEACTIVATE
        assert graph.call(ChangeState, topics.of(NODE, 'change_state'), request).success
    else:
        graph.running.pop().stop()
    assert_one_bag(tmp_path / 'bags', images=6)


def test_what_waits_in_vain_for_a_slow_disk_is_in_the_answer_and_the_result(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    client = ActionClient(graph.probe, RecordEpisode, topics.RECORD_EPISODE)
    assert client.wait_for_server(60.0)
    drivers.matched()
    handle = wait(client.send_goal_async(RecordEpisode.Goal(instruction='wait')))
    graph.wait_for(lambda: node._recording)
    graph.wait_for(reliable(node))
    drivers.matched()
    # As if so much waited for the disk that nothing more may.
    thread, most = node._recording.thread, node._recording.thread._most
    thread._most = -1
    drivers.send(1)
    graph.wait_for(lambda: thread.overflown == 8)
    thread._most = most
    assert 'the disk was too slow for 8 messages' in trigger(graph, topics.STOP).message
    assert wait(handle.get_result_async()).result.dropped == 8
    client.destroy()


def test_a_goal_waits_for_a_clock_and_drivers_that_are_only_being_found(graph, tmp_path):
    node = recorder(graph, tmp_path, use_sim_time=True)
    client = ActionClient(graph.probe, RecordEpisode, topics.RECORD_EPISODE)
    assert client.wait_for_server(60.0)
    handle = wait(client.send_goal_async(RecordEpisode.Goal(instruction='wait')))
    drivers = Drivers(graph)
    clock = graph.publisher(Clock, topics.CLOCK, qos.CLOCK)
    clock.publish(Clock(clock=to_time(SECOND)))
    drivers.matched()
    graph.wait_for(lambda: node._recording)
    assert trigger(graph, topics.STOP).success
    assert wait(handle.get_result_async()).result.outcome == RecordEpisode.Result.RECORDED
    handle = wait(client.send_goal_async(RecordEpisode.Goal(instruction='wait')))
    graph.wait_for(lambda: node._recording)
    assert trigger(graph, topics.DISCARD).success
    wait(handle.get_result_async())
    client.destroy()


@pytest.mark.parametrize('end', ['cancel', 'deactivate'])
def test_a_goal_that_waits_for_drivers_can_be_ended(graph, tmp_path, end):
    node = recorder(graph, tmp_path)
    client = ActionClient(graph.probe, RecordEpisode, topics.RECORD_EPISODE)
    assert client.wait_for_server(60.0)
    handle = wait(client.send_goal_async(RecordEpisode.Goal(instruction='wait')))
    if end == 'cancel':
        wait(handle.cancel_goal_async())
    else:
        node.trigger_deactivate()
    result = wait(handle.get_result_async()).result
    assert result.outcome == RecordEpisode.Result.REFUSED
    assert 'before' in result.message
    assert list(tmp_path.iterdir()) == []
    client.destroy()


def test_an_action_records_until_the_episode_is_judged(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    judge = graph.publisher(Episode, topics.EPISODE, qos.LATCHED)
    client = ActionClient(graph.probe, RecordEpisode, topics.RECORD_EPISODE)
    assert client.wait_for_server(60.0)
    drivers.matched()
    goal = RecordEpisode.Goal(instruction='reach the cube', task='reach')
    handle = wait(client.send_goal_async(goal))
    graph.wait_for(lambda: node._recording)
    graph.wait_for(reliable(node))
    drivers.matched()
    drivers.send(4)
    graph.wait_for(heard(node, 4))
    end = Episode(phase=Episode.END, success=Episode.SUCCESS)
    end.header.stamp = graph.probe.get_clock().now().to_msg()
    judge.publish(end)
    result = wait(handle.get_result_async()).result
    assert result.outcome == RecordEpisode.Result.RECORDED, result.message
    with BagReader(Path(result.path)) as reader:
        markers = [r for r in reader.records() if isinstance(r, EpisodeRecord)]
        assert reader.facts['eva.success'] == 'true' and markers[-1].success is True
    refused = RecordEpisode.Goal(max_duration_s=0.1, instruction='wait')
    handle = wait(client.send_goal_async(refused))
    result = wait(handle.get_result_async()).result
    assert result.outcome == RecordEpisode.Result.RECORDED
    assert 'nothing was heard on' in result.message
    client.destroy()


def test_a_recorder_that_is_killed_leaves_a_bag_that_can_be_read(graph, tmp_path):
    drivers = Drivers(graph)
    command = [sys.executable, '-m', 'eva_ros.nodes', 'episode_recorder', '--ros-args']
    for name, value in {'folder': tmp_path / 'bags', 'stop_free_gb': 0.0}.items():
        command += ['-p', f'{name}:={value}']
    process = subprocess.Popen(
        [*command, '-p', 'instruction:=reach the cube'], preexec_fn=die_with_parent
    )
    try:
        graph.client(Trigger, topics.of(NODE, topics.START))
        drivers.matched()
        assert trigger(graph, topics.START).success
        drivers.now_ns = graph.probe.get_clock().now().nanoseconds
        (folder,) = (tmp_path / 'bags').iterdir()

        def written():
            drivers.send(1)
            time.sleep(0.05)
            try:
                with BagReader(folder, lambda _: None) as reader:
                    return sum(isinstance(r, ImageRecord) for r in reader.records()) > 30
            except UserError:
                return False

        graph.wait_for(written)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
    said = []
    with BagReader(folder, said.append) as reader:
        records = list(reader.records())
    assert any('metadata.yaml' in sentence for sentence in said)
    (marker,) = [r for r in records if isinstance(r, EpisodeRecord)]
    assert marker.starts and marker.instruction == 'reach the cube'
    check = check_bag(folder, ROBOT, VIEW)
    assert check.episodes and check.episodes[0]['instruction'] == 'reach the cube'


def test_wrong_topics_are_refused_at_configure(graph, tmp_path):
    for extra, words in (
        ('/tf', 'is no topic and type'),
        ('/other sensor_msgs/msg/Image', 'names the cameras'),
        ('/other nobody_msgs/msg/Nothing', 'is not installed here'),
    ):
        thread = graph.start(EpisodeRecorder, folder=str(tmp_path), extra_topics=extra)
        assert words in thread.refusal


def test_a_bag_is_whole_at_every_flush(tmp_path):
    bag = RecordedBag(tmp_path / 'bag', {'eva.robot': 'x'})
    bag.add_topic('/text', 'std_msgs/msg/String')
    text = b'\0\1\0\0\6\0\0\0hello\0'
    for index in range(10):
        bag.write('/text', 1000 + index, text)
    bag.flush()
    with BagReader(tmp_path / 'bag', lambda _: None) as reader:
        assert len(list(reader.records())) == 10
    bag.close({'eva.success': 'true'})
    said = []
    with BagReader(tmp_path / 'bag', said.append) as reader:
        assert len(list(reader.records())) == 10 and said == []
        assert reader.facts == {'eva.robot': 'x', 'eva.success': 'true'}
    with pytest.raises(UserError, match='cannot be made'):
        RecordedBag(tmp_path / 'bag', {})


def test_what_a_slow_disk_cannot_take_is_counted(tmp_path):
    bag = RecordedBag(tmp_path / 'bag', {})
    bag.add_topic('/text', 'std_msgs/msg/String')
    thread = BagThread(bag, most_waiting=10)
    thread.put('/text', 1, bytes(11))
    thread.close({})
    assert thread.overflown == 1 and thread.failure == ''


def test_a_disk_that_fails_ends_in_a_sentence(tmp_path):
    bag = RecordedBag(tmp_path / 'bag', {})

    def fail(*_):
        raise OSError(28, 'No space left on device')

    bag.write = bag.close = fail
    thread = BagThread(bag)
    thread.put('/text', 1, b'x')
    thread.close({})
    assert thread.failure == 'the bag cannot be written: No space left on device'


@pytest.mark.parametrize(
    ('error', 'words'),
    [
        (OSError(28, 'No space left on device'), 'No space left on device'),
        # Not only what a disk says: the thread that writes must not end without a word.
        (ValueError('a chunk too long'), 'ValueError: a chunk too long'),
    ],
)
def test_a_bag_that_cannot_be_written_is_never_reported_as_recorded(graph, tmp_path, error, words):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    client = ActionClient(graph.probe, RecordEpisode, topics.RECORD_EPISODE)
    assert client.wait_for_server(TIMEOUT_S)

    def fail(*_):
        raise error

    start(graph, drivers, node)
    with node._lock:  # the node's watch, too, ends what cannot be written
        node._recording.thread.bag.write = fail
        drivers.send(1)
        node._recording.thread.put('/episode', 1, b'')
        graph.wait_for(lambda: node._recording.thread.failure)
    answer = trigger(graph, topics.STOP)
    assert not answer.success and f'the bag cannot be written: {words}' in answer.message
    assert node.diagnostics._health['recording'].level == 'error'
    handle = wait(client.send_goal_async(RecordEpisode.Goal(instruction='wait')))
    graph.wait_for(lambda: node._recording)
    node._recording.thread.bag.close = fail
    node._recording.thread.bag.flush = fail
    answer = wait(handle.get_result_async())
    assert answer.status == GoalStatus.STATUS_ABORTED
    assert answer.result.outcome == RecordEpisode.Result.ERROR
    assert words in answer.result.message
    client.destroy()


def test_a_bag_that_cannot_be_removed_is_said_and_ends_the_recording(graph, tmp_path):
    drivers = Drivers(graph)
    node = recorder(graph, tmp_path / 'bags')
    start(graph, drivers, node)
    recording = node._recording

    def fail():
        raise OSError(30, 'Read-only file system')

    recording.thread.bag.discard = fail
    answer = trigger(graph, topics.DISCARD)
    assert not answer.success and 'cannot be removed: Read-only file system' in answer.message
    assert recording.over.is_set()


def test_a_run_whose_bag_lacks_something_is_no_run(graph, tmp_path):
    speaker = graph.publisher(String, 'words', 10, listeners=0)
    for name, spoil, words in (
        ('full', lambda thread: setattr(thread.bag, 'close', fail_to_write), 'No space left'),
        ('slow', lambda thread: setattr(thread, '_most', -1), r'too slow for \d+ messages'),
    ):
        run = RunRecorder(graph.probe, tmp_path / name, {'words': 'std_msgs/msg/String'})
        spoil(run._thread)
        graph.wait_for(lambda: speaker.get_subscription_count())
        graph.wait_for(lambda run=run: speaker.publish(String(data='x')) or run.counts)
        with pytest.raises(UserError, match=words):
            run.close()


def fail_to_write(*_):
    raise OSError(28, 'No space left on device')
