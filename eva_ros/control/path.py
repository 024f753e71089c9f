"""From decoded steps to a smooth path at rest at both ends, within the position limits.

The path is the quintic spline with the least jerk that passes within a tolerance of every step
(exactly through the steps where the limits allow it): what an inverse dynamics model decodes from
single frames jitters by a few hundredths of a rad, and a path through every jitter would need a
multiple of the dream's time.
"""

from functools import cache

import numpy as np
from numpy.typing import NDArray

from eva_ros.robot.limits import Limits
from eva_ros.robot.splines import HermiteSpline
from eva_ros.robot.splines import segment_coefficients
from eva_ros.robot.splines import stretch_needed

Array = NDArray[np.float64]

# Weights of jerk against distance from the steps, in units of the step time; 0 interpolates.
_SMOOTHING = (0.0, 1e-3, 3e-3, 1e-2, 3e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
_EPSILON = 1e-9


def smooth_path(
    start: Array, steps: Array, dt: float, limits: Limits, tolerance: Array, stop_steps: float
) -> HermiteSpline:
    """Return the gentlest path from rest at `start` past the steps to rest at the last one.

    For each joint the least smoothing is taken with which it keeps its velocity, acceleration
    and jerk limits at the dream's pace, or else, within the tolerance, the one that comes
    closest; what is left to do is for the time law.

    Args:
        start: joints now [J].
        steps: positions to pass [n, J], the first due after dt.
        dt: time between two steps in s.
        limits: of these joints.
        tolerance: how far the path may pass from a step [J].
        stop_steps: the last interval lasts so many steps.

    Returns:
        A spline of n + 1 points, the first being `start` at time 0.
    """
    q = np.vstack([start, steps])
    candidates = [_spline(q, dt, stop_steps, index) for index in range(len(_SMOOTHING))]
    deviation = np.array([np.abs(c.positions - q).max(axis=0) for c in candidates])
    stretch = np.array([stretch_needed(c.bounds, limits) for c in candidates])
    stretch[1:][deviation[1:] > tolerance] = np.inf
    enough = stretch <= 1.0
    chosen = np.where(enough.any(axis=0), enough.argmax(axis=0), stretch.argmin(axis=0))
    every = np.arange(q.shape[1])
    return HermiteSpline(
        candidates[0].times,
        np.stack([c.positions for c in candidates])[chosen, :, every].T,
        np.stack([c.velocities for c in candidates])[chosen, :, every].T,
        np.stack([c.accelerations for c in candidates])[chosen, :, every].T,
    )


def keep_inside(path: HermiteSpline, low: Array, high: Array, limits: Limits) -> HermiteSpline:
    """Return the path with its points clamped and no overshoot between them.

    Where a piece would leave the position limits, the joint comes to rest at both of its ends:
    between two points at rest a quintic never leaves their range.

    Args:
        path: from smooth_path.
        low: lowest position of a point [J], within the limits; high likewise.
        limits: what the pieces must keep; the first one may come from a start outside.
    """
    q = np.array(path.positions)
    q[1:] = np.clip(q[1:], low, high)
    v, a = np.array(path.velocities), np.array(path.accelerations)
    for _ in range(len(q)):
        inside = HermiteSpline(path.times, q, v, a)
        leaves = leaving_pieces(inside, limits)
        if not leaves.any():
            break
        ends = np.zeros(q.shape, dtype=bool)
        ends[:-1] |= leaves
        ends[1:] |= leaves
        v, a = np.where(ends, 0.0, v), np.where(ends, 0.0, a)
    return inside


def leaving_pieces(path: HermiteSpline, limits: Limits) -> NDArray[np.bool_]:
    """Return which pieces leave the position limits [K-1, J].

    The first piece may lie between a start outside the limits and the first point.
    """
    low = np.tile(limits.min_position, (len(path.times) - 1, 1))
    high = np.tile(limits.max_position, (len(path.times) - 1, 1))
    low[0] = np.minimum(low[0], path.positions[0])
    high[0] = np.maximum(high[0], path.positions[0])
    bounds = path.bounds
    return (bounds.min_position < low - _EPSILON) | (bounds.max_position > high + _EPSILON)


def _spline(q: Array, dt: float, stop_steps: float, index: int) -> HermiteSpline:
    operator = _fit_operators(len(q), stop_steps)[index]
    fitted = np.tensordot(operator, q, axes=1)
    positions = fitted[:, 0]
    positions[0] = q[0]
    times = _unit_times(len(q), stop_steps) * dt
    return HermiteSpline(times, positions, fitted[:, 1] / dt, fitted[:, 2] / dt**2)


def _unit_times(points: int, stop_steps: float) -> Array:
    times = np.arange(points, dtype=np.float64)
    times[-1] += stop_steps - 1.0
    return times


@cache
def _fit_operators(points: int, stop_steps: float) -> list[Array]:
    """Return, for each smoothing, the linear map from points [K] to the spline's [K, 3].

    The unknowns are position, velocity and acceleration of every knot, at rest at both ends and
    at the first point itself. They minimise the sum of squared distances from the points plus
    the smoothing times the integral of squared jerk, with the step as the unit of time.
    """
    jerk = _jerk_energy(np.diff(_unit_times(points, stop_steps)))
    at_rest = np.zeros(3 * points, dtype=bool)
    at_rest[[0, 1, 2, -2, -1]] = True
    given = np.zeros((3 * points, points))
    given[::3] = np.eye(points)
    operators = []
    for smoothing in _SMOOTHING:
        fixed = at_rest.copy()
        if smoothing == 0.0:
            fixed[::3] = True
        system = jerk * (smoothing or 1.0)
        system[range(0, 3 * points, 3), range(0, 3 * points, 3)] += 1.0 if smoothing else 0.0
        right = given * (1.0 if smoothing else 0.0) - system[:, fixed] @ given[fixed]
        solution = np.where(fixed[:, None], given, 0.0)
        solution[~fixed] = np.linalg.solve(system[np.ix_(~fixed, ~fixed)], right[~fixed])
        operators.append(solution.reshape(points, 3, points))
    return operators


def _jerk_energy(durations: Array) -> Array:
    """Return the matrix of the integral of squared jerk over all knots' (q, v, a) [3K, 3K]."""
    total = np.zeros((3 * len(durations) + 3, 3 * len(durations) + 3))
    unit = np.eye(6)
    for i, T in enumerate(durations):
        c = segment_coefficients(T, unit[0], unit[3], (unit[1], unit[4]), (unit[2], unit[5]))
        jerk = np.array([6.0 * c[3], 24.0 * c[4], 60.0 * c[5]])
        powers = np.add.outer(np.arange(3), np.arange(3)) + 1
        total[3 * i : 3 * i + 6, 3 * i : 3 * i + 6] += jerk.T @ (T**powers / powers) @ jerk
    return total
