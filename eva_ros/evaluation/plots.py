"""The joints of an attempt as plots for the report page."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from eva_ros.evaluation.run import Attempted
from eva_ros.pages import Axes
from eva_ros.pages import padded
from eva_ros.robot.spec import Robot

_WIDTH, _HEIGHT = 112, 86
# A joint that hardly moves is not blown up to fill its panel; rad, and for grippers 0 to 1.
_LEAST_SPAN = 0.3


@dataclass(frozen=True)
class Panel:
    """One joint of an attempt.

    Attributes:
        label: Name of the joint and its unit.
        axes: Area of the plot.
        moving_s: Begin and end of each time in which the arms followed a chunk.
        limits: Lowest and highest position allowed; infinite where there is no limit.
        reached: Lowest and highest position measured.
        range: Area of the bar that shows the whole range; None without limits.
        curves: Kind (decoded, sent, executed) and SVG points of each curve.
    """

    label: str
    axes: Axes
    moving_s: list[tuple[float, float]]
    limits: tuple[float, float]
    reached: tuple[float, float]
    range: Axes | None
    curves: list[tuple[str, str]]


def joint_panels(attempt: Attempted, robot: Robot) -> list[list[Panel]]:
    """Return one panel a joint, an arm a row: decoded, sent and executed, with the limits."""
    joints = np.arange(len(robot.joint_names))
    return [
        [_panel(attempt, robot, joint) for joint in joints[robot.arm_indices(arm)]]
        for arm in robot.arms
    ]


def _panel(attempt: Attempted, robot: Robot, joint: int) -> Panel:
    limits = float(robot.limits.min_position[joint]), float(robot.limits.max_position[joint])
    measured = attempt.joints[:, joint]
    turns = [turn for turn in attempt.turns if turn.started_ns is not None]
    values = np.concatenate([measured, *(turn.positions[:, joint] for turn in turns)])
    duration_s = max(attempt.elapsed_s, 1e-3)
    axes = Axes(_WIDTH, _HEIGHT, duration_s, *_span(values, *limits))
    moving_s, curves = [], []
    for turn in turns:
        begin_s = ((turn.started_ns or 0) - attempt.start_ns) * 1e-9
        moving_s.append((begin_s, begin_s + float(turn.command_times_s[-1:].sum())))
        sent_s = begin_s + turn.command_times_s
        curves.append(('decoded', axes.points(attempt.decoded_s(turn), turn.positions[:, joint])))
        curves.append(('sent', axes.points(sent_s, turn.command[:, joint])))
    measured_s = (attempt.stamps_ns - attempt.start_ns) * 1e-9
    curves.append(('executed', axes.points(measured_s, measured)))
    return Panel(
        label=_label(robot, joint),
        axes=axes,
        moving_s=moving_s,
        limits=limits,
        reached=(float(measured.min()), float(measured.max())),
        range=Axes(0, _HEIGHT, duration_s, *limits) if np.isfinite(limits).all() else None,
        curves=curves,
    )


def _label(robot: Robot, joint: int) -> str:
    name = robot.joint_names[joint].replace('_', ' ')
    return name + (' (0 to 1)' if robot.gripper_mask[joint] else ' (rad)')


def _span(values: NDArray, lowest: float, highest: float) -> tuple[float, float]:
    """Return the range to show: what was reached, and a limit that lies close to it."""
    low, high = padded(values, _LEAST_SPAN, 1.12)
    half = (high - low) / 2
    if low - half < lowest:
        low = min(low, lowest - 0.1 * half)
    if high + half > highest:
        high = max(high, highest + 0.1 * half)
    return low, high
