"""What leaves the gate: a trajectory for each arm, in its controller's names and units."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.robot.spec import ARM_NAMES
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ArmTrajectory:
    """A trajectory for one arm's controller, from rest to rest.

    Attributes:
        joint_names: as the controller wants them [J].
        time_from_start: strictly increasing, the first one step ahead, in s [K].
        positions: in the controller's units [K, J].
        velocities: [K, J], zero at the last point.
        accelerations: [K, J], zero at the last point.
    """

    joint_names: tuple[str, ...]
    time_from_start: Array
    positions: Array
    velocities: Array
    accelerations: Array


def to_command(robot: Robot, path: HermiteSpline) -> dict[str, ArmTrajectory]:
    """Return both arms' trajectories for a path of all joints [K, 14].

    The path's first point is where the arms are; it is not sent: a point at time zero would be
    a jump, and the controller begins at its own last command anyway.
    """
    command = {}
    for arm in ARM_NAMES:
        names, positions = robot.arm_command(arm, path.positions[1:])
        command[arm] = ArmTrajectory(
            joint_names=names,
            time_from_start=path.times[1:] - path.times[0],
            positions=positions,
            velocities=robot.arm_command_rates(arm, path.velocities[1:]),
            accelerations=robot.arm_command_rates(arm, path.accelerations[1:]),
        )
    return command
