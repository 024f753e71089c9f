"""What the bag of a run holds, sorted by what it is for."""

from bisect import bisect_right
from collections import defaultdict
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

from rosbags.highlevel import AnyReader

from eva_ros.robot.spec import Robot


@dataclass(frozen=True)
class Logged:
    """A message and when it was written, in ns of this machine's clock."""

    logged_ns: int
    message: Any


@dataclass
class Series:
    """Messages of a stream by their own stamps."""

    stamps: list[int] = field(default_factory=list)
    values: list[Any] = field(default_factory=list)

    def as_of(self, stamp_ns: int) -> Any | None:
        """Return the newest value not after an instant."""
        index = bisect_right(self.stamps, stamp_ns)
        return self.values[index - 1] if index else None


@dataclass
class RunTopics:
    """Cameras and commands by name, the hops of the data's way by rollout."""

    cameras: dict[str, Series] = field(default_factory=lambda: defaultdict(Series))
    joints: Series = field(default_factory=Series)
    rollouts: dict[int, Logged] = field(default_factory=dict)
    chunks: dict[int, Logged] = field(default_factory=dict)
    reports: dict[int, Logged] = field(default_factory=dict)
    commands: dict[str, list[Logged]] = field(default_factory=lambda: defaultdict(list))


def read_topics(bag: Path, robot: Robot) -> RunTopics:
    """Return what a bag holds of a robot's topics."""
    cameras = {f'/{camera.topic}': camera.name for camera in robot.cameras.values()}
    arms = {f'/{arm.controller.topic}': arm.name for arm in robot.arms.values()}
    by_rollout = {'/rollout': 'rollouts', '/chunk': 'chunks', '/chunk_report': 'reports'}
    states = {f'/{topic}' for topic in robot.joint_state_topics}
    wanted = {*cameras, *arms, *by_rollout, *states}
    topics = RunTopics()
    with AnyReader([bag]) as reader:
        connections = [found for found in reader.connections if found.topic in wanted]
        for connection, logged_ns, raw in reader.messages(connections):
            message = reader.deserialize(raw, connection.msgtype)
            topic = connection.topic
            if topic in cameras:
                _append(topics.cameras[cameras[topic]], message, message)
            elif topic in states:
                _append(
                    topics.joints, message, robot.from_joint_state(message.name, message.position)
                )
            elif topic in arms:
                topics.commands[arms[topic]].append(Logged(logged_ns, message))
            else:
                getattr(topics, by_rollout[topic])[message.rollout_id] = Logged(logged_ns, message)
    return topics


def _append(series: Series, message: Any, value: Any) -> None:
    series.stamps.append(to_ns(message.header.stamp))
    series.values.append(value)


def to_ns(stamp: Any) -> int:
    """Return a Time or Duration message in nanoseconds."""
    return stamp.sec * 1_000_000_000 + stamp.nanosec
