"""What a chunk must pass before a path is planned: freshness, limits and where it starts.

Each function returns what goes on, notes what it found, and raises RefusedError where a chunk
must not move the arms.
"""

from dataclasses import dataclass
from dataclasses import field

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

from eva_ros.control import reasons
from eva_ros.control.chunk import Chunk
from eva_ros.control.reasons import RefusedError
from eva_ros.control.settings import GateSettings
from eva_ros.robot.motion import minimum_jerk_fraction
from eva_ros.robot.spec import Robot

Array = NDArray[np.float64]


@dataclass
class Findings:
    """What is known about a chunk so far; becomes the verdict."""

    clamped: dict[str, float] = field(default_factory=dict)
    clamped_steps: dict[str, int] = field(default_factory=dict)
    stretch: float = float('nan')
    observation_age_s: float = float('nan')
    joint_state_age_s: float = float('nan')
    start_deviation_rad: float = float('nan')
    limit_violations_before: int = 0
    collision_pair: tuple[str, ...] = ()


def check_executability(executability: float, settings: GateSettings) -> None:
    """Refuse if the chunk's executability is low, or was not judged (nan)."""
    if settings.min_executability > 0.0 and not executability >= settings.min_executability:
        raise RefusedError(
            reasons.LOW_EXECUTABILITY,
            f'The executability of this chunk is {executability:.2f}; '
            f'min_executability is {settings.min_executability:g}.',
        )


def check_confidence(confidence: float, settings: GateSettings) -> None:
    """Refuse if the decoder is not sure enough, or does not say (nan)."""
    if settings.min_confidence > 0.0 and not confidence >= settings.min_confidence:
        raise RefusedError(
            reasons.LOW_CONFIDENCE,
            f'The decoder is {confidence:.2f} sure of this chunk; '
            f'min_confidence is {settings.min_confidence:g}.',
        )


def known_joints(
    measured: ArrayLike | None,
    stamp_ns: int | None,
    now_ns: int,
    robot: Robot,
    settings: GateSettings,
    findings: Findings,
) -> Array:
    """Return the joints now, or refuse if they are unknown, old or from the future."""
    joints = len(robot.joint_names)
    if measured is None or np.shape(measured) != (joints,):
        raise RefusedError(reasons.NO_JOINT_STATE, 'Not every joint is measured.')
    now = np.asarray(measured, dtype=np.float64)
    if not np.isfinite(now).all():
        bad = robot.joint_names[int(np.argmin(np.isfinite(now)))]
        raise RefusedError(reasons.NO_JOINT_STATE, f'The measured position of {bad} is no number.')
    if stamp_ns is not None:
        age_s = findings.joint_state_age_s = (now_ns - stamp_ns) * 1e-9
        _check_age(
            age_s, settings.max_joint_state_age_s, reasons.STALE_JOINT_STATE, 'joints', settings
        )
    return now


def check_observation(
    chunk: Chunk,
    observed: Array,
    now: Array,
    robot: Robot,
    settings: GateSettings,
    now_ns: int,
    findings: Findings,
    *,
    moving: bool,
) -> None:
    """Refuse if the observation is old or, of arms at rest, the joints have moved since."""
    age_s = findings.observation_age_s = (now_ns - chunk.observation_stamp_ns) * 1e-9
    limit_s = settings.max_observation_age_s
    _check_age(age_s, limit_s, reasons.STALE_OBSERVATION, 'observation', settings)
    moved = np.abs(now - observed)
    findings.start_deviation_rad = float(moved[~robot.gripper_mask].max())
    if moving:
        return
    allowed = per_joint(
        robot, settings.allowed_start_tolerance, settings.allowed_start_tolerance_gripper
    )
    _refuse_beyond(
        moved, allowed, robot, reasons.START_DEVIATION,
        'has moved by {value:.3f} since the observation; allowed_start_tolerance is {bound:g}',
    )  # fmt: skip


