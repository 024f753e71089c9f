"""The command gate: may this chunk move the arms, and what exactly is sent?

Pure functions in a fixed order, each of which says what it did or refuses: joints by name, finite
values, freshness, position clamp, start, path, time law. A refusal leaves both arms without a
command.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.checks import begin_of
from eva_ros.control.checks import blend
from eva_ros.control.checks import check_confidence
from eva_ros.control.checks import check_observation
from eva_ros.control.checks import clamp
from eva_ros.control.checks import clamp_range
from eva_ros.control.checks import Findings
from eva_ros.control.checks import known_joints
from eva_ros.control.checks import per_joint
from eva_ros.control.chunk import Chunk
from eva_ros.control.chunk import in_robot_order
from eva_ros.control.path import keep_inside
from eva_ros.control.path import leaving_pieces
from eva_ros.control.path import smooth_path
from eva_ros.control.reasons import RefusedError
from eva_ros.control.settings import GateSettings
from eva_ros.control.settings import load_gate_settings
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.control.trajectory import to_command
from eva_ros.robot.limits import Limits
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline
from eva_ros.robot.splines import stretch_needed
from eva_ros.robot.splines import stretch_to_limits
from eva_ros.robot.violations import count_violations

__all__ = [
    'ArmTrajectory',
    'Chunk',
    'GateSettings',
    'Verdict',
    'check_chunk',
    'load_gate_settings',
]

Array = NDArray[np.float64]

# The bounds of a spline that was stretched exactly to its limits may exceed them by rounding.
_ROUNDING = 1e-6


@dataclass(frozen=True, eq=False)
class Verdict:
    """What the gate says about a chunk.

    Attributes:
        accepted: whether the command may be sent.
        reason: OK, or the name of a reason in eva_msgs/ChunkReport.
        detail: a sentence for the person at the robot.
        clamped: for each joint that was clamped, how far its farthest step lay outside.
        clamped_steps: and how many of its steps did.
        stretch: duration of the motion over that of its steps at the dream's pace; nan where
            refused before this was known.
        command: both arms' trajectories, or empty if refused.
        path: the motion of all joints [K, 14] from where they are now; None if refused.
        observation_age_s: age of the observation; nan if unknown, likewise the next two.
        joint_state_age_s: age of the measured joints.
        start_deviation_rad: the farthest an arm joint has moved since the observation.
        limit_violations_before: pairs of step and joint that break a limit as decoded.
        limit_violations_after: likewise as sent.
        execute_steps: steps of the chunk that are executed; 0 if refused.
        duration_s: how long the motion takes; 0 if refused.
    """

    accepted: bool
    reason: str
    detail: str
    clamped: dict[str, float]
    clamped_steps: dict[str, int]
    stretch: float
    command: dict[str, ArmTrajectory]
    path: HermiteSpline | None
    observation_age_s: float
    joint_state_age_s: float
    start_deviation_rad: float
    limit_violations_before: int
    limit_violations_after: int
    execute_steps: int
    duration_s: float


def check_chunk(
    chunk: Chunk,
    measured: ArrayLike | None,
    robot: Robot,
    settings: GateSettings,
    now_ns: int,
    *,
    measured_stamp_ns: int | None = None,
    commanded: ArrayLike | None = None,
) -> Verdict:
    """Decide whether a chunk may move the arms, and build what is sent.

    Both arms must be at rest: the motion begins at rest where they are.

    Args:
        chunk: as received.
        measured: joints now [14], or None if unknown.
        robot: whose joints and limits.
        settings: what may pass.
        now_ns: time now.
        measured_stamp_ns: when `measured` was; None if its age does not matter.
        commanded: where the last command ended [14], or None: the controllers begin a new
            trajectory at their own last command.
    """
    findings = Findings()
    try:
        path, steps = _plan(
            chunk, measured, robot, settings, now_ns, measured_stamp_ns, commanded, findings
        )
    except RefusedError as refusal:
        return Verdict(
            accepted=False,
            reason=refusal.reason,
            detail=refusal.detail,
            command={},
            path=None,
            limit_violations_after=0,
            execute_steps=0,
            duration_s=0.0,
            **vars(findings),
        )
    sampled = path.sample(np.arange(0.0, path.duration + chunk.dt, chunk.dt))[0][1:]
    return Verdict(
        accepted=True,
        reason=reasons.OK,
        detail=f'{steps} steps in {path.duration:.2f} s.',
        command=to_command(robot, path),
        path=path,
        limit_violations_after=count_violations(sampled, chunk.dt, robot.limits),
        execute_steps=steps,
        duration_s=path.duration,
        **vars(findings),
    )


def _plan(
    chunk: Chunk,
    measured: ArrayLike | None,
    robot: Robot,
    settings: GateSettings,
    now_ns: int,
    measured_stamp_ns: int | None,
    commanded: ArrayLike | None,
    findings: Findings,
) -> tuple[HermiteSpline, int]:
    """Return the motion and the number of steps in it, or raise RefusedError."""
    positions, observed = in_robot_order(chunk, robot.joint_names)
    findings.limit_violations_before = count_violations(positions, chunk.dt, robot.limits)
    check_confidence(chunk.confidence, settings)
    now = known_joints(measured, measured_stamp_ns, now_ns, robot, settings, findings)
    check_observation(chunk, observed, now, robot, settings, now_ns, findings)
    low, high = clamp_range(robot, settings)
    clamped = clamp(positions, low, high, robot, findings)
    start = begin_of(now, commanded, robot, settings)
    steps = blend(clamped, start, robot, settings)[: settings.execute_steps]
    limits = robot.limits.scaled(
        velocity=settings.velocity_scaling_factor,
        acceleration=settings.acceleration_scaling_factor,
    )
    tolerance = per_joint(robot, settings.path_tolerance, settings.path_tolerance_gripper)
    path = smooth_path(start, steps, chunk.dt, limits, tolerance, settings.stop_steps)
    path = keep_inside(path, low, high, limits)
    path = _stretched(path, limits, robot, settings, findings)
    _check_path(path, robot.limits)
    return path, len(steps)


def _stretched(
    path: HermiteSpline, limits: Limits, robot: Robot, settings: GateSettings, findings: Findings
) -> HermiteSpline:
    """Return the path slowed down as a whole until it keeps the limits."""
    factor = stretch_to_limits(path, limits)
    if factor > 1.0:
        factor *= 1.0 + _ROUNDING
    findings.stretch = factor
    if not factor <= settings.max_time_stretch:
        worst = robot.joint_names[int(np.argmax(stretch_needed(path.bounds, limits)))]
        raise RefusedError(
            reasons.STRETCH_EXCEEDED,
            f'The chunk is {factor:.2f} times too fast, worst for {worst}; '
            f'max_time_stretch is {settings.max_time_stretch:g}.',
        )
    return path.stretched(factor)


def _check_path(path: HermiteSpline, limits: Limits) -> None:
    """Refuse a motion that is not what the steps before promise: the last look at it."""
    moves = np.stack([path.positions, path.velocities, path.accelerations])
    at_rest = not moves[1:, [0, -1]].any()
    ordered = bool((np.diff(path.times) > 0.0).all())
    if not (np.isfinite(moves).all() and np.isfinite(path.times).all() and at_rest and ordered):
        raise RefusedError(reasons.LIMIT_VIOLATION, 'The planned motion is not well formed.')
    too_fast = stretch_needed(path.bounds, limits) > 1.0 + _ROUNDING
    if too_fast.any() or leaving_pieces(path, limits).any():
        raise RefusedError(reasons.LIMIT_VIOLATION, 'The planned motion breaks a limit.')
