"""eva_msgs/Observation and the observation of eva_ros.episodes."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sensor_msgs.msg import JointState

from eva_msgs.msg import Observation as ObservationMessage
from eva_ros.errors import UserError
from eva_ros.observations.ingest import Observation
from eva_ros.robot.spec import Robot
from eva_ros.ros.images import to_frame
from eva_ros.ros.images import to_image
from eva_ros.ros.stamps import to_ns
from eva_ros.ros.stamps import to_time


@dataclass(frozen=True)
class ReceivedObservation:
    """An observation with the number that camera_ingest gave it."""

    observation: Observation
    observation_id: int

    @property
    def stamp_ns(self) -> int:
        """Return the observation instant."""
        return self.observation.stamp_ns

    @property
    def oldest_image_ns(self) -> int:
        """Return the stamp of the oldest image in the view."""
        return min(self.observation.image_stamps.values())


def observation_message(
    observation: Observation, observation_id: int, robot: Robot
) -> ObservationMessage:
    """Return an observation as a message."""
    message = ObservationMessage()
    message.header.stamp = to_time(observation.stamp_ns)
    message.observation_id = observation_id
    message.robot = robot.name
    message.camera_names = list(observation.image_stamps)
    message.image_stamps = [to_time(stamp) for stamp in observation.image_stamps.values()]
    message.view = to_image(observation.view, observation.stamp_ns)
    message.joint_state = _joint_state(observation, robot)
    message.at_rest = bool(observation.at_rest)
    return message


def received_observation(message: ObservationMessage, robot: Robot) -> ReceivedObservation:
    """Return the observation in a message.

    Raises:
        UserError: it is of another robot, not well formed, or a joint position is not finite.
    """
    check_robot(message.robot, robot, 'observation')
    state = message.joint_state
    joint_names(state.name, robot, 'observation')
    require_finite_joints(state.name, state.position, 'observation')
    stamps = [to_ns(stamp) for stamp in message.image_stamps]
    velocities = (
        np.array(state.velocity) if len(state.velocity) else np.full(len(state.name), np.nan)
    )
    observation = Observation(
        stamp_ns=to_ns(message.header.stamp),
        view=to_frame(message.view),
        image_stamps=dict(zip(message.camera_names, stamps)),
        joint_positions=np.array(state.position),
        joint_stamp_ns=to_ns(state.header.stamp),
        joint_velocities=velocities,
        at_rest=message.at_rest,
    )
    return ReceivedObservation(observation, message.observation_id)


def check_robot(name: str, robot: Robot, what: str) -> None:
    """Refuse what was made for another robot.

    Raises:
        UserError: the names differ.
    """
    if name != robot.name:
        raise UserError(
            f"The {what} is for robot '{name}', and this node works for '{robot.name}': start "
            'both with the same robot YAML.'
        )


def joint_names(names: list[str], robot: Robot, what: str) -> None:
    """Refuse what names other joints, or in another order.

    Raises:
        UserError: which joints differ.
    """
    if tuple(names) == robot.joint_names:
        return
    missing = [name for name in robot.joint_names if name not in names]
    extra = [name for name in names if name not in robot.joint_names]
    differ = f'lacks {missing}, has {extra}' if missing or extra else 'has another order'
    raise UserError(f'The joints of the {what} are not those of {robot.name}: it {differ}.')


def require_finite_joints(names: Sequence[str], positions: Sequence[float], what: str) -> None:
    """Refuse joint positions that are not finite.

    Raises:
        UserError: names the joints.
    """
    bad = [name for name, position in zip(names, positions) if not np.isfinite(position)]
    if bad:
        raise UserError(
            f'The position of {", ".join(bad)} in the {what} is not finite: check the joint '
            'states.'
        )


def _joint_state(observation: Observation, robot: Robot) -> JointState:
    state = JointState()
    state.header.stamp = to_time(observation.joint_stamp_ns)
    state.name = list(robot.joint_names)
    state.position = observation.joint_positions.tolist()
    if np.isfinite(observation.joint_velocities).all():
        state.velocity = observation.joint_velocities.tolist()
    return state
