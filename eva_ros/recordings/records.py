"""What the messages of a bag say, as typed records."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.observations.images import decode_image
from eva_ros.recordings.typestore import VIDEO

IMAGES = ('sensor_msgs/msg/CompressedImage', 'sensor_msgs/msg/Image', VIDEO)
JOINT_STATE = 'sensor_msgs/msg/JointState'
TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
EPISODE = 'eva_msgs/msg/Episode'
ROLLOUT = 'eva_msgs/msg/Rollout'
CHUNK = 'eva_msgs/msg/ActionChunk'
REPORT = 'eva_msgs/msg/ChunkReport'
TEXT = 'std_msgs/msg/String'
# The fields of eva_msgs/Executability.
EXECUTABILITY = (
    *('score', 'penalty', 'jerk', 'acceleration', 'velocity', 'acceleration_excess'),
    *('position', 'motion'),
)


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


@dataclass(frozen=True, eq=False)
class RolloutRecord(Record):
    """A dream.

    Attributes:
        observation_stamp_ns: Stamp of the observation it began with.
        rollout_id: Its number.
        robot: Name of the robot.
        instruction: What the robot was told.
        frames: Views [T, H, W, 3], uint8 RGB; the first is the observed one.
        dt: Time between two frames, s.
        joint_names: Names of the joints [J].
        joint_positions: Measured joints at the observation [J].
        seed: Random seed of the dream.
        denoising_steps: Number of denoising steps.
        checkpoint: Name of the weights, "name@sha12".
        duration_s: Wall time of the dream, s.
    """

    observation_stamp_ns: int
    rollout_id: int
    robot: str
    instruction: str
    frames: NDArray[np.uint8]
    dt: float
    joint_names: tuple[str, ...]
    joint_positions: NDArray[np.float64]
    seed: int
    denoising_steps: int
    checkpoint: str
    duration_s: float


@dataclass(frozen=True, eq=False)
class ChunkRecord(Record):
    """What was decoded from a dream.

    Attributes:
        observation_stamp_ns: Stamp of the observation the dream began with.
        rollout_id: Number of the dream.
        robot: Name of the robot.
        instruction: What the robot was told.
        dt: Time between two steps, s.
        joint_names: Names of the joints [J].
        positions: Decoded joints [T, J], rad; grippers 0 to 1.
        observed_positions: Measured joints at the observation [J].
        confidence: Confidence of the decoder, 0 to 1; nan if it gives none.
        executability: Score and terms by the names of eva_msgs/Executability.
        checkpoint: Name of the decoder's weights, "name@sha12".
    """

    observation_stamp_ns: int
    rollout_id: int
    robot: str
    instruction: str
    dt: float
    joint_names: tuple[str, ...]
    positions: NDArray[np.float64]
    observed_positions: NDArray[np.float64]
    confidence: float
    executability: dict[str, float]
    checkpoint: str


@dataclass(frozen=True)
class ReportRecord(Record):
    """What the gate did with a chunk.

    Attributes:
        rollout_id: Number of the dream that the chunk was decoded from.
        accepted: Whether it passed every check.
        sent: Whether the arms were commanded.
        detail: Sentence of the gate.
        stretch: Duration of the motion over that of the dream.
    """

    rollout_id: int
    accepted: bool
    sent: bool
    detail: str
    stretch: float


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


def _rollout(topic: str, received_ns: int, stamp_ns: int, message: Any) -> RolloutRecord:
    frames = [decode_image(image) for image in message.frames]
    if len(frames) != message.horizon:
        raise ValueError(f'it says {message.horizon} frames and holds {len(frames)}')
    return RolloutRecord(
        topic,
        received_ns,
        stamp_ns,
        observation_stamp_ns=_ns(message.observation_stamp),
        rollout_id=int(message.rollout_id),
        robot=message.robot,
        instruction=message.instruction,
        frames=np.stack(frames),
        dt=_ns(message.step_dt) * 1e-9,
        joint_names=tuple(message.joint_names),
        joint_positions=np.asarray(message.joint_positions, np.float64),
        seed=int(message.seed),
        denoising_steps=int(message.denoising_steps),
        checkpoint=message.checkpoint,
        duration_s=float(message.duration_s),
    )


def _chunk(topic: str, received_ns: int, stamp_ns: int, message: Any) -> ChunkRecord:
    names = tuple(message.joint_names)
    judged = message.executability
    return ChunkRecord(
        topic,
        received_ns,
        stamp_ns,
        observation_stamp_ns=_ns(message.observation_stamp),
        rollout_id=int(message.rollout_id),
        robot=message.robot,
        instruction=message.instruction,
        dt=_ns(message.step_dt) * 1e-9,
        joint_names=names,
        positions=np.asarray(message.positions, np.float64).reshape(message.horizon, len(names)),
        observed_positions=np.asarray(message.observed_positions, np.float64),
        confidence=float(message.confidence),
        executability={name: float(getattr(judged, name)) for name in EXECUTABILITY},
        checkpoint=message.checkpoint,
    )


def _report(topic: str, received_ns: int, stamp_ns: int, message: Any) -> ReportRecord:
    return ReportRecord(
        topic,
        received_ns,
        stamp_ns,
        int(message.rollout_id),
        bool(message.accepted),
        bool(message.sent),
        message.detail,
        float(message.stretch),
    )


KINDS: dict[str, Callable[[str, int, int, Any], Record]] = {
    **dict.fromkeys(IMAGES, _image),
    JOINT_STATE: _joint_state,
    TRAJECTORY: _trajectory,
    EPISODE: _episode,
    ROLLOUT: _rollout,
    CHUNK: _chunk,
    REPORT: _report,
    TEXT: _text,
}
