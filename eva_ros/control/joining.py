"""Join new steps to a motion that is under way, or stop first where they cannot be joined."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.control.chunk_checks import check_start
from eva_ros.control.path import Start
from eva_ros.control.running_motion import Motion
from eva_ros.control.settings import GateSettings
from eva_ros.control.stop import brake
from eva_ros.control.stop import committed
from eva_ros.robot.limits import Limits
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.motion import minimum_jerk_time
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline

Array = NDArray[np.float64]

# A step this close to the switch is taken for past: a shorter interval would only be a jerk.
_SHORTEST_FIRST = 0.5
_SHORTEST_S = 1e-3


# The chunk is joined where it comes nearest to the arms, looked at in parts of a step. What is
# nearer by less than this is the decoder's noise.
_PARTS = 4
_NEARER_RAD = 0.005


@dataclass(frozen=True, eq=False)
class Beginning:
    """Where new steps begin.

    Attributes:
        before: what happens until then, from now on; None if the arms are at rest.
        start: state of the arms at the switch.
        lead_s: the switch comes so long after now.
        running: the motion under way, from the switch on; None where the arms rest at the switch.
    """

    before: HermiteSpline | None
    start: Start
    lead_s: float
    running: HermiteSpline | None = None


@dataclass(frozen=True, eq=False)
class ToCome:
    """Steps of a chunk that are to come at the switch.

    Attributes:
        first: where the dream is at the switch [J].
        steps: the steps to come [n, J], perhaps none.
        due: after how many steps' time the first of them is due.
    """

    first: Array
    steps: Array
    due: float


def in_motion(running: Motion, now_ns: int, robot: Robot, settings: GateSettings) -> Beginning:
    """Return a beginning on the running path, switch_lead_s from now."""
    lead_s = settings.switch_lead_s
    period_s, max_jerk = settings.control_period_s, robot.limits.max_jerk
    elapsed_s = running.elapsed_s(now_ns)
    before = committed(running.path, elapsed_s, lead_s, period_s, max_jerk)
    state = Start(before.positions[-1], before.velocities[-1], before.accelerations[-1])
    path = running.path
    ahead = HermiteSpline(
        path.times - path.times[0] - elapsed_s - lead_s,
        path.positions,
        path.velocities,
        path.accelerations,
    )
    return Beginning(before, state, lead_s, ahead)


def after_a_stop(running: Motion, now_ns: int, robot: Robot, settings: GateSettings) -> Beginning:
    """Return a beginning at rest: the arms stop on the running path, from the switch on.

    Until then nothing changes, as where steps are joined: checking them takes a while too.
    """
    path, lead_s = running.path, settings.switch_lead_s
    elapsed_s = running.elapsed_s(now_ns)
    before = committed(
        path, elapsed_s, lead_s, settings.control_period_s, robot.limits.max_jerk
    ).then(brake(robot, settings, path, elapsed_s + lead_s).path)
    return Beginning(before, Start.at_rest(before.positions[-1]), before.duration)


def steps_to_come(
    positions: Array, dt: float, age_s: float, beginning: Beginning, robot: Robot
) -> ToCome:
    """Drop the steps that are past at the switch, and those that the arms are beyond.

    A model that does not know how fast the arms move dreams them as if they started from rest,
    and so behind where they are: by no more than the time since the observation.

    Args:
        positions: decoded steps [T, J]; step 0 is the observed instant.
        dt: time between two steps in s.
        age_s: time since the observation.
        beginning: the switch.
        robot: for its grippers, which do not count.
    """
    elapsed = max(0.0, (age_s + beginning.lead_s) / dt)
    places = elapsed * np.linspace(1.0, 2.0, 1 + int(np.ceil(elapsed * _PARTS)))
    dreamed = _between(positions, places)
    away = np.abs(dreamed - beginning.start.position)[:, ~robot.gripper_mask].max(axis=1)
    nearest = int(np.flatnonzero(away <= away.min() + _NEARER_RAD)[0])
    at = places[nearest]
    first = int(np.floor(at + _SHORTEST_FIRST)) + 1
    return ToCome(dreamed[nearest], positions[first:], first - at)


def _between(positions: Array, places: Array) -> Array:
    """Return steps [T, J] between each other, at places [N] in steps; the last one beyond it."""
    places = np.minimum(places, len(positions) - 1)
    index = places.astype(int)
    part = (places - index)[:, None]
    following = np.minimum(index + 1, len(positions) - 1)
    return positions[index] + part * (positions[following] - positions[index])


def cross_fade(
    to_come: ToCome,
    dt: float,
    beginning: Beginning,
    limits: Limits,
    robot: Robot,
    settings: GateSettings,
) -> Array:
    """Return the steps to come [n, J], begun on the motion under way.

    Over start_blend_steps the arms go over from that motion to the dreamed one. Grippers are not
    blended for longer than their limits ask for: a hand that closes later than the arm was
    dreamed to lift loses what it holds.

    Raises:
        RefusedError: the dream is farther from the arms than max_start_blend.
    """
    check_start(to_come.first - beginning.start.position, robot, settings)
    assert beginning.running is not None
    times_s = (to_come.due + np.arange(len(to_come.steps))) * dt
    difference = beginning.running.sample(times_s)[0] - to_come.steps
    soonest_s = minimum_jerk_time(np.abs(difference).max(axis=0), limits)
    fade_s = np.where(robot.gripper_mask, soonest_s, settings.start_blend_steps * dt)
    left = 1.0 - minimum_jerk_fraction(times_s[:, None] / np.maximum(fade_s, _SHORTEST_S))
    return to_come.steps + left * difference
