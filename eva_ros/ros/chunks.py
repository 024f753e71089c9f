"""eva_msgs/ActionChunk and the chunk of eva_ros.control."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from eva_msgs.msg import ActionChunk
from eva_msgs.msg import Executability
from eva_ros.control.chunk import Chunk
from eva_ros.errors import UserError
from eva_ros.ros.rollouts import StampedRollout
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_seconds
from eva_ros.ros.stamps import to_time


def chunk_message(
    rollout: StampedRollout,
    positions: NDArray[np.float64],
    executability: Mapping[str, float],
    *,
    confidence: float,
    checkpoint: str,
    now_ns: int,
) -> ActionChunk:
    """Return what was decoded from a rollout as a message.

    Args:
        rollout: what it was decoded from.
        positions: [T, J].
        executability: the score and its terms by the names of eva_msgs/Executability.
        confidence: the decoder's own, 0 to 1; NaN where it gives none.
        checkpoint: the decoder's, "name@sha12".
        now_ns: when it was decoded.
    """
    message = ActionChunk()
    message.header.stamp = to_time(now_ns)
    message.observation_stamp = to_time(rollout.observation_stamp_ns)
    message.observation_id = rollout.observation_id
    message.rollout_id = rollout.rollout_id
    message.robot = rollout.robot
    message.instruction = rollout.instruction
    message.step_dt = to_duration(rollout.dt)
    message.horizon = len(positions)
    message.joint_names = list(rollout.joint_names)
    message.positions = positions.ravel().tolist()
    message.observed_positions = rollout.joint_positions.tolist()
    message.confidence = float(confidence)
    message.executability = Executability(**executability)
    message.checkpoint = checkpoint
    return message


def received_chunk(message: ActionChunk) -> Chunk:
    """Return the chunk in a message; what it says is for the gate to judge.

    Raises:
        UserError: the positions do not fill horizon x joints.
    """
    joints = len(message.joint_names)
    if message.horizon * joints != len(message.positions):
        raise UserError(
            f'Chunk of rollout {message.rollout_id} says {message.horizon} steps of {joints} '
            f'joints and holds {len(message.positions)} positions.'
        )
    return Chunk(
        observation_stamp_ns=to_ns(message.observation_stamp),
        rollout_id=message.rollout_id,
        joint_names=tuple(message.joint_names),
        dt=to_seconds(message.step_dt),
        positions=np.array(message.positions).reshape(message.horizon, joints),
        observed_positions=np.array(message.observed_positions),
        instruction=message.instruction,
        confidence=message.confidence,
        executability=message.executability.score,
    )
