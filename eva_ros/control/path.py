"""From decoded steps to a smooth path at rest at both ends, within the position limits.

The path is the quintic spline with the least jerk that passes within a tolerance of every step
(exactly through the steps where the limits allow it): what an inverse dynamics model decodes from
single frames jitters by a few hundredths of a rad, and a path through every jitter would need a
multiple of the dream's time.
"""

from dataclasses import dataclass
from functools import lru_cache

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


@dataclass(frozen=True, eq=False)
class Start:
    """Where a path begins, and how the arms move there: position, velocity, acceleration [J]."""

    position: Array
    velocity: Array
    acceleration: Array

    @classmethod
    def at_rest(cls, position: Array) -> 'Start':
        """Return a start of arms that stand still."""
        still = np.zeros_like(position)
        return cls(position, still, still)

    @property
    def is_moving(self) -> bool:
        """Return whether anything moves."""
        return bool(self.velocity.any() or self.acceleration.any())


def smooth_path(
    start: Start,
    steps: Array,
    dt: float,
    limits: Limits,
    tolerance: Array,
    stop_steps: float,
    first: float = 1.0,
) -> HermiteSpline:
    """Return the gentlest path from `start` past the steps to rest at the last one.

    For each joint the least smoothing is taken with which it keeps its velocity, acceleration
    and jerk limits at the dream's pace, or else, within the tolerance, the one that comes
    closest; what is left to do is for the time law.

    Args:
        start: joints now [J], at rest or moving.
        steps: positions to pass [n, J], the first due after `first` steps.
        dt: time between two steps in s.
        limits: of these joints.
        tolerance: how far the path may pass from a step [J].
        stop_steps: the last interval lasts so many steps.
        first: the first interval lasts so many steps.

    Returns:
        A spline of n + 1 points, the first being `start` at time 0.
    """
    points = len(steps) + 1
    times = _unit_times(points, stop_steps, first) * dt
    given = np.vstack([start.position, steps, start.velocity * dt, start.acceleration * dt**2])
    operators = _fit_operators(points, stop_steps, first)
    in_seconds = np.array([1.0, 1.0 / dt, 1.0 / dt**2])[:, None]
    # Not through BLAS: its threads would share what is too small for it, at twice the time.
    fitted = np.einsum('kcg,gj->kcj', operators[0], given) * in_seconds
    stretch = stretch_needed(_spline(times, fitted).bounds, limits)
    rough = np.flatnonzero(stretch > 1.0)
    if len(rough):
        smoother = np.einsum('skcg,gj->skcj', operators[1:], given[:, rough]) * in_seconds
        every = smoother.transpose(1, 2, 0, 3).reshape(points, 3, -1)
        repeated = limits.select(np.tile(rough, len(smoother)))
        needed = stretch_needed(_spline(times, every).bounds, repeated).reshape(-1, len(rough))
        away = np.abs(smoother[:, :, 0] - given[:points, rough]).max(axis=1)
        needed[away > tolerance[rough]] = np.inf
        enough = needed <= 1.0
        chosen = np.where(enough.any(axis=0), enough.argmax(axis=0), needed.argmin(axis=0))
        better = needed.min(axis=0) < stretch[rough]
        gentlest = smoother[chosen, :, :, np.arange(len(rough))].transpose(1, 2, 0)
        fitted[:, :, rough[better]] = gentlest[:, :, better]
    fitted[0] = start.position, start.velocity, start.acceleration
    fitted[-1, 1:] = 0.0
    return _spline(times, fitted)


def keep_inside(
    path: HermiteSpline, low: Array, high: Array, limits: Limits, *, moving: bool = False
) -> HermiteSpline:
    """Return the path with its points clamped and no overshoot between them.

    Where a piece would leave the position limits, the joint comes to rest at both of its ends:
    between two points at rest a quintic never leaves their range.

    Args:
        path: from smooth_path.
        low: lowest position of a point [J], within the limits; high likewise.
        limits: what the pieces must keep; the first one may come from a start outside.
        moving: the path begins in motion, which must not change: its first piece may be left as
            it is, for the last look at the path to refuse.
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
        ends[0] &= not moving
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


def _spline(times: Array, fitted: Array) -> HermiteSpline:
    """Return the spline through points [K, 3, J] of position, velocity and acceleration."""
    return HermiteSpline(times, fitted[:, 0], fitted[:, 1], fitted[:, 2])


def _unit_times(points: int, stop_steps: float, first: float) -> Array:
    times = np.arange(points, dtype=np.float64)
    times[1:] += first - 1.0
    times[-1] += stop_steps - 1.0
    return times


@lru_cache(maxsize=256)
def _fit_operators(points: int, stop_steps: float, first: float) -> Array:
    """Return, for each smoothing, the linear map from what is given to the spline [S, K, 3, K+2].

    Given are the points [K] and velocity and acceleration of the first one. The unknowns are
    position, velocity and acceleration of every knot, at rest at the end and as given at the
    beginning. They minimise the sum of squared distances from the points plus the smoothing
    times the integral of squared jerk, with the step as the unit of time.
    """
    jerk = _jerk_energy(np.diff(_unit_times(points, stop_steps, first)))
    known = np.zeros(3 * points, dtype=bool)
    known[[0, 1, 2, -2, -1]] = True
    given = np.zeros((3 * points, points + 2))
    given[::3, :points] = np.eye(points)
    given[1, points] = given[2, points + 1] = 1.0
    operators = []
    for smoothing in _SMOOTHING:
        fixed = known.copy()
        if smoothing == 0.0:
            fixed[::3] = True
        system = jerk * (smoothing or 1.0)
        system[range(0, 3 * points, 3), range(0, 3 * points, 3)] += 1.0 if smoothing else 0.0
        right = given * (1.0 if smoothing else 0.0) - system[:, fixed] @ given[fixed]
        solution = np.where(fixed[:, None], given, 0.0)
        solution[~fixed] = np.linalg.solve(system[np.ix_(~fixed, ~fixed)], right[~fixed])
        operators.append(solution.reshape(points, 3, points + 2))
    return np.array(operators)


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
