"""What the messages of a bag say, as typed records."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.recordings.typestore import VIDEO

IMAGES = ('sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/Image', VIDEO)
JOINT_STATE = 'sensor_msgs/msg/JointState'
TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
EPISODE = 'eva_msgs/msg/Episode'
TEXT = 'std_msgs/msg/String'


@dataclass(frozen=True)
class Record:
    """A message of a bag.

    Attributes:
        topic: without the leading slash.
        received_ns: when the recorder got it.
        stamp_ns: of its header; when it was received where its type has none.
    """

    topic: str
    received_ns: int
    stamp_ns: int


@dataclass(frozen=True)
class ImageRecord(Record):
    """A camera's image; decode_image takes its message."""

    message: Any


@dataclass(frozen=True, eq=False)
class JointStateRecord(Record):
    """Measured joints in the robot's own names and units."""

    names: tuple[str, ...]
    positions: NDArray[np.float64]
    velocities: NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class TrajectoryRecord(Record):
    """A commanded trajectory: times [K] in s, positions [K, J] in the controller's units."""

    joint_names: tuple[str, ...]
    times_s: NDArray[np.float64]
    positions: NDArray[np.float64]


@dataclass(frozen=True)
class EpisodeRecord(Record):
    """The beginning or the end of an attempt; success is None where nobody judged."""

    starts: bool
    task: str
    instruction: str
    success: bool | None
    robot: str


@dataclass(frozen=True)
class TextRecord(Record):
    """A text, for example what the robot is told to do from now on."""

    text: str


def to_record(topic: str, received_ns: int, message: Any, kind: str) -> Record:
    """Return a deserialized message of one of the types in KINDS as a record."""
    stamp_ns = _stamp_ns(message, received_ns)
    return KINDS[kind](topic.lstrip('/'), received_ns, stamp_ns, message)


def _stamp_ns(message: Any, received_ns: int) -> int:
    """Return when a message was stamped; foxglove's types have a time instead of a header."""
    if hasattr(message, 'header'):
        return _ns(message.header.stamp)
    return _ns(message.timestamp) if hasattr(message, 'timestamp') else received_ns


def _ns(time: Any) -> int:
    return int(time.sec) * 1_000_000_000 + int(time.nanosec)


def _image(topic: str, received_ns: int, stamp_ns: int, message: Any) -> ImageRecord:
    return ImageRecord(topic, received_ns, stamp_ns, message)


def _joint_state(topic: str, received_ns: int, stamp_ns: int, message: Any) -> JointStateRecord:
    return JointStateRecord(
        topic, received_ns, stamp_ns, tuple(message.name), message.position, message.velocity
    )


def _trajectory(topic: str, received_ns: int, stamp_ns: int, message: Any) -> TrajectoryRecord:
    times = np.array([_ns(point.time_from_start) * 1e-9 for point in message.points])
    rows = [np.asarray(point.positions, np.float64) for point in message.points]
    positions = np.stack(rows) if rows else np.zeros((0, len(message.joint_names)))
    return TrajectoryRecord(
        topic, received_ns, stamp_ns, tuple(message.joint_names), times, positions
    )


def _text(topic: str, received_ns: int, stamp_ns: int, message: Any) -> TextRecord:
    return TextRecord(topic, received_ns, stamp_ns, str(message.data))


def _episode(topic: str, received_ns: int, stamp_ns: int, message: Any) -> EpisodeRecord:
    kind = type(message)
    success = {kind.SUCCESS: True, kind.FAILURE: False}.get(message.success)
    starts = message.phase == kind.START
    return EpisodeRecord(
        topic,
        received_ns,
        stamp_ns,
        starts,
        message.task,
        message.instruction,
        success,
        message.robot,
    )


KINDS: dict[str, Callable[[str, int, int, Any], Record]] = {
    **dict.fromkeys(IMAGES, _image),
    JOINT_STATE: _joint_state,
    TRAJECTORY: _trajectory,
    EPISODE: _episode,
    TEXT: _text,
}
