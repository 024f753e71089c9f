"""The time law: how fast the arms go along a path, one pace for all joints of both arms.

The dream's time along the path is u, the arms' time t(u). Its derivative, the slowness, is a cubic
B-spline over the knots of the path: 1 is the dream's pace, 2 half of it. So the pace is twice
continuously differentiable, and position, velocity and acceleration of the motion

    q(t) = q(u),   dq/dt = q' / s,   d2q/dt2 = q'' / s^2 - q' s' / s^3

are continuous. The slowness is raised around the pieces that break a limit until none does. A
start in motion is a slowness that begins with 1 and no slope, so that the motion goes on as it
is; a start from rest may be slow from the beginning: the uniform stretch is its special case.
"""

import numpy as np
from numpy.typing import NDArray

from eva_ros.control.path import leaving_pieces
from eva_ros.robot.limits import Limits
from eva_ros.robot.limits import ROUNDING
from eva_ros.robot.splines import HermiteSpline
from eva_ros.robot.splines import stretch_of_pieces

Array = NDArray[np.float64]

_ROUNDS = 12
# What a piece needs is asked of so many knots on either side of it.
_WIDTHS = (0, 1)
# A last bit that is missing is given to the whole motion.
_REST = 1.02


def keep_limits(path: HermiteSpline, limits: Limits, *, moving: bool) -> HermiteSpline | None:
    """Return the motion along a path that keeps velocity, acceleration and jerk limits.

    Args:
        path: at the dream's pace; within the position limits, at rest at its end.
        limits: of the joints.
        moving: the path begins in motion, with which the result goes on.

    Returns:
        The shortest motion found, never longer than the uniform stretch of a path from rest;
        None where a path that begins in motion has no law.
    """
    needed = stretch_of_pieces(path.bounds, limits).max(axis=1)
    if needed.max() <= 1.0 + ROUNDING:
        return path
    found = [] if moving else [path.stretched(needed.max() * (1.0 + ROUNDING))]
    for width in _WIDTHS:
        motion = _slowed_where_needed(path, limits, needed, width, moving=moving)
        if motion is not None:
            found.append(motion)
    return min(found, key=lambda motion: motion.duration, default=None)


def _slowed_where_needed(
    path: HermiteSpline, limits: Limits, needed: Array, width: int, *, moving: bool
) -> HermiteSpline | None:
    slowness = np.ones(len(path.times))
    for _ in range(_ROUNDS):
        slowness *= _of_knots(np.maximum(needed, 1.0), width)
        motion = with_slowness(path, slowness, moving=moving)
        needed = stretch_of_pieces(motion.bounds, limits).max(axis=1)
        rest = needed.max()
        if rest <= (1.0 + ROUNDING if moving else _REST):
            if not moving and rest > 1.0:
                motion = motion.stretched(rest * (1.0 + ROUNDING))
            return None if leaving_pieces(motion, limits).any() else motion
    return None


def _of_knots(pieces: Array, width: int) -> Array:
    """Return the largest value of the pieces beside each knot, `width` more on either side."""
    reach = width + 1
    padded = np.pad(pieces, reach, mode='edge')
    return np.lib.stride_tricks.sliding_window_view(padded, 2 * reach).max(axis=1)


def with_slowness(path: HermiteSpline, slowness: Array, *, moving: bool) -> HermiteSpline:
    """Return the motion along a path with a slowness.

    Args:
        path: in the dream's time, K points.
        slowness: control values of the B-spline at the knots [K], above 0.
        moving: begin with slowness 1 and no slope, whatever the first two values are.
    """
    c = np.concatenate([slowness[:1], slowness, slowness[-1:]])
    if moving:
        c[:3] = 1.0
    at_knots = ((c[:-2] + 4.0 * c[1:-1] + c[2:]) / 6.0)[:, None]
    over_pieces = (c[:-3] + 11.0 * c[1:-2] + 11.0 * c[2:-1] + c[3:]) / 24.0
    lasting = np.diff(path.times)
    around = np.concatenate([lasting[:1], (lasting[:-1] + lasting[1:]) / 2.0, lasting[-1:]])
    slope = ((c[2:] - c[:-2]) / 2.0 / around)[:, None]
    pace = 1.0 / at_knots
    return HermiteSpline(
        path.times[0] + np.concatenate([[0.0], np.cumsum(lasting * over_pieces)]),
        path.positions,
        path.velocities * pace,
        path.accelerations * pace**2 - path.velocities * slope * pace**3,
    )
