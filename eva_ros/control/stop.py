"""Bring both arms to rest: hold where they stand, or brake on the running path."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.control.path import leaving_pieces
from eva_ros.control.running_motion import Order
from eva_ros.control.settings import GateSettings
from eva_ros.control.trajectory import to_command
from eva_ros.robot.limits import Limits
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline
from eva_ros.robot.splines import stretch_needed

Array = NDArray[np.float64]

# A stop takes one of these times, the shortest that the limits allow, drawn with so many points.
_STOP_TIMES_S = tuple(0.05 * 1.25**i for i in range(20))
_STOP_POINTS = 16
# What is left of a path may be less than a control period: it takes one of these, in periods.
_LAST_PERIODS = (1.0, 1.5, 2.0, 3.0, 5.0, 8.0)
_FIRST_PERIODS = (1.0, 1.5, 2.0, 2.5, 3.0, 4.0)
_SLACK = 1e-3
_SHORTEST_S = 1e-3
# A stop goes on so long as a point at rest: a message that comes late by less is not refused as
# one that ends in the past, and the arms come back to where they were to stop without haste.
_STAY_S = 1.0


def standing(position: Array, seconds: float) -> HermiteSpline:
    """Return the motion of arms that stay at a position [J] for so long."""
    still = np.zeros((2, len(position)))
    return HermiteSpline(np.array([0.0, seconds]), np.stack([position] * 2), still, still)


def hold(robot: Robot, settings: GateSettings, position: ArrayLike) -> Order | None:
    """Return a command to stay at a position [J]: the last one sent, or else the joints now.

    It is due after hold_s: the controllers' own last commands differ a little from joints that
    were measured, and come to them without haste. No position outside the limits is sent. A joint
    that rests a little outside is held at its limit, where the way there keeps the limits; with
    one that rests farther outside there is no hold (None): arms at rest stay with their
    controllers, and to stop is no reason to move.
    """
    low, high = robot.limits.min_position, robot.limits.max_position
    position = np.asarray(position, dtype=np.float64)
    target = np.clip(position, low, high)
    still = np.zeros((2, len(target)))
    way = HermiteSpline(
        np.array([0.0, settings.hold_s]), np.stack([position, target]), still, still
    )
    if not (stretch_needed(way.bounds, robot.limits) <= 1.0).all():
        return None
    path = standing(target, settings.hold_s)
    return Order(to_command(robot, path), path)


def brake(
    robot: Robot,
    settings: GateSettings,
    path: HermiteSpline,
    elapsed_s: float,
    *,
    urgent: bool = False,
) -> Order:
    """Return the shortest stop on the running path that keeps the limits.

    The arms stay on the path: only the speed along it falls to zero, for all joints together,
    beginning one control period from now. Where no stop is shorter than the rest of the path, the
    rest of the path is the stop: it ends at rest as well.

    Args:
        robot: whose limits.
        settings: for control_period_s and estop_deceleration.
        path: what is being executed.
        elapsed_s: time since it began.
        urgent: an e-stop: estop_deceleration times max_deceleration, and any jerk.
    """
    elapsed_s = max(0.0, elapsed_s)
    limits = stop_limits(robot.limits, settings, urgent=urgent)
    lead_s = first_point(path, elapsed_s, settings.control_period_s, limits.max_jerk)
    left_s = path.duration - elapsed_s - lead_s
    for stop_s in _STOP_TIMES_S:
        if stop_s >= left_s:
            break
        stop = _slowed(path, elapsed_s, lead_s, stop_s)
        if _keeps(stop, limits, path):
            return _that_stays(robot, stop)
    for periods in _LAST_PERIODS:
        rest = _rest_of(path, elapsed_s, settings.control_period_s, periods, limits.max_jerk)
        if _keeps(rest, limits, path):
            return _that_stays(robot, rest)
    same = _the_same(path, elapsed_s)
    return _that_stays(robot, rest if same is None else same)


def side_by_side(robot: Robot, paths: Mapping[str, HermiteSpline]) -> Order:
    """Return one stop of both arms, where each is to stop on a path of its own.

    Args:
        robot: whose arms.
        paths: by arm, of all joints, from now to rest; those of the other arm are left out.
    """
    due_s = np.unique(np.concatenate([path.times - path.times[0] for path in paths.values()]))
    # Two points at nearly the same time would be a jerk, by rounding alone.
    end_s, due_s = due_s[-1], due_s[np.append(True, np.diff(due_s) > _SHORTEST_S)]
    due_s[-1] = end_s
    states = np.zeros((3, len(due_s), len(robot.joint_names)))
    for arm, path in paths.items():
        part = robot.arm_indices(arm)
        states[:, :, part] = np.stack(path.sample(path.times[0] + due_s))[:, :, part]
    states[1:, -1] = 0.0
    return _that_stays(robot, HermiteSpline(due_s, *states))


def _that_stays(robot: Robot, stop: HermiteSpline) -> Order:
    stays = stop.then(standing(stop.positions[-1], _STAY_S))
    return Order(to_command(robot, stays), stop, goes_on=True)


def stop_limits(limits: Limits, settings: GateSettings, *, urgent: bool) -> Limits:
    """Return what a stop keeps: the larger of both accelerations, and jerk unless it is urgent."""
    slowing = np.maximum(limits.max_acceleration, limits.max_deceleration)
    if urgent:
        slowing = np.maximum(slowing, limits.max_deceleration * settings.estop_deceleration)
    jerk = np.full_like(limits.max_jerk, np.inf) if urgent else limits.max_jerk
    return replace(limits, max_acceleration=slowing, max_deceleration=slowing, max_jerk=jerk)


def _slowed(path: HermiteSpline, elapsed_s: float, lead_s: float, stop_s: float) -> HermiteSpline:
    """Return the path from now, its pace falling from 1 to 0 over stop_s, smoothly."""
    s = np.linspace(0.0, 1.0, _STOP_POINTS + 1)
    pace = (1.0 - minimum_jerk_fraction(s))[:, None]
    slope = (-30.0 * (s * (1.0 - s)) ** 2 / stop_s)[:, None]
    # The integral of the pace: stop_s / 2 in all.
    done_s = stop_s * (s - s**4 * (2.5 - s * (3.0 - s)))
    begin_s = path.times[0] + elapsed_s
    q, v, a = path.sample(begin_s + lead_s + done_s)
    slowed = np.square(pace) * a + slope * v
    velocities = pace * v
    velocities[-1], slowed[-1] = 0.0, 0.0
    stopping = HermiteSpline(s * stop_s, q, velocities, slowed)
    due_s = np.array([0.0, lead_s])
    before = HermiteSpline(due_s, *path.sample(path.times[0] + elapsed_s + due_s))
    return before.then(stopping)


def committed(
    path: HermiteSpline, elapsed_s: float, until_s: float, period_s: float, max_jerk: Array
) -> HermiteSpline:
    """Return what is going to happen anyway: the running path from now on, as points of its own.

    A controller that forgets the path at receipt does the same with these points as one that
    keeps it. None is due within the next control period, when they may not have arrived.

    Args:
        path: what is being executed.
        elapsed_s: time since it began.
        until_s: the last point, after now.
        period_s: the control period.
        max_jerk: of the joints [J].
    """
    due_s = path.times - path.times[0] - elapsed_s
    first = first_point(path, elapsed_s, period_s, max_jerk)
    firsts = [first] if first < until_s - 0.5 * period_s else []
    inner = due_s[(due_s > first + 0.5 * period_s) & (due_s < until_s - 0.5 * period_s)]
    due_s = np.concatenate([[0.0], firsts, inner, [until_s]])
    q, v, a = path.sample(path.times[0] + elapsed_s + due_s)
    return HermiteSpline(due_s, q, v, a)


def first_point(path: HermiteSpline, elapsed_s: float, period_s: float, max_jerk: Array) -> float:
    """Return how long from now the first point of a message on the running path is due.

    About a control period. Where a point of the path itself is due sooner, the polynomial to the
    first point differs from the path a little: then the first of a few times is taken with which
    it keeps the jerk limit [J] all the same.
    """
    due_s = path.times - path.times[0] - elapsed_s
    soon = due_s[(due_s > 0.5 * period_s) & (due_s <= 1.5 * period_s)]
    candidates = [*soon[:1], *(periods * period_s for periods in _FIRST_PERIODS)]
    excess = []
    for first in candidates:
        state = path.sample(path.times[0] + elapsed_s + np.array([0.0, first]))
        piece = HermiteSpline(np.array([0.0, first]), *state)
        excess.append(float((piece.bounds.jerk / max_jerk).max()))
        if excess[-1] <= 1.0 + _SLACK:
            return first
    return candidates[int(np.argmin(excess))]


def _rest_of(
    path: HermiteSpline, elapsed_s: float, period_s: float, periods: float, max_jerk: Array
) -> HermiteSpline:
    """Return what is left of the path, at rest at its end, `periods` long at least."""
    left_s = max(path.duration - elapsed_s, period_s * periods)
    rest = committed(path, elapsed_s, left_s, period_s, max_jerk)
    rest.velocities[-1], rest.accelerations[-1] = 0.0, 0.0
    return rest


def _the_same(path: HermiteSpline, elapsed_s: float) -> HermiteSpline | None:
    """Return what is left of the path, point by point: it keeps what the path does; None if over.

    Its first points may be past when it arrives, which changes nothing: they lie on the path that
    the arms are on.
    """
    due_s = path.times - path.times[0] - elapsed_s
    due_s = np.append(0.0, due_s[due_s > _SHORTEST_S])
    if len(due_s) < 2:
        return None
    rest = HermiteSpline(due_s, *path.sample(path.times[0] + elapsed_s + due_s))
    rest.velocities[-1], rest.accelerations[-1] = 0.0, 0.0
    return rest


def _keeps(stop: HermiteSpline, limits: Limits, path: HermiteSpline) -> bool:
    """Return whether a stop keeps the limits, or at least what the path itself needs."""
    bounds, already = stop.bounds, path.bounds
    pairs = (
        (bounds.velocity, np.maximum(limits.max_velocity, already.velocity)),
        (bounds.acceleration, limits.max_acceleration),
        (bounds.jerk, np.maximum(limits.max_jerk, already.jerk)),
    )
    kept = all((value <= allowed * (1.0 + _SLACK)).all() for value, allowed in pairs)
    # On a way back into the limits it may stop outside: the path itself has been there.
    limits = replace(
        limits,
        min_position=np.minimum(limits.min_position, path.positions.min(axis=0)),
        max_position=np.maximum(limits.max_position, path.positions.max(axis=0)),
    )
    return kept and not leaving_pieces(stop, limits).any()
