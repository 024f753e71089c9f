"""Does a motion keep the arms apart, and within their workspace?"""

import numpy as np
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.reasons import RefusedError
from eva_ros.control.settings import GateSettings
from eva_ros.robot.collision import collision_world
from eva_ros.robot.collision import CollisionWorld
from eva_ros.robot.kinematics import forward_kinematics
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline

Array = NDArray[np.float64]

# Instants at which a workspace without bodies is looked at, in s.
_WORKSPACE_S = 0.02


def check_space(path: HermiteSpline, robot: Robot, settings: GateSettings) -> None:
    """Refuse a motion in which bodies touch or an end effector leaves the workspace.

    Looks at so many instants that no point of an arm moves farther than collision_margin between
    two of them: what is farther apart than that at each cannot touch in between.
    """
    world = collision_world(robot, settings.collision_margin)
    if world is not None and settings.check_collisions:
        times = instants(path, world)
        contact = world.first_contact(path.sample(times)[0])
        if contact is not None:
            index, pair = contact
            raise RefusedError(
                reasons.COLLISION,
                f'{pair[0]} comes closer to {pair[1]} than {world.margin:g} m after '
                f'{times[index] - path.times[0]:.2f} s.',
                pair,
            )
    if robot.workspace is not None:
        steps = np.arange(0.0, path.duration + _WORKSPACE_S, _WORKSPACE_S)
        _check_workspace(path.sample(path.times[0] + np.minimum(steps, path.duration))[0], robot)


def unchecked_space(robot: Robot, settings: GateSettings) -> str | None:
    """Return a sentence on why collisions are not looked for, or None where they are."""
    if robot.bodies is None:
        why = f'the robot YAML of {robot.name} has no collision bodies'
    elif not settings.check_collisions:
        why = 'check_collisions is false'
    else:
        return None
    free = (
        'the arms from each other and from themselves'
        if len(robot.arms) > 1
        else 'the arm from itself'
    )
    return f'Nothing keeps {free}: {why}.'


def instants(path: HermiteSpline, world: CollisionWorld) -> Array:
    """Return the instants to look at: both ends and, by the velocity in each piece, in between."""
    durations = np.diff(path.times)
    travel = world.travel(path.bounds.velocities * durations[:, None])
    counts = np.maximum(1, np.ceil(travel / world.margin)).astype(int)
    pieces = [
        begin + duration / count * np.arange(count)
        for begin, duration, count in zip(path.times, durations, counts)
    ]
    return np.concatenate([*pieces, path.times[-1:]])


def _check_workspace(positions: Array, robot: Robot) -> None:
    assert robot.workspace is not None
    low, high = map(np.array, robot.workspace)
    for arm, places in forward_kinematics(robot).end_effector(positions).items():
        outside = np.maximum(low - places, places - high)
        # Who starts outside may come back.
        if (outside.max(axis=1) > max(0.0, float(outside[0].max())) + 1e-6).any():
            axis = 'xyz'[int(np.argmax(outside.max(axis=0)))]
            raise RefusedError(
                reasons.WORKSPACE,
                f'The end effector of the {arm} arm leaves the workspace by '
                f'{outside.max():.3f} m along {axis}.',
            )
