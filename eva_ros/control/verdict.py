"""What the gate says about a chunk, and its last look at the motion before it is sent."""

from dataclasses import dataclass
from dataclasses import replace

import numpy as np

from eva_ros.control import reasons
from eva_ros.control.chunk_checks import Findings
from eva_ros.control.path import leaving_pieces
from eva_ros.control.reasons import RefusedError
from eva_ros.control.running_motion import Order
from eva_ros.control.settings import GateSettings
from eva_ros.control.stop import standing
from eva_ros.control.stop import stop_limits
from eva_ros.control.trajectory import ArmTrajectory
from eva_ros.control.trajectory import check_command
from eva_ros.control.trajectory import to_command
from eva_ros.robot.limits import Limits
from eva_ros.robot.limits import ROUNDING
from eva_ros.robot.spec import Robot
from eva_ros.robot.splines import HermiteSpline
from eva_ros.robot.splines import stretch_needed

# What comes before may exceed what it keeps by so much: it repeats what the path before it did.
_STOP_SLACK = 1e-2


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
        path: the motion of all joints [K, J] from where they are now; None if refused.
        observation_age_s: age of the observation; nan if unknown, likewise the next two.
        joint_state_age_s: age of the measured joints.
        start_deviation_rad: the farthest an arm joint has moved since the observation.
        collision_pair: the two bodies that would touch, where that is the reason.
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
    collision_pair: tuple[str, ...] = ()

    @property
    def order(self) -> Order | None:
        """Return what to publish to both arms; None if refused."""
        if not self.accepted or self.path is None:
            return None
        return Order(self.command, self.path)


def refused(refusal: RefusedError, findings: Findings) -> Verdict:
    """Return the verdict on a chunk that must not move the arms."""
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


def check_motion(path: HermiteSpline, limits: Limits, *, moving: bool) -> None:
    """Refuse a motion that is not what the steps before promise: the last look at it.

    Args:
        path: what is to be executed, to rest at its end.
        limits: of the robot, not scaled.
        moving: whether it begins in motion.
    """
    moves = np.stack([path.positions, path.velocities, path.accelerations])
    at_rest = not moves[1:, -1 if moving else [0, -1]].any()
    ordered = bool((np.diff(path.times) > 0.0).all())
    if not (np.isfinite(moves).all() and np.isfinite(path.times).all() and at_rest and ordered):
        raise RefusedError(reasons.LIMIT_VIOLATION, 'The planned motion is not well formed.')
    too_fast = stretch_needed(path.bounds, limits) > 1.0 + ROUNDING
    if too_fast.any() or leaving_pieces(path, limits).any():
        raise RefusedError(reasons.LIMIT_VIOLATION, 'The planned motion breaks a limit.')


def check_before(path: HermiteSpline, limits: Limits, settings: GateSettings) -> None:
    """Refuse what comes before the steps of a chunk, from receipt on: the rest of a motion.

    Or a stop on it: it keeps the limits of one.
    """
    too_fast = stretch_needed(path.bounds, stop_limits(limits, settings, urgent=False))
    if not (too_fast <= 1.0 + _STOP_SLACK).all() or leaving_pieces(path, limits).any():
        raise RefusedError(reasons.LIMIT_VIOLATION, 'The motion before the chunk breaks a limit.')


def begun_at_rest(verdict: Verdict, robot: Robot, settings: GateSettings) -> Verdict:
    """Let an accepted motion begin with one control period of rest.

    A controller that receives its message later within this period still starts together with the
    other one, and as planned: without it there would be less time to reach the first point.

    Args:
        verdict: Verdict on a motion for arms at rest; a refusal is returned as it is.
        robot: Robot that is driven.
        settings: Settings of the gate, for the control period.

    Returns:
        The verdict on the longer motion; refused if its messages are not fit to be sent.
    """
    if not verdict.accepted or verdict.path is None:
        return verdict
    start, limits = verdict.path.positions[0], robot.limits
    if ((start < limits.min_position) | (start > limits.max_position)).any():
        # No point outside the limits is sent, not even to stay there: the chunk brings them back.
        return verdict
    path = standing(start, settings.control_period_s).then(verdict.path)
    command = to_command(robot, path)
    try:
        check_command(command, robot)
    except RefusedError as refusal:
        return replace(
            verdict, accepted=False, reason=refusal.reason, detail=refusal.detail, command={},
            path=None, limit_violations_after=0, execute_steps=0, duration_s=0.0,
        )  # fmt: skip
    return replace(verdict, command=command, path=path, duration_s=path.duration)
