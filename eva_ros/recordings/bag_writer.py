"""Writes one episode as one rosbag2 MCAP bag, readable without ROS.

The bag holds what a recorder on the robot would have seen: every camera's published JPEG bytes,
joint states, the commanded trajectories, and Episode markers at both ends.
"""

from collections.abc import Sequence
from pathlib import Path
import shutil

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray
from rosbags.interfaces import Qos
from rosbags.interfaces import QosDurability
from rosbags.interfaces import QosHistory
from rosbags.interfaces import QosLiveliness
from rosbags.interfaces import QosReliability
from rosbags.interfaces import QosTime
from rosbags.rosbag2 import StoragePlugin
from rosbags.rosbag2 import Writer

from eva_ros.recordings.typestore import typestore

IMAGE = 'sensor_msgs/msg/CompressedImage'
JOINTS = 'sensor_msgs/msg/JointState'
TRAJECTORY = 'trajectory_msgs/msg/JointTrajectory'
EPISODE = 'eva_msgs/msg/Episode'
EPISODE_TOPIC = '/episode'
_ENDLESS = QosTime(9223372036, 854775807)


def _offered(depth: int, durability: QosDurability) -> Qos:
    """Return what a reliable publisher offers."""
    return Qos(
        QosHistory.KEEP_LAST,
        depth,
        QosReliability.RELIABLE,
        durability,
        _ENDLESS,
        _ENDLESS,
        QosLiveliness.AUTOMATIC,
        _ENDLESS,
        False,
    )


# As the simulated robot's publishers: markers are kept for late listeners.
_STREAM = _offered(10, QosDurability.VOLATILE)
_LATCHED = _offered(1, QosDurability.TRANSIENT_LOCAL)


class EpisodeBagWriter:
    """A bag under construction; it takes its place only when it is complete.

    Args:
        path: folder of the bag; it must not exist.
        robot: name of the robot.
        facts: what else the bag should say about itself.
        index: number of the episode within its recording session.
    """

    def __init__(self, path: Path, robot: str, facts: dict[str, str], index: int = 0):
        """Open a bag beside its final place."""
        self._path = path
        self._part = path.with_name(path.name + '.part')
        if self._part.exists():
            shutil.rmtree(self._part)
        self._part.parent.mkdir(parents=True, exist_ok=True)
        self._store = typestore()
        self._robot = robot
        self._index = index
        self._connections: dict[str, object] = {}
        self._writer = Writer(self._part, version=9, storage_plugin=StoragePlugin.MCAP)
        self._writer.open()
        self.add_facts({'eva.robot': robot, **facts})

    def write_image(
        self,
        topic: str,
        stamp_ns: int,
        frame_id: str,
        picture: bytes,
        form: str = 'jpeg',
    ) -> None:
        """Write a camera's JPEG (or PNG) bytes as they were published."""
        data = np.frombuffer(picture, np.uint8)
        header = self._header(stamp_ns, frame_id)
        self._write(topic, stamp_ns, IMAGE, header=header, format=form, data=data)

    def write_joint_state(
        self,
        topic: str,
        stamp_ns: int,
        names: Sequence[str],
        positions: NDArray,
        velocities: NDArray,
    ) -> None:
        """Write measured joints in the controllers' names and units."""
        self._write(
            topic,
            stamp_ns,
            JOINTS,
            header=self._header(stamp_ns),
            name=list(names),
            position=np.ascontiguousarray(positions, np.float64),
            velocity=np.ascontiguousarray(velocities, np.float64),
            effort=np.zeros(0),
        )

    def write_trajectory(
        self,
        topic: str,
        stamp_ns: int,
        names: Sequence[str],
        times_s: ArrayLike,
        positions: NDArray,
        velocities: NDArray,
        accelerations: NDArray | None = None,
    ) -> None:
        """Write a trajectory as it was sent to an arm: [K] times, [K, J] values."""
        point = self._store.types['trajectory_msgs/msg/JointTrajectoryPoint']
        duration = self._store.types['builtin_interfaces/msg/Duration']
        points = []
        times = np.asarray(times_s, float).tolist()
        rates = [()] * len(times) if accelerations is None else accelerations
        for time_s, q, v, a in zip(times, positions, velocities, rates):
            seconds, rest = divmod(round(time_s * 1e9), 10**9)
            points.append(
                point(
                    positions=np.ascontiguousarray(q, np.float64),
                    velocities=np.ascontiguousarray(v, np.float64),
                    accelerations=np.ascontiguousarray(a, np.float64),
                    effort=np.zeros(0),
                    time_from_start=duration(sec=seconds, nanosec=rest),
                )
            )
        header = self._header(0)
        self._write(
            topic, stamp_ns, TRAJECTORY, header=header, joint_names=list(names), points=points
        )

    def write_episode(
        self,
        stamp_ns: int,
        *,
        start: bool,
        task: str,
        instruction: str,
        success: bool | None = None,
    ) -> None:
        """Write a marker; `success` is None where nobody judged."""
        kind = self._store.types[EPISODE]
        outcome = {None: kind.UNKNOWN, True: kind.SUCCESS, False: kind.FAILURE}[success]
        self._write(
            EPISODE_TOPIC,
            stamp_ns,
            EPISODE,
            header=self._header(stamp_ns),
            phase=kind.START if start else kind.END,
            index=self._index,
            task=task,
            instruction=instruction,
            success=outcome,
            robot=self._robot,
        )

    def add_facts(self, facts: dict[str, str]) -> None:
        """Say more about the bag."""
        for key, value in facts.items():
            self._writer.set_custom_data(key, value)

    def close(self) -> None:
        """Finish the bag and put it in its place."""
        self._writer.close()
        self._part.rename(self._path)

    def abort(self) -> None:
        """Drop the bag."""
        self._writer.close()
        shutil.rmtree(self._part)

    def _write(self, topic: str, stamp_ns: int, kind: str, **fields) -> None:
        if topic not in self._connections:
            offered = _LATCHED if kind == EPISODE else _STREAM
            self._connections[topic] = self._writer.add_connection(
                topic, kind, typestore=self._store, offered_qos_profiles=[offered]
            )
        message = self._store.types[kind](**fields)
        self._writer.write(
            self._connections[topic], stamp_ns, self._store.serialize_cdr(message, kind)
        )

    def _header(self, stamp_ns: int, frame_id: str = ''):
        seconds, rest = divmod(stamp_ns, 10**9)
        time = self._store.types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=rest)
        return self._store.types['std_msgs/msg/Header'](stamp=time, frame_id=frame_id)
