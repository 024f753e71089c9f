"""Writes an attempt as the recorder on the robot does: with its dreams, chunks and reports."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.recordings.bag_writer import EpisodeBagWriter
from eva_ros.recordings.records import CHUNK
from eva_ros.recordings.records import ChunkRecord
from eva_ros.recordings.records import REPORT
from eva_ros.recordings.records import ROLLOUT
from eva_ros.recordings.records import RolloutRecord

_CLOCK = 'rosgraph_msgs/msg/Clock'
_NS = 10**9


class AttemptBagWriter(EpisodeBagWriter):
    """A bag of an attempt under construction."""

    def write_clock(self, stamp_ns: int) -> None:
        """Write the simulated time."""
        self._write('/clock', stamp_ns, _CLOCK, clock=self._time(stamp_ns))

    def write_rollout(self, record: RolloutRecord) -> None:
        """Write a dream."""
        stamps = [
            record.observation_stamp_ns + round(i * record.dt * _NS)
            for i in range(len(record.frames))
        ]
        self._write(
            f'/{record.topic}',
            record.received_ns,
            ROLLOUT,
            **self._origin(record),
            robot=record.robot,
            instruction=record.instruction,
            horizon=len(record.frames),
            step_dt=self._duration(record.dt),
            frames=[self._image(*pair) for pair in zip(record.frames, stamps)],
            joint_names=list(record.joint_names),
            joint_positions=np.ascontiguousarray(record.joint_positions, np.float64),
            seed=record.seed,
            denoising_steps=record.denoising_steps,
            checkpoint=record.checkpoint,
            duration_s=record.duration_s,
        )

    def write_chunk(self, record: ChunkRecord) -> None:
        """Write what was decoded."""
        judged = self._store.types['eva_msgs/msg/Executability'](**record.executability)
        self._write(
            f'/{record.topic}',
            record.received_ns,
            CHUNK,
            **self._origin(record),
            robot=record.robot,
            instruction=record.instruction,
            step_dt=self._duration(record.dt),
            horizon=len(record.positions),
            joint_names=list(record.joint_names),
            positions=np.ascontiguousarray(record.positions, np.float64).ravel(),
            observed_positions=np.ascontiguousarray(record.observed_positions, np.float64),
            confidence=record.confidence,
            executability=judged,
            checkpoint=record.checkpoint,
        )

    def write_report(
        self, topic: str, chunk: ChunkRecord, reason: str, fields: Mapping[str, Any]
    ) -> None:
        """Write what the gate did with a chunk.

        Args:
            topic: Name of the topic, without the leading slash.
            chunk: What was judged, when it was written.
            reason: Name of a constant of eva_msgs/ChunkReport.
            fields: The message's other fields by name.
        """
        kind = self._store.types[REPORT]
        self._write(
            f'/{topic}',
            chunk.received_ns,
            REPORT,
            **self._origin(chunk),
            reason=getattr(kind, reason, kind.ERROR),
            **fields,
        )

    def _origin(self, record: RolloutRecord | ChunkRecord) -> dict[str, Any]:
        """Return header and origin; each dream of an attempt begins with its own observation."""
        return {
            'header': self._header(record.stamp_ns),
            'observation_stamp': self._time(record.observation_stamp_ns),
            'observation_id': record.rollout_id,
            'rollout_id': record.rollout_id,
        }

    def _image(self, frame: NDArray[np.uint8], stamp_ns: int) -> Any:
        height, width, _ = frame.shape
        return self._store.types['sensor_msgs/msg/Image'](
            header=self._header(stamp_ns),
            height=height,
            width=width,
            encoding='rgb8',
            is_bigendian=0,
            step=3 * width,
            data=np.ascontiguousarray(frame).ravel(),
        )

    def _time(self, stamp_ns: int) -> Any:
        seconds, rest = divmod(stamp_ns, _NS)
        return self._store.types['builtin_interfaces/msg/Time'](sec=seconds, nanosec=rest)

    def _duration(self, seconds: float) -> Any:
        whole, rest = divmod(round(seconds * _NS), _NS)
        return self._store.types['builtin_interfaces/msg/Duration'](sec=whole, nanosec=rest)
