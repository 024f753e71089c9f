"""The command gate: may this chunk move the arms, and what exactly is sent?

Pure functions in a fixed order, each of which says what it did or refuses: joints by name, finite
values, freshness, position clamp, start, path, time law, collisions. A refusal leaves both arms
without a command.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.chunk import Chunk
from eva_ros.control.chunk import in_robot_order
from eva_ros.control.chunk_checks import begin_of
from eva_ros.control.chunk_checks import blend
from eva_ros.control.chunk_checks import check_confidence
from eva_ros.control.chunk_checks import check_executability
from eva_ros.control.chunk_checks import check_observation
from eva_ros.control.chunk_checks import clamp
from eva_ros.control.chunk_checks import clamp_range
from eva_ros.control.chunk_checks import Findings
from eva_ros.control.chunk_checks import known_joints
from eva_ros.control.chunk_checks import per_joint
from eva_ros.control.collision_checks import check_space
from eva_ros.control.joining import after_a_stop
from eva_ros.control.joining import Beginning
from eva_ros.control.joining import cross_fade
from eva_ros.control.joining import in_motion
from eva_ros.control.joining import steps_to_come
from eva_ros.control.joining import ToCome
from eva_ros.control.path import keep_inside
from eva_ros.control.path import smooth_path
from eva_ros.control.path import Start
from eva_ros.control.reasons import RefusedError
from eva_ros.control.running_motion import Motion
from eva_ros.control.settings import GateSettings
from eva_ros.control.time_scaling import keep_limits
from eva_ros.control.trajectory import check_command
from eva_ros.control.trajectory import to_command
from eva_ros.control.verdict import check_before
from eva_ros.control.verdict import check_motion
from eva_ros.control.verdict import refused
from eva_ros.control.verdict import Verdict
from eva_ros.robot.limits import Limits
from eva_ros.robot.limits import ROUNDING
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline
from eva_ros.robot.splines import stretch_needed
from eva_ros.robot.violations import count_violations

Array = NDArray[np.float64]

# The move to the home pose takes at least so long, and is sent as points so far apart.
_HOME_S = 1.0
_HOME_POINT_S = 0.1


@dataclass(frozen=True, eq=False)
class _Planned:
    """The new part of a motion, what comes before it, and the number of chunk steps in it."""

    path: HermiteSpline
    before: HermiteSpline | None
    steps: int


# What cannot be computed is refused at the last look: no warning is needed on the way.
@np.errstate(over='ignore', divide='ignore', invalid='ignore')
def check_chunk(
    chunk: Chunk,
    measured: ArrayLike | None,
    robot: Robot,
    settings: GateSettings,
    now_ns: int,
    *,
    measured_stamp_ns: int | None = None,
    commanded: ArrayLike | None = None,
    running: Motion | None = None,
) -> Verdict:
    """Decide whether a chunk may move the arms, and build what is sent.

    Args:
        chunk: as received.
        measured: joints now [J], or None if unknown.
        robot: whose joints and limits.
        settings: what may pass.
        now_ns: time now.
        measured_stamp_ns: when `measured` was; None if its age does not matter.
        commanded: where the last command ended [J], or None: the controllers begin a new
            trajectory at their own last command. For arms at rest.
        running: Motion under way; None if both arms are at rest. Accepted in mode overlap only.

    Raises:
        UserError: The robot's YAML lacks limits, a controller or a home pose.
    """
    robot.require('gate')
    findings = Findings()
    try:
        positions, observed = in_robot_order(chunk, robot.joint_names)
        findings.limit_violations_before = count_violations(positions, chunk.dt, robot.limits)
        check_confidence(chunk.confidence, settings)
        check_executability(chunk.executability, settings)
        now = known_joints(measured, measured_stamp_ns, now_ns, robot, settings, findings)
        moving = running is not None and not running.is_over(now_ns)
        if moving and settings.mode != 'overlap':
            raise RefusedError(reasons.BUSY, 'The arms are moving.')
        check_observation(chunk, observed, now, robot, settings, now_ns, findings, moving=moving)
        low, high = clamp_range(robot, settings)
        clamped = clamp(positions, low, high, robot, findings)
        if moving:
            assert running is not None
            motion = _joined(chunk, clamped, now, running, now_ns, robot, settings, findings)
        else:
            start = Start.at_rest(begin_of(now, commanded, robot, settings))
            beginning = Beginning(None, start, 0.0)
            motion = _motion(chunk, clamped, beginning, robot, settings, findings)
        path = motion.path if motion.before is None else motion.before.then(motion.path)
        command = to_command(robot, path)
        check_command(command, robot)
    except RefusedError as refusal:
        findings.collision_pair = refusal.pair
        return refused(refusal, findings)
    sampled = motion.path.sample(np.arange(0.0, motion.path.duration + chunk.dt, chunk.dt))[0][1:]
    return Verdict(
        accepted=True,
        reason=reasons.OK,
        detail=f'{motion.steps} steps in {path.duration:.2f} s.',
        command=command,
        path=path,
        limit_violations_after=count_violations(sampled, chunk.dt, robot.limits),
        execute_steps=motion.steps,
        duration_s=path.duration,
        **vars(findings),
    )


def prepare(robot: Robot, settings: GateSettings) -> None:
    """Check a chunk that stands still at the home pose, so that the first real one is not late.

    The first chunk builds the collision world and starts the threads of linear algebra: 0.04 s,
    and a third of a second on a busy machine. What the verdict is does not matter.
    """
    steps = np.tile(robot.home, (settings.execute_steps + 1, 1))
    still = Chunk(0, 0, robot.joint_names, _HOME_POINT_S, steps, robot.home, '', 1.0, 10.0)
    check_chunk(still, robot.home, robot, settings, 0)


def plan_home(
    measured: ArrayLike | None,
    robot: Robot,
    settings: GateSettings,
    now_ns: int,
    *,
    measured_stamp_ns: int | None = None,
    commanded: ArrayLike | None = None,
) -> Verdict:
    """Return the minimum-jerk move of both arms from rest to the robot's home pose.

    Args and refusals are those of check_chunk.
    """
    robot.require('gate')
    findings = Findings()
    try:
        now = known_joints(measured, measured_stamp_ns, now_ns, robot, settings, findings)
        begin = begin_of(now, commanded, robot, settings)
        low, high = clamp_range(robot, settings)
        still = np.zeros((2, len(begin)))
        ends = np.stack([begin, np.clip(robot.home, low, high)])
        path = HermiteSpline(np.array([0.0, _HOME_S]), ends, still, still)
        limits = _scaled(robot.limits, settings)
        slower = float(stretch_needed(path.bounds, limits).max()) * (1.0 + ROUNDING)
        path = path.stretched(max(1.0, slower))
        check_motion(path, robot.limits, moving=False)
        check_space(path, robot, settings)
        findings.stretch = 1.0
        times = np.linspace(0.0, path.duration, 2 + int(path.duration / _HOME_POINT_S))
        q, v, a = path.sample(times)
        v[-1], a[-1] = 0.0, 0.0
        path = HermiteSpline(times, q, v, a)
        command = to_command(robot, path)
        check_command(command, robot)
    except RefusedError as refusal:
        findings.collision_pair = refusal.pair
        return refused(refusal, findings)
    return Verdict(
        accepted=True,
        reason=reasons.OK,
        detail=f'Home in {path.duration:.2f} s.',
        command=command,
        path=path,
        limit_violations_after=0,
        execute_steps=0,
        duration_s=path.duration,
        **vars(findings),
    )


def _joined(
    chunk: Chunk,
    positions: Array,
    now: Array,
    running: Motion,
    now_ns: int,
    robot: Robot,
    settings: GateSettings,
    findings: Findings,
) -> _Planned:
    """Return the chunk joined to the running motion, or begun anew after a stop on it."""
    begin_of(now, running.place(now_ns), robot, settings)
    try:
        beginning = in_motion(running, now_ns, robot, settings)
        return _motion_after(beginning, chunk, positions, robot, settings, findings)
    except RefusedError as refusal:
        if refusal.reason not in (reasons.STRETCH_EXCEEDED, reasons.LIMIT_VIOLATION):
            raise
    beginning = after_a_stop(running, now_ns, robot, settings)
    return _motion_after(beginning, chunk, positions, robot, settings, findings)


def _motion_after(
    beginning: Beginning,
    chunk: Chunk,
    positions: Array,
    robot: Robot,
    settings: GateSettings,
    findings: Findings,
) -> _Planned:
    """Return a motion that goes on with one under way; what comes first is looked at as well."""
    assert beginning.before is not None
    check_before(beginning.before, robot.limits, settings)
    return _motion(chunk, positions, beginning, robot, settings, findings)


def _motion(
    chunk: Chunk,
    positions: Array,
    beginning: Beginning,
    robot: Robot,
    settings: GateSettings,
    findings: Findings,
) -> _Planned:
    """Return the motion past the chunk's steps from a beginning, or raise RefusedError."""
    to_come = ToCome(positions[0], positions[1:], 1.0)
    if beginning.before is not None:
        to_come = steps_to_come(positions, chunk.dt, findings.observation_age_s, beginning, robot)
        if not len(to_come.steps):
            raise RefusedError(reasons.STALE_OBSERVATION, 'Every step of the chunk is past.')
    start, limits = beginning.start, _scaled(robot.limits, settings)
    if beginning.running is None:
        steps = blend(to_come.first, to_come.steps, start.position, robot, settings)
    else:
        steps = cross_fade(to_come, chunk.dt, beginning, limits, robot, settings)
    # The step after those that are executed is where the stop leads to.
    steps = steps[: settings.execute_steps + 1]
    tolerance = per_joint(robot, settings.path_tolerance, settings.path_tolerance_gripper)
    path = smooth_path(start, steps, chunk.dt, limits, tolerance, settings.stop_steps, to_come.due)
    path = keep_inside(path, *clamp_range(robot, settings), limits, moving=start.is_moving)
    motion = _in_time(path, limits, robot, settings, findings, moving=start.is_moving)
    check_motion(motion, robot.limits, moving=start.is_moving)
    check_space(motion, robot, settings)
    count = min(len(steps), settings.execute_steps)
    return _Planned(motion, beginning.before, count)


def _in_time(
    path: HermiteSpline,
    limits: Limits,
    robot: Robot,
    settings: GateSettings,
    findings: Findings,
    *,
    moving: bool,
) -> HermiteSpline:
    """Return the path with the time law that keeps the limits."""
    motion = keep_limits(path, limits, moving=moving)
    needed = stretch_needed(path.bounds, limits)
    worst = robot.joint_names[int(np.argmax(needed))]
    findings.stretch = float(needed.max()) if motion is None else motion.duration / path.duration
    if motion is None:
        raise RefusedError(
            reasons.STRETCH_EXCEEDED,
            f'The chunk cannot be joined to the motion under way, worst for {worst}.',
        )
    if not findings.stretch <= settings.max_time_stretch:
        raise RefusedError(
            reasons.STRETCH_EXCEEDED,
            f'The chunk is {findings.stretch:.2f} times too fast, worst for {worst}; '
            f'max_time_stretch is {settings.max_time_stretch:g}.',
        )
    return motion


def _scaled(limits: Limits, settings: GateSettings) -> Limits:
    return limits.scaled(
        velocity=settings.velocity_scaling_factor,
        acceleration=settings.acceleration_scaling_factor,
    )
