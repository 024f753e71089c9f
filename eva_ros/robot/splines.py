"""Splines as joint_trajectory_controller draws them, with bounds that hold between the points.

Positions are in rad (grippers 0 to 1), times in s. Arrays are [T, J]: time first, joints last.
"""

from dataclasses import dataclass
from functools import cache
from functools import cached_property
from math import comb

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.robot.limits import Limits

Array = NDArray[np.float64]


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
    """A quintic motion through points, as joint_trajectory_controller draws it.

    Attributes:
        times: strictly increasing times of the points in s [K], K at least 2.
        positions: [K, J].
        velocities: [K, J].
        accelerations: [K, J].
    """

    times: Array
    positions: Array
    velocities: Array
    accelerations: Array

    @property
    def duration(self) -> float:
        """Return the time between the first and the last point in s."""
        return float(self.times[-1] - self.times[0])

    @cached_property
    def coefficients(self) -> Array:
        """Return the polynomials [6, K-1, J] of rising powers of time since each point."""
        q, v, a = self.positions, self.velocities, self.accelerations
        T = np.diff(self.times)[:, None]
        return segment_coefficients(T, q[:-1], q[1:], (v[:-1], v[1:]), (a[:-1], a[1:]))

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
        return HermiteSpline(
            times=self.times * factor,
            positions=self.positions,
            velocities=self.velocities / factor,
            accelerations=self.accelerations / factor**2,
        )

    @cached_property
    def bounds(self) -> 'MotionBounds':
        """Return what the motion never exceeds, between the points too."""
        T = np.diff(self.times)[:, None]
        powers = T ** np.arange(6)[:, None, None]
        position = _control_points(self.coefficients * powers)
        velocity = _control_points(_derivative(self.coefficients) * powers[:5])
        acceleration = _control_points(_derivative(self.coefficients, 2) * powers[:4])
        jerk = _control_points(_derivative(self.coefficients, 3) * powers[:3])
        return MotionBounds(
            min_position=position.min(axis=0),
            max_position=position.max(axis=0),
            velocities=np.abs(velocity).max(axis=0),
            accelerations=np.abs(acceleration).max(axis=0),
            jerks=np.abs(jerk).max(axis=0),
        )

    def then(self, later: 'HermiteSpline') -> 'HermiteSpline':
        """Return this motion, and from its last point on another that begins where it ends."""
        return HermiteSpline(
            np.concatenate([self.times, self.times[-1] + later.times[1:] - later.times[0]]),
            np.vstack([self.positions, later.positions[1:]]),
            np.vstack([self.velocities, later.velocities[1:]]),
            np.vstack([self.accelerations, later.accelerations[1:]]),
        )


@dataclass(frozen=True, eq=False)
class MotionBounds:
    """Bounds of a motion that hold at every instant, not only at samples.

    Attributes:
        min_position: lowest position in each piece [K-1, J]; max_position the highest.
        velocities: largest magnitude in each piece [K-1, J]; likewise accelerations and jerks.
    """

    min_position: Array
    max_position: Array
    velocities: Array
    accelerations: Array
    jerks: Array

    @property
    def velocity(self) -> Array:
        """Return the largest velocity of the whole motion [J]."""
        return self.velocities.max(axis=0)

    @property
    def acceleration(self) -> Array:
        """Return the largest acceleration of the whole motion [J]."""
        return self.accelerations.max(axis=0)

    @property
    def jerk(self) -> Array:
        """Return the largest jerk of the whole motion [J]."""
        return self.jerks.max(axis=0)


# Each piece is bounded in so many parts; the bounds come within about a percent of the extremes.
_PARTS = 8


@cache
def _to_control_points(degree: int) -> Array:
    """Return the matrix from powers on [0, 1] to the Bernstein coefficients of its parts.

    A polynomial lies within the range of its Bernstein coefficients (the convex hull property),
    so their extremes bound it without solving for the roots of its derivative.
    """
    n, h = degree, 1.0 / _PARTS
    bernstein = np.array(
        [[comb(i, k) / comb(n, k) if k <= i else 0.0 for k in range(n + 1)] for i in range(n + 1)]
    )
    parts = []
    for s in np.arange(_PARTS) * h:
        shift = [[comb(j, k) * s ** max(j - k, 0) * h**k for j in range(n + 1)]
                 for k in range(n + 1)]  # fmt: skip
        parts.append(bernstein @ np.array(shift))
    return np.concatenate(parts)


def _control_points(c: Array) -> Array:
    """Return Bernstein coefficients [N, ...] of polynomials c [n+1, ...] on [0, 1].

    Not through BLAS: its threads would share what is too small for it, at twice the time.
    """
    return np.einsum('bp,p...->b...', _to_control_points(len(c) - 1), c)


def _derivative(c: Array, order: int = 1) -> Array:
    """Return the coefficients of a derivative of polynomials c [n+1, ...]."""
    for _ in range(order):
        c = c[1:] * np.arange(1, len(c)).reshape(-1, *[1] * (c.ndim - 1))
    return c


def stretch_needed(bounds: MotionBounds, limits: Limits) -> Array:
    """Return by how much each joint's motion must be stretched in time to keep its limits [J].

    A stretch by s divides velocity by s, acceleration by s^2 and jerk by s^3. Values below 1
    mean that the joint could go faster.
    """
    return stretch_of_pieces(bounds, limits).max(axis=0)


def stretch_of_pieces(bounds: MotionBounds, limits: Limits) -> Array:
    """Return by how much each piece must be stretched to keep each joint's limits [K-1, J]."""
    acceleration = np.minimum(limits.max_acceleration, limits.max_deceleration)
    needed = np.maximum(
        bounds.velocities / limits.max_velocity, np.sqrt(bounds.accelerations / acceleration)
    )
    return np.maximum(needed, np.cbrt(bounds.jerks / limits.max_jerk))
