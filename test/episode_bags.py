"""Bags for tests: two arms that move evenly, and cameras that show when they looked."""

from collections.abc import Callable
from collections.abc import Iterator
from dataclasses import dataclass
from dataclasses import field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer

from eva_ros.recordings.bag_reader import BagReader
from eva_ros.recordings.records import Record
from eva_ros.recordings.typestore import typestore
from eva_ros.robot.spec import load_robot

COMPRESSED = 'sensor_msgs/msg/CompressedImage'
RAW = 'sensor_msgs/msg/Image'
JOINTS = 'sensor_msgs/msg/JointState'
EPISODE = 'eva_msgs/msg/Episode'
SECOND = 1_000_000_000


def joints_at(stamp_ns: int) -> np.ndarray:
    """Return the robot's joints [14] at an instant: each moves evenly, at its own speed."""
    speeds = np.linspace(-0.2, 0.3, 14)
    return 0.3 + speeds * (stamp_ns - SECOND) * 1e-9


def picture(camera: str, stamp_ns: int, height: int = 240, width: int = 320) -> np.ndarray:
    """Return an image [H, W, 3] whose colours say the camera and the instant."""
    level = stamp_ns // 10_000_000 % 256
    image = np.full((height, width, 3), level, np.uint8)
    image[:, : width // 2, 0] = 40 + 60 * ('top', 'left_wrist', 'right_wrist').index(camera)
    return image


def jpeg(image: np.ndarray) -> bytes:
    """Return an RGB image as JPEG bytes."""
    return cv2.imencode('.jpg', image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 95])[1].tobytes()


@dataclass
class Recording:
    """What a bag should hold; every stream starts at 1 s."""

    duration_s: float = 3.0
    camera_hz: float = 20.0
    joint_hz: float = 100.0
    # Seconds by which an image's stamp lies behind the even grid.
    jitter: Callable[[str, int], float] = lambda camera, index: 0.0
    cameras: tuple[str, ...] = ('top', 'left_wrist', 'right_wrist')
    sizes: dict[str, tuple[int, int]] = field(default_factory=dict)
    joint_names: Callable[[tuple[str, ...]], tuple[str, ...]] = tuple
    # Which samples are recorded at all: stream name and stamp.
    keeps: Callable[[str, int], bool] = lambda stream, stamp_ns: True
    marked: bool = True
    success: int = 1
    task: str = 'reach_left'
    robot: str = 'aloha_sim'
    instruction: str = 'reach the cube'


def messages(recording: Recording) -> list[tuple[int, str, str, Any]]:
    """Return stamp, topic, type and fields of every message, in order of stamps."""
    robot = load_robot('aloha_sim')
    end_ns = SECOND + round(recording.duration_s * SECOND)
    found: list[tuple[int, str, str, Any]] = []
    for camera in recording.cameras:
        for index in range(round(recording.duration_s * recording.camera_hz) + 1):
            stamp_ns = SECOND + round(
                (index / recording.camera_hz + recording.jitter(camera, index)) * SECOND
            )
            if recording.keeps(camera, stamp_ns):
                image = picture(camera, stamp_ns, *recording.sizes.get(camera, (240, 320)))
                fields = {'format': 'jpeg', 'data': np.frombuffer(jpeg(image), np.uint8)}
                found.append((stamp_ns, f'/{camera}/image_raw/compressed', COMPRESSED, fields))
    for index in range(round(recording.duration_s * recording.joint_hz) + 1):
        stamp_ns = SECOND + round(index / recording.joint_hz * SECOND)
        if recording.keeps('joints', stamp_ns):
            found.append((stamp_ns, '/joint_states', JOINTS, _state(robot, recording, stamp_ns)))
    found.sort(key=lambda entry: entry[0])
    if recording.marked:
        found.insert(0, (SECOND, '/episode', EPISODE, _marker(recording, 0)))
        found.append((end_ns, '/episode', EPISODE, _marker(recording, 1)))
    return found


def _state(robot: Any, recording: Recording, stamp_ns: int) -> dict:
    names, values = robot.to_joint_state(joints_at(stamp_ns))
    kept = recording.joint_names(names)
    order = [names.index(name) for name in kept]
    return {
        'name': list(kept), 'position': values[order], 'velocity': np.zeros(0),
        'effort': np.zeros(0),
    }  # fmt: skip


def _marker(recording: Recording, phase: int) -> dict:
    return {
        'phase': phase, 'index': 0, 'task': recording.task, 'robot': recording.robot,
        'instruction': recording.instruction, 'success': recording.success if phase else 0,
    }  # fmt: skip


def serialize(kind: str, stamp_ns: int, fields: dict) -> bytes:
    """Return a message with a header as CDR bytes."""
    store = typestore()
    seconds, rest = divmod(stamp_ns, SECOND)
    time = store.types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=rest)
    header = store.types['std_msgs/msg/Header'](stamp=time, frame_id='')
    return bytes(store.serialize_cdr(store.types[kind](header=header, **fields), kind))


def write_bag(
    path: Path,
    content: list[tuple[int, str, str, Any]],
    storage: StoragePlugin = StoragePlugin.MCAP,
) -> Path:
    """Write messages as a bag; they are received one after the other, long after their stamps."""
    with Writer(path, version=9, storage_plugin=storage) as writer:
        connections = {}
        for index, (stamp_ns, topic, kind, fields) in enumerate(content):
            if topic not in connections:
                connections[topic] = writer.add_connection(topic, kind, typestore=typestore())
            received_ns = 1000 * SECOND + index * 1_000_000
            writer.write(connections[topic], received_ns, serialize(kind, stamp_ns, fields))
    return path


def read_bag(path: Path, topics=None, on_problem=print) -> Iterator[Record]:
    """Yield the records of a bag."""
    with BagReader(path, on_problem) as bag:
        yield from bag.records(topics)


def record(path: Path, **changes: Any) -> Path:
    """Write the bag of a Recording with some changes."""
    return write_bag(path, messages(Recording(**changes)))