def _check_age(
    age_s: float, max_age_s: float, reason: str, what: str, settings: GateSettings
) -> None:
    if age_s < -settings.max_clock_skew_s:
        raise RefusedError(
            reasons.STAMP_IN_FUTURE,
            f'The stamp of the {what} lies {-age_s:.2f} s ahead: synchronise the clocks.',
        )
    if age_s > max_age_s:
        raise RefusedError(reason, f'The {what} used is {age_s:.2f} s old, over {max_age_s:g} s.')


def clamp_range(robot: Robot, settings: GateSettings) -> tuple[Array, Array]:
    """Return the range of a sent point [J]: the limits less a margin, at most to a tenth."""
    low, high = robot.limits.min_position, robot.limits.max_position
    margin = per_joint(robot, settings.joint_limit_margin, 0.0)
    margin = np.minimum(margin, 0.45 * (high - low))
    return low + margin, high - margin


def clamp(positions: Array, low: Array, high: Array, robot: Robot, findings: Findings) -> Array:
    """Clamp the steps [T, J] to a range and note what that changed."""
    clamped = np.clip(positions, low, high)
    outside = np.abs(positions - clamped)
    for j in np.flatnonzero(outside.max(axis=0) > 0.0):
        findings.clamped[robot.joint_names[j]] = float(outside[:, j].max())
        findings.clamped_steps[robot.joint_names[j]] = int((outside[:, j] > 0.0).sum())
    return clamped


def begin_of(
    now: Array, commanded: ArrayLike | None, robot: Robot, settings: GateSettings
) -> Array:
    """Return where the controllers begin: at their last command if the arms are there."""
    if commanded is None:
        return now
    begin = np.asarray(commanded, dtype=np.float64)
    if begin.shape != now.shape or not np.isfinite(begin).all():
        return now
    _refuse_beyond(
        np.abs(now - begin), tracking_error(robot, settings), robot, reasons.START_DEVIATION,
        'is {value:.3f} from where it was sent; max_tracking_error is {bound:g}',
    )  # fmt: skip
    return begin


def tracking_error(robot: Robot, settings: GateSettings) -> Array:
    """Return how far each joint may lie from where it was sent [J].

    A gripper that holds something stays wider than it was sent: only the robot's YAML bounds it.
    """
    allowed = per_joint(robot, settings.max_tracking_error, np.inf)
    for name, value in robot.max_tracking_error.items():
        allowed[robot.joint_names.index(name)] = value
    return allowed


def blend(first: Array, steps: Array, start: Array, robot: Robot, settings: GateSettings) -> Array:
    """Return the steps to come [n, J], begun at `start`.

    The difference between the decoded place at the start and the joints is subtracted from the
    steps and faded out.

    Args:
        first: where the dream is at the start [J].
        steps: decoded, to come [n, J].
        start: where the joints are then [J].
        robot: for its grippers.
        settings: for max_start_blend and start_blend_steps.
    """
    difference = first - start
    check_start(difference, robot, settings)
    fraction = np.arange(1, len(steps) + 1) / settings.start_blend_steps
    left = 1.0 - minimum_jerk_fraction(fraction)[:, None]
    return steps - left * difference


def check_start(difference: Array, robot: Robot, settings: GateSettings) -> None:
    """Refuse if the decoded place at the start is too far from the joints [J]."""
    allowed = per_joint(robot, settings.max_start_blend, settings.max_start_blend_gripper)
    _refuse_beyond(
        np.abs(difference), allowed, robot, reasons.START_BLEND_EXCEEDED,
        'is {value:.3f} from the first decoded step; max_start_blend is {bound:g}',
    )  # fmt: skip


def per_joint(robot: Robot, arm_value: float, gripper_value: float) -> Array:
    """Return a setting for each joint [J]."""
    return np.where(robot.gripper_mask, gripper_value, arm_value)


def _refuse_beyond(value: Array, allowed: Array, robot: Robot, reason: str, sentence: str) -> None:
    """Refuse if a joint's value is beyond what is allowed; names the worst joint."""
    if (value <= allowed).all():
        return
    j = int(np.argmax(value / allowed))
    text = sentence.format(value=value[j], bound=allowed[j])
    raise RefusedError(reason, f'Joint {robot.joint_names[j]} {text}.')
