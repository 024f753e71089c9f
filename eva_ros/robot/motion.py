"""Motion of joints over time: differences, splines and minimum-jerk moves.

Positions are in rad (grippers 0 to 1), times in s. Arrays are [T, J]: time first, joints last.
"""

from dataclasses import dataclass
from functools import cached_property

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


def spline_accelerations(q: ArrayLike, v: ArrayLike, dt: float | ArrayLike) -> Array:
    """Return the knot accelerations [T, J] of the cubic spline with positions q, velocities v.

    At inner knots the mean of both sides (equal for a C2 spline); zero at both ends.
    """
    q, v = np.asarray(q, dtype=np.float64), np.asarray(v, dtype=np.float64)
    h = np.broadcast_to(np.asarray(dt, dtype=np.float64), (len(q) - 1,))[:, None]
    slope = np.diff(q, axis=0) / h
    begin = (6.0 * slope - 4.0 * v[:-1] - 2.0 * v[1:]) / h
    end = (-6.0 * slope + 2.0 * v[:-1] + 4.0 * v[1:]) / h
    acceleration = np.zeros_like(q)
    acceleration[1:-1] = 0.5 * (end[:-1] + begin[1:])
    return acceleration


def segment_coefficients(
    duration: Array | np.float64,
    q0: Array,
    q1: Array,
    v: tuple[Array, Array] | None = None,
    a: tuple[Array, Array] | None = None,
) -> Array:
    """Return the polynomial between two points as joint_trajectory_controller builds it.

    Linear from positions only, cubic with velocities, quintic with accelerations too
    (ros2_controllers, joint_trajectory_controller/doc/trajectory.rst).

    Args:
        duration: time between the points in s, any shape that broadcasts with q0.
        q0: position at the first point [..., J]; q1 at the second.
        v: velocities at the first and the second point, or None.
        a: accelerations at the first and the second point, or None; used only with v.

    Returns:
        Coefficients [6, ..., J] of rising powers of the time since the first point.
    """
    T = duration
    c = np.zeros((6, *np.broadcast(q0, q1, T).shape))
    c[0] = q0
    d = q1 - q0
    if v is None:
        c[1] = d / T
        return c
    v0, v1 = v
    c[1] = v0
    if a is None:
        c[2] = (3.0 * d / T - 2.0 * v0 - v1) / T
        c[3] = (-2.0 * d / T + v0 + v1) / T**2
        return c
    a0, a1 = a
    c[2] = 0.5 * a0
    c[3] = (20.0 * d / T - 12.0 * v0 - 8.0 * v1 - (3.0 * a0 - a1) * T) / (2.0 * T**2)
    c[4] = (-30.0 * d / T + 16.0 * v0 + 14.0 * v1 + (3.0 * a0 - 2.0 * a1) * T) / (2.0 * T**3)
    c[5] = (12.0 * d / T - 6.0 * (v0 + v1) - (a0 - a1) * T) / (2.0 * T**4)
    return c


def evaluate(c: Array, t: Array | np.float64) -> tuple[Array, Array, Array]:
    """Return position, velocity and acceleration of polynomials c [6, ...] at time t."""
    q = c[0] + t * (c[1] + t * (c[2] + t * (c[3] + t * (c[4] + t * c[5]))))
    v = c[1] + t * (2.0 * c[2] + t * (3.0 * c[3] + t * (4.0 * c[4] + t * 5.0 * c[5])))
    a = 2.0 * c[2] + t * (6.0 * c[3] + t * (12.0 * c[4] + t * 20.0 * c[5]))
    return q, v, a


@dataclass(frozen=True, eq=False)
class HermiteSpline:
    """A motion through points, between them as joint_trajectory_controller interpolates.

    Attributes:
        times: strictly increasing times of the points in s [K], K at least 2.
        positions: [K, J].
        velocities: [K, J], or None for straight lines.
        accelerations: [K, J], or None for cubics.
    """

    times: Array
    positions: Array
    velocities: Array | None = None
    accelerations: Array | None = None

    @property
    def duration(self) -> float:
        """Return the time between the first and the last point in s."""
        return float(self.times[-1] - self.times[0])

    @cached_property
    def coefficients(self) -> Array:
        """Return the polynomials [6, K-1, J] of rising powers of time since each point."""
        q, v, a = self.positions, self.velocities, self.accelerations
        return segment_coefficients(
            np.diff(self.times)[:, None],
            q[:-1],
            q[1:],
            None if v is None else (v[:-1], v[1:]),
            None if a is None else (a[:-1], a[1:]),
        )

    def sample(self, t: float | ArrayLike) -> tuple[Array, Array, Array]:
        """Return position, velocity and acceleration at a time [J] or at times [N, J].

        Before the first and after the last point it stands still there.
        """
        t = np.asarray(t, dtype=np.float64)
        inside = (t >= self.times[0]) & (t <= self.times[-1])
        clipped = np.clip(t, self.times[0], self.times[-1])
        index = np.clip(
            np.searchsorted(self.times, clipped, side='right') - 1, 0, len(self.times) - 2
        )
        c = self.coefficients[:, index]
        q, v, a = evaluate(c, (clipped - self.times[index])[..., None])
        moving = inside[..., None]
        return q, np.where(moving, v, 0.0), np.where(moving, a, 0.0)

    def stretched(self, factor: float) -> 'HermiteSpline':
        """Return the same path with all times multiplied by a factor."""
        v, a = self.velocities, self.accelerations
        return HermiteSpline(
            times=self.times * factor,
            positions=self.positions,
            velocities=None if v is None else v / factor,
            accelerations=None if a is None else a / factor**2,
        )
