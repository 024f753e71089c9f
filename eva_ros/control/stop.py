"""Bring both arms to rest: hold where they stand, or brake on the running path."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.control.path import leaving_pieces
from eva_ros.control.settings import GateSettings
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.control.trajectory import to_command
from eva_ros.robot.limits import Limits
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline

Array = NDArray[np.float64]

# A stop takes one of these times, the shortest that the limits allow, drawn with so many points.
_STOP_TIMES_S = tuple(0.05 * 1.25**i for i in range(20))
_STOP_POINTS = 16


@dataclass(frozen=True, eq=False)
class Stop:
    """A stop of both arms.

    Attributes:
        command: both arms' trajectories, ending at rest.
        path: the motion of all joints from now [K, 14].
    """

    command: dict[str, ArmTrajectory]
    path: HermiteSpline


def hold(robot: Robot, settings: GateSettings, position: ArrayLike) -> Stop:
    """Return a command to stay at a position [14]: the last one sent, or else the joints now.

    It is due after hold_s: the controllers' own last commands differ a little from joints that
    were measured, and come to them without haste. A position outside the limits is held at the
    limit.
    """
    low, high = robot.limits.min_position, robot.limits.max_position
    target = np.clip(np.asarray(position, dtype=np.float64), low, high)
    still = np.zeros((2, len(target)))
    path = HermiteSpline(
        np.array([0.0, settings.hold_s]), np.stack([target, target]), still, still
    )
    return Stop(to_command(robot, path), path)


def brake(robot: Robot, settings: GateSettings, path: HermiteSpline, elapsed_s: float) -> Stop:
    """Return the shortest stop on the running path that keeps the limits.

    The arms stay on the path: only the speed along it falls to zero, for all joints together,
    beginning stop_lead_s from now. Where no stop is shorter than the rest of the path, the rest
    of the path is the stop: it ends at rest as well.

    Args:
        robot: whose limits.
        settings: for stop_lead_s.
        path: what is being executed.
        elapsed_s: time since it began.
    """
    lead_s = settings.stop_lead_s
    left_s = path.duration - elapsed_s - lead_s
    for stop_s in _STOP_TIMES_S:
        if stop_s >= left_s:
            break
        stop = _slowed(path, elapsed_s, lead_s, stop_s)
        if _keeps(stop, robot.limits):
            return Stop(to_command(robot, stop), stop)
    rest = _rest_of(path, elapsed_s, lead_s)
    return Stop(to_command(robot, rest), rest)


def _slowed(path: HermiteSpline, elapsed_s: float, lead_s: float, stop_s: float) -> HermiteSpline:
    """Return the path from now, its pace falling from 1 to 0 over stop_s, smoothly."""
    s = np.linspace(0.0, 1.0, _STOP_POINTS + 1)
    pace = (1.0 - minimum_jerk_fraction(s))[:, None]
    slope = (-30.0 * (s * (1.0 - s)) ** 2 / stop_s)[:, None]
    # The integral of the pace: stop_s / 2 in all.
    done_s = stop_s * (s - s**4 * (2.5 - s * (3.0 - s)))
    begin_s = path.times[0] + elapsed_s
    q, v, a = path.sample(begin_s + lead_s + done_s)
    slowed = np.square(pace) * a + slope * v
    return _from_now(path, elapsed_s, lead_s + s * stop_s, q, pace * v, slowed)


def _rest_of(path: HermiteSpline, elapsed_s: float, lead_s: float) -> HermiteSpline:
    """Return what is left of the path: a point after the lead, then the path's own points."""
    due_s = path.times - path.times[0] - elapsed_s
    due_s = np.concatenate([[lead_s], due_s[due_s > 1.5 * lead_s]])
    return _from_now(path, elapsed_s, due_s, *path.sample(path.times[0] + elapsed_s + due_s))


def _from_now(
    path: HermiteSpline, elapsed_s: float, due_s: Array, q: Array, v: Array, a: Array
) -> HermiteSpline:
    """Return a path that begins with the motion now and ends at rest."""
    q0, v0, a0 = path.sample(path.times[0] + elapsed_s)
    v[-1], a[-1] = 0.0, 0.0
    return HermiteSpline(
        np.concatenate([[0.0], due_s]),
        np.vstack([q0, q]),
        np.vstack([v0, v]),
        np.vstack([a0, a]),
    )


def _keeps(path: HermiteSpline, limits: Limits) -> bool:
    """Return whether a stop keeps position, velocity and the larger of both accelerations."""
    bounds = path.bounds
    allowed = np.maximum(limits.max_acceleration, limits.max_deceleration)
    return bool(
        (bounds.velocity <= limits.max_velocity * (1.0 + 1e-3)).all()
        and (bounds.acceleration <= allowed * (1.0 + 1e-3)).all()
        and not leaving_pieces(path, limits).any()
    )
