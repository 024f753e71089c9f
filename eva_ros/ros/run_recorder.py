"""Record topics as they pass into a rosbag2 MCAP bag, byte for byte, without rosbag2_py."""

from collections import Counter
from collections.abc import Mapping
from functools import partial
from pathlib import Path
import time

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy

from eva_ros.errors import UserError
from eva_ros.recordings.recorded_bag import RecordedBag
from eva_ros.robot.spec import Robot
from eva_ros.ros import topics
from eva_ros.ros.bag_thread import BagThread
from eva_ros.ros.heard_topics import message_class
from eva_ros.ros.qos import as_recorded
from eva_ros.ros.qos import CLOCK
from eva_ros.ros.qos import LATCHED
from eva_ros.ros.recorded_topics import command_topics

# Deep, because images come in bursts; reliable, because a rollout fills many packets.
_QUEUE = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)
_QUALITIES = {topics.SAFETY_STATE: LATCHED, topics.EPISODE: LATCHED, topics.CLOCK: CLOCK}


def recorded_topics(robot: Robot) -> dict[str, str]:
    """Return the type of each topic that a run leaves behind, by relative name."""
    images = {camera.topic: 'sensor_msgs/msg/CompressedImage' for camera in robot.cameras.values()}
    states = dict.fromkeys(robot.joint_state_topics, 'sensor_msgs/msg/JointState')
    return {
        **images,
        **states,
        **command_topics(robot),
        topics.CLOCK: 'rosgraph_msgs/msg/Clock',
        topics.OBSERVATION: 'eva_msgs/msg/Observation',
        topics.ROLLOUT: 'eva_msgs/msg/Rollout',
        topics.CHUNK: 'eva_msgs/msg/ActionChunk',
        topics.CHUNK_REPORT: 'eva_msgs/msg/ChunkReport',
        topics.SAFETY_STATE: 'eva_msgs/msg/SafetyState',
        topics.EPISODE: 'eva_msgs/msg/Episode',
        topics.of(topics.TRAJECTORY_INSPECTOR, topics.MARKERS): (
            'visualization_msgs/msg/MarkerArray'
        ),
    }


class RunRecorder:
    """Writes what is heard on a node's topics into a bag; `close` finishes it.

    Messages are logged in the node's ROS time, which is that of their stamps: a player that gives
    the time lets every node work as it did. When this machine's clock says they came is kept as
    the time at which they were published.

    Attributes:
        counts: messages heard, by topic.
    """

    def __init__(self, node: Node, path: Path, types: Mapping[str, str]) -> None:
        """Begin.

        Args:
            node: hears the topics; somebody spins it, and its time has begun.
            path: folder of the bag; it must not exist.
            types: type of each topic, by relative name.
        """
        self._node = node
        self._thread = BagThread(RecordedBag(path, {}))
        self.counts: Counter[str] = Counter()
        for topic, kind in types.items():
            node.create_subscription(
                message_class(kind),
                topic,
                partial(self._write, node.resolve_topic_name(topic), kind),
                _QUALITIES.get(topic, _QUEUE),
                raw=True,
            )

    def close(self) -> None:
        """Finish the bag; what is heard later is left out.

        Raises:
            UserError: the bag does not hold everything that was heard.
        """
        overflown = self._thread.overflown
        self._thread.close({})
        if self._thread.failure:
            raise UserError(f'{self._thread.bag.path}: {self._thread.failure}.')
        if overflown:
            raise UserError(
                f'{self._thread.bag.path}: the disk was too slow for {overflown} messages.'
            )

    def _write(self, topic: str, kind: str, data: bytes) -> None:
        if topic not in self._thread.topics:
            found = self._node.get_publishers_info_by_topic(topic)
            offered = [as_recorded(info.qos_profile) for info in found]
            self._thread.add_topic(topic, kind, offered)
        now_ns = self._node.get_clock().now().nanoseconds
        self._thread.put(topic, now_ns, data, time.time_ns())
        self.counts[topic] += 1
