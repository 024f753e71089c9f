"""eva_msgs/Rollout and a rollout with all that travels with it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_msgs.msg import Rollout as RolloutMessage
from eva_ros.errors import UserError
from eva_ros.ros.images import to_frame
from eva_ros.ros.images import to_image
from eva_ros.ros.observations import require_finite_joints
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_seconds
from eva_ros.ros.stamps import to_time


@dataclass(frozen=True)
class StampedRollout:
    """Dreamed frames, and what they were dreamed from.

    Attributes:
        observation_stamp_ns: of the observation it was dreamed from.
        frames: [T, H, W, 3] uint8 RGB; frames[0] is the observed view.
        dt: time between two frames, s.
        joint_names: [J].
        joint_positions: measured joints at the observation [J].
        duration_s: wall time of the dream.
    """

    observation_stamp_ns: int
    observation_id: int
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


def rollout_message(rollout: StampedRollout, now_ns: int) -> RolloutMessage:
    """Return a rollout as a message, stamped with the end of the dream."""
    message = RolloutMessage()
    message.header.stamp = to_time(now_ns)
    message.observation_stamp = to_time(rollout.observation_stamp_ns)
    message.observation_id = rollout.observation_id
    message.rollout_id = rollout.rollout_id
    message.robot = rollout.robot
    message.instruction = rollout.instruction
    message.horizon = len(rollout.frames)
    message.step_dt = to_duration(rollout.dt)
    stamps = [
        rollout.observation_stamp_ns + round(i * rollout.dt * 1e9)
        for i in range(len(rollout.frames))
    ]
    message.frames = [to_image(*pair) for pair in zip(rollout.frames, stamps)]
    message.joint_names = list(rollout.joint_names)
    message.joint_positions = rollout.joint_positions.tolist()
    message.seed = rollout.seed
    message.denoising_steps = rollout.denoising_steps
    message.checkpoint = rollout.checkpoint
    message.duration_s = rollout.duration_s
    return message


def received_rollout(message: RolloutMessage) -> StampedRollout:
    """Return the rollout in a message.

    Raises:
        UserError: its parts do not fit each other.
    """
    frames = [to_frame(image) for image in message.frames]
    _check(message, frames)
    return StampedRollout(
        observation_stamp_ns=to_ns(message.observation_stamp),
        observation_id=message.observation_id,
        rollout_id=message.rollout_id,
        robot=message.robot,
        instruction=message.instruction,
        frames=np.stack(frames),
        dt=to_seconds(message.step_dt),
        joint_names=tuple(message.joint_names),
        joint_positions=np.array(message.joint_positions),
        seed=message.seed,
        denoising_steps=message.denoising_steps,
        checkpoint=message.checkpoint,
        duration_s=message.duration_s,
    )


def _check(message: RolloutMessage, frames: list[NDArray[np.uint8]]) -> None:
    name = f'Rollout {message.rollout_id}'
    if not frames or len(frames) != message.horizon:
        raise UserError(f'{name} says {message.horizon} frames and holds {len(frames)}.')
    sizes = {frame.shape for frame in frames}
    if len(sizes) > 1:
        raise UserError(f'{name} holds frames of different sizes: {sorted(sizes)}.')
    if to_ns(message.step_dt) <= 0:
        raise UserError(f'{name} has a step_dt of {to_seconds(message.step_dt)} s.')
    require_finite_joints(message.joint_names, message.joint_positions, 'rollout')
