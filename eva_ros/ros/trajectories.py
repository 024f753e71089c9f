"""trajectory_msgs/JointTrajectory, as sent to a controller and as received by one."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from trajectory_msgs.msg import JointTrajectory
from trajectory_msgs.msg import JointTrajectoryPoint

from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline
from eva_ros.ros.stamps import to_duration
from eva_ros.ros.stamps import to_seconds
from eva_ros.ros.stamps import to_time


def trajectory_message(trajectory: ArmTrajectory, stamp_ns: int) -> JointTrajectory:
    """Return an arm's trajectory as the controller's message.

    Args:
        trajectory: in the controller's names and units.
        stamp_ns: when its time begins; 0 is at receipt.
    """
    message = JointTrajectory()
    message.header.stamp = to_time(stamp_ns)
    message.joint_names = list(trajectory.joint_names)
    message.points = [
        JointTrajectoryPoint(
            time_from_start=to_duration(float(time)),
            positions=position.tolist(),
            velocities=velocity.tolist(),
            accelerations=acceleration.tolist(),
        )
        for time, position, velocity, acceleration in zip(
            trajectory.time_from_start,
            trajectory.positions,
            trajectory.velocities,
            trajectory.accelerations,
        )
    ]
    return message


def path_message(robot: Robot, path: HermiteSpline, stamp_ns: int) -> JointTrajectory:
    """Return a path of all joints, in the names and units used inside, for people to look at."""
    return trajectory_message(
        ArmTrajectory(
            joint_names=robot.joint_names,
            time_from_start=path.times - path.times[0],
            positions=path.positions,
            velocities=path.velocities,
            accelerations=path.accelerations,
        ),
        stamp_ns,
    )


def received_points(message: JointTrajectory) -> dict[str, Any]:
    """Return the points of a trajectory message as arrays.

    Returns:
        time_from_start [K], positions [K, J], velocities and accelerations [K, J] or None where
        the message gives none.
    """
    points = message.points
    return {
        'time_from_start': np.array([to_seconds(point.time_from_start) for point in points]),
        'positions': _rows([point.positions for point in points]),
        'velocities': _rows([point.velocities for point in points]),
        'accelerations': _rows([point.accelerations for point in points]),
    }


def _rows(rows: Sequence[Sequence[float]]) -> NDArray[np.float64] | None:
    """Return rows as an array; None where none is given or they differ in length."""
    lengths = {len(row) for row in rows}
    if lengths in (set(), {0}):
        return None
    if len(lengths) > 1:
        return np.full((len(rows), 0), np.nan)
    return np.array(rows, dtype=np.float64)
