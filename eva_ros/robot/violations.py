"""Count where a joint path breaks the robot's limits."""

import numpy as np
from numpy.typing import ArrayLike

from eva_ros.robot.limits import Limits
from eva_ros.robot.limits import ROUNDING
from eva_ros.robot.motion import differences


def count_violations(q: ArrayLike, dt: float, limits: Limits) -> int:
    """Return the number of pairs of step and joint that break a limit.

    A pair counts once, whether its position, velocity, acceleration or jerk is too large; the
    derivatives are finite differences and count at the step where they end.

    Args:
        q: evenly spaced positions [T, J], rad (grippers 0 to 1).
        dt: their spacing in s.
        limits: of these J joints; an infinite limit cannot be broken.
    """
    q = np.asarray(q, dtype=np.float64)
    broken = (q < limits.min_position - ROUNDING) | (q > limits.max_position + ROUNDING)
    allowed = (limits.max_velocity, limits.max_acceleration, limits.max_jerk)
    with np.errstate(over='ignore', invalid='ignore'):
        rates = differences(q, dt)
    for rate, bound in zip(rates, allowed):
        broken[len(q) - len(rate) :] |= ~(np.abs(rate) <= bound * (1.0 + ROUNDING))
    return int(broken.sum())
