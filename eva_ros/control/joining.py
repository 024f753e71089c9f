"""Join new steps to a motion that is under way, or stop first where they cannot be joined."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.control.path import Start
from eva_ros.control.running_motion import Motion
from eva_ros.control.settings import GateSettings
from eva_ros.control.stop import brake
from eva_ros.control.stop import committed
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline

Array = NDArray[np.float64]

# A step this close to the switch is taken for past: a shorter interval would only be a jerk.
_SHORTEST_FIRST = 0.5


@dataclass(frozen=True, eq=False)
class Beginning:
    """Where new steps begin.

    Attributes:
        before: what happens until then, from now on; None if the arms are at rest.
        start: state of the arms at the switch.
        lead_s: the switch comes so long after now.
    """

    before: HermiteSpline | None
    start: Start
    lead_s: float


def in_motion(running: Motion, now_ns: int, robot: Robot, settings: GateSettings) -> Beginning:
    """Return a beginning on the running path, switch_lead_s from now."""
    lead_s = settings.switch_lead_s
    period_s, max_jerk = settings.control_period_s, robot.limits.max_jerk
    before = committed(running.path, running.elapsed_s(now_ns), lead_s, period_s, max_jerk)
    state = Start(before.positions[-1], before.velocities[-1], before.accelerations[-1])
    return Beginning(before, state, lead_s)


def after_a_stop(running: Motion, now_ns: int, robot: Robot, settings: GateSettings) -> Beginning:
    """Return a beginning at rest, where the arms stop on the running path."""
    before = brake(robot, settings, running.path, running.elapsed_s(now_ns)).path
    return Beginning(before, Start.at_rest(before.positions[-1]), before.duration)


def steps_to_come(
    positions: Array, dt: float, age_s: float, lead_s: float
) -> tuple[Array, Array, float]:
    """Drop the steps that are past at the switch.

    Args:
        positions: decoded steps [T, J]; step 0 is the observed instant.
        dt: time between two steps in s.
        age_s: time since the observation.
        lead_s: time until the switch.

    Returns:
        Where the dream is at the switch [J], the steps to come [n, J] (perhaps none), and after
        how many steps' time the first of them is due.
    """
    at = max(0.0, (age_s + lead_s) / dt)
    last = len(positions) - 1
    index = min(int(at), last)
    following = min(index + 1, last)
    part = min(at - index, 1.0)
    now = positions[index] + part * (positions[following] - positions[index])
    first = int(np.floor(at + _SHORTEST_FIRST)) + 1
    return now, positions[first:], first - at
