"""Record topics as they pass into a rosbag2 MCAP bag, byte for byte, without rosbag2_py."""

from collections.abc import Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
import threading
import time

from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.qos import ReliabilityPolicy
from rosbags.interfaces import Connection
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer

from eva_ros.episodes.typestore import typestore
from eva_ros.robot.spec import Robot
from eva_ros.ros import topics
from eva_ros.ros.qos import LATCHED

_LATCHED_TOPICS = (topics.SAFETY_STATE, topics.EPISODE)
# Deep, because images come in bursts; reliable, because a rollout fills many packets.
_QUEUE = QoSProfile(depth=200, reliability=ReliabilityPolicy.RELIABLE)


def recorded_topics(robot: Robot) -> dict[str, str]:
    """Return the type of each topic that a run leaves behind, by relative name."""
    images = {camera.topic: 'sensor_msgs/msg/CompressedImage' for camera in robot.cameras.values()}
    states = dict.fromkeys(robot.joint_state_topics, 'sensor_msgs/msg/JointState')
    commands = {arm.controller.topic: arm.controller.type for arm in robot.arms.values()}
    return {
        **images,
        **states,
        **commands,
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
    """Writes what is heard on a node's topics into a bag; `close` finishes it."""

    def __init__(self, node: Node, path: Path, types: Mapping[str, str]) -> None:
        """Begin.

        Args:
            node: hears the topics; somebody spins it.
            path: folder of the bag; it must not exist.
            types: type of each topic, by relative name.
        """
        self._writer = Writer(path, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self._lock = threading.Lock()
        self._closed = False
        self.counts: dict[str, int] = {}
        store = typestore()
        for topic, name in types.items():
            full = node.resolve_topic_name(topic)
            connection = self._writer.add_connection(full, name, typestore=store)
            node.create_subscription(
                _message_class(name),
                topic,
                partial(self._write, connection),
                LATCHED if topic in _LATCHED_TOPICS else _QUEUE,
                raw=True,
            )

    def close(self) -> None:
        """Finish the bag; what is heard later is left out."""
        with self._lock:
            self._closed = True
            self._writer.close()

    def _write(self, connection: Connection, data: bytes) -> None:
        with self._lock:
            if self._closed:
                return
            self._writer.write(connection, time.time_ns(), data)
            self.counts[connection.topic] = self.counts.get(connection.topic, 0) + 1


def _message_class(name: str) -> type:
    package, _, kind = name.split('/')
    return getattr(import_module(f'{package}.msg'), kind)
