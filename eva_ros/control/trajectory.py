"""What leaves the gate: a trajectory for each arm, in its controller's names and units."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.reasons import RefusedError
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline

Array = NDArray[np.float64]

_EPSILON = 1e-9
_ROUNDING = 1e-5


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


def check_command(
    command: Mapping[str, ArmTrajectory], robot: Robot, *, is_a_stop: bool = False
) -> None:
    """Refuse messages that an arm's controller would not take, or would take wrongly.

    A second look at what leaves, at both arms before either is sent: names, shapes, finite
    values, times that increase by whole nanoseconds, rest at the end, limits at every point.

    Args:
        command: by arm.
        robot: whose arms.
        is_a_stop: it may stay where the motion was that it ends, on a way back into the limits.

    Raises:
        RefusedError: what is wrong, and with which arm.
    """
    if set(command) != set(robot.arms):
        raise RefusedError(reasons.LIMIT_VIOLATION, 'There is no command for every arm.')
    for arm, trajectory in command.items():
        problem = _malformed(trajectory, robot, arm)
        if problem is None and not is_a_stop:
            problem = _beyond_limits(trajectory, robot, arm)
        if problem is not None:
            raise RefusedError(reasons.LIMIT_VIOLATION, f'The {arm} arm: {problem}.')
    ends = {trajectory.time_from_start[-1] for trajectory in command.values()}
    if len(ends) > 1:
        raise RefusedError(reasons.LIMIT_VIOLATION, 'The arms would not end together.')


def _malformed(trajectory: ArmTrajectory, robot: Robot, arm: str) -> str | None:
    names = robot.arms[arm].controller.joints
    due_ns = np.round(np.asarray(trajectory.time_from_start) * 1e9)
    rows = (trajectory.positions, trajectory.velocities, trajectory.accelerations)
    if trajectory.joint_names != names:
        return 'the joints are not those of its controller'
    if not len(due_ns) or any(row.shape != (len(due_ns), len(names)) for row in rows):
        return 'the points do not hold every joint'
    if not all(np.isfinite(row).all() for row in (*rows, due_ns)):
        return 'a value is not finite'
    if not (due_ns[0] > 0.0 and (np.diff(due_ns) > 0.0).all()):
        return 'the times do not increase'
    if trajectory.velocities[-1].any() or trajectory.accelerations[-1].any():
        return 'it does not end at rest'
    return None


def _beyond_limits(trajectory: ArmTrajectory, robot: Robot, arm: str) -> str | None:
    limits = robot.limits
    lowest = robot.arm_command(arm, limits.min_position)[1]
    highest = robot.arm_command(arm, limits.max_position)[1]
    low, high = np.minimum(lowest, highest) - _EPSILON, np.maximum(lowest, highest) + _EPSILON
    # A start outside the limits comes back inside at the first point at the latest.
    if ((trajectory.positions < low) | (trajectory.positions > high)).any():
        return 'a position is outside the limits'
    fastest = np.abs(robot.arm_command_rates(arm, limits.max_velocity))
    if (np.abs(trajectory.velocities) > fastest * (1.0 + _ROUNDING)).any():
        return 'a velocity is above the limits'
    return None


def to_command(robot: Robot, path: HermiteSpline) -> dict[str, ArmTrajectory]:
    """Return both arms' trajectories for a path of all joints [K, J].

    The path's first point is where the arms are; it is not sent: a point at time zero would be
    a jump, and the controller begins at its own last command anyway.
    """
    command = {}
    for arm in robot.arms:
        names, positions = robot.arm_command(arm, path.positions[1:])
        command[arm] = ArmTrajectory(
            joint_names=names,
            time_from_start=path.times[1:] - path.times[0],
            positions=positions,
            velocities=robot.arm_command_rates(arm, path.velocities[1:]),
            accelerations=robot.arm_command_rates(arm, path.accelerations[1:]),
        )
    return command
