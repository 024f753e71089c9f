"""Motion of joints over time: differences, knot velocities and minimum-jerk moves.

Positions are in rad (grippers 0 to 1), times in s. Arrays are [T, J]: time first, joints last.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

Array = NDArray[np.float64]


def differences(q: ArrayLike, dt: float) -> tuple[Array, Array, Array]:
    """Return velocity, acceleration and jerk by finite differences.

    Args:
        q: evenly spaced positions [T, J].
        dt: their spacing in s.

    Returns:
        Arrays [T-1, J], [T-2, J] and [T-3, J] (empty where T is too small).
    """
    q = np.asarray(q, dtype=np.float64)
    velocity = np.diff(q, axis=0) / dt
    acceleration = np.diff(velocity, axis=0) / dt
    return velocity, acceleration, np.diff(acceleration, axis=0) / dt


def minimum_jerk(q0: ArrayLike, q1: ArrayLike, n: int) -> Array:
    """Return n evenly spaced positions [n, J] of the minimum-jerk move from q0 to q1, both in.

    Flash and Hogan (1985): 10 s^3 - 15 s^4 + 6 s^5, at rest at both ends.
    """
    q0, q1 = np.asarray(q0, dtype=np.float64), np.asarray(q1, dtype=np.float64)
    return q0 + minimum_jerk_fraction(np.linspace(0.0, 1.0, n))[:, None] * (q1 - q0)


def minimum_jerk_fraction(s: ArrayLike) -> Array:
    """Return the part of a minimum-jerk move that is done after the part s of its time."""
    s = np.clip(np.asarray(s, dtype=np.float64), 0.0, 1.0)
    return s * s * s * (10.0 + s * (6.0 * s - 15.0))


def spline_velocities(q: ArrayLike, dt: float | ArrayLike) -> Array:
    """Return the knot velocities [T, J] of the C2 cubic spline that is at rest at both ends.

    Args:
        q: positions at the knots [T, J].
        dt: spacing of the knots in s, one value or one for each of the T-1 intervals.
    """
    q = np.asarray(q, dtype=np.float64)
    h = np.broadcast_to(np.asarray(dt, dtype=np.float64), (len(q) - 1,))
    velocity = np.zeros_like(q)
    if len(q) < 3:
        return velocity
    slope = np.diff(q, axis=0) / h[:, None]
    right = 3.0 * (h[1:, None] * slope[:-1] + h[:-1, None] * slope[1:])
    velocity[1:-1] = _solve_tridiagonal(h[1:], 2.0 * (h[:-1] + h[1:]), h[:-1], right)
    return velocity


def _solve_tridiagonal(lower: Array, diagonal: Array, upper: Array, right: Array) -> Array:
    """Solve a tridiagonal system for many right sides [N, J] (Thomas algorithm).

    Row i reads lower[i] x[i-1] + diagonal[i] x[i] + upper[i] x[i+1] = right[i].
    """
    pivot, x = diagonal.astype(np.float64).copy(), right.copy()
    for i in range(1, len(pivot)):
        factor = lower[i] / pivot[i - 1]
        pivot[i] -= factor * upper[i - 1]
        x[i] -= factor * x[i - 1]
    x[-1] /= pivot[-1]
    for i in range(len(pivot) - 2, -1, -1):
        x[i] = (x[i] - upper[i] * x[i + 1]) / pivot[i]
    return x
