"""Motion of joints over time: differences and minimum-jerk moves.

Positions are in rad (grippers 0 to 1), times in s. Arrays are [T, J]: time first, joints last.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.robot.limits import Limits

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


def minimum_jerk_time(distance: ArrayLike, limits: Limits) -> Array:
    """Return how long minimum-jerk moves over distances [J] take within the limits, in s [J]."""
    d = np.asarray(distance, dtype=np.float64)
    # The largest velocity, acceleration and jerk of 10 s^3 - 15 s^4 + 6 s^5.
    by_velocity = 15.0 / 8.0 * d / limits.max_velocity
    lowest = np.minimum(limits.max_acceleration, limits.max_deceleration)
    by_acceleration = np.sqrt(10.0 / np.sqrt(3.0) * d / lowest)
    by_jerk = np.cbrt(60.0 * d / limits.max_jerk)
    return np.maximum(np.maximum(by_velocity, by_acceleration), by_jerk)
