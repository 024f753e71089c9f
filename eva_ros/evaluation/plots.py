"""Plots as SVG text, drawn for the report page: joint curves, and where the time went."""

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from eva_ros.evaluation.run import Attempted
from eva_ros.evaluation.run import STAGES
from eva_ros.evaluation.run import Turn
from eva_ros.robot.spec import Robot

# One panel: plot area, then a gutter that shows the joint's whole range.
_WIDTH, _HEIGHT = 168, 128
_LEFT, _TOP, _PLOT_W, _PLOT_H = 30, 20, 112, 86
_RANGE_X = 152
# A joint that hardly moves is not blown up to fill its panel; rad, and for grippers 0 to 1.
_LEAST_SPAN = 0.3


def joint_panels(attempt: Attempted, robot: Robot) -> str:
    """Return one panel a joint, an arm a row: decoded, sent and executed, with the limits."""
    rows, widest = [], max(len(arm.joint_names) for arm in robot.arms.values())
    for row, arm in enumerate(robot.arms):
        indices = range(*robot.arm_indices(arm).indices(len(robot.joint_names)))
        for column, joint in enumerate(indices):
            panel = _panel(attempt, robot, joint)
            rows.append(f'<g transform="translate({column * _WIDTH} {row * _HEIGHT})">{panel}</g>')
    size = f'viewBox="0 0 {widest * _WIDTH} {len(robot.arms) * _HEIGHT}"'
    return f'<svg class="joints" {size} role="img">{"".join(rows)}</svg>'


def _panel(attempt: Attempted, robot: Robot, joint: int) -> str:
    limits = robot.limits
    lowest, highest = float(limits.min_position[joint]), float(limits.max_position[joint])
    seconds = (attempt.stamps_ns - attempt.start_ns) * 1e-9
    followed = [turn for turn in attempt.turns if turn.started_ns is not None]
    values = [attempt.joints[:, joint], *(turn.positions[:, joint] for turn in followed)]
    low, high = _span(np.concatenate(values), lowest, highest)
    axes = _Axes(max(attempt.elapsed_s, 1e-3), low, high)
    parts = [axes.frame(_label(robot, joint))]
    parts += [axes.band(_start(turn, attempt), _end(turn, attempt)) for turn in followed]
    parts += [axes.limit(bound) for bound in (lowest, highest)]
    for turn in followed:
        times = _start(turn, attempt) + np.arange(len(turn.positions)) * turn.dt * turn.stretch
        parts.append(axes.line('decoded', times, turn.positions[:, joint]))
        times = _start(turn, attempt) + turn.command_times_s
        parts.append(axes.line('sent', times, turn.command[:, joint]))
    parts.append(axes.line('executed', seconds, attempt.joints[:, joint]))
    parts.append(_range_bar(attempt.joints[:, joint], lowest, highest))
    return ''.join(parts)


def _label(robot: Robot, joint: int) -> str:
    name = robot.joint_names[joint].replace('_', ' ')
    return name + (' (0 to 1)' if robot.gripper_mask[joint] else ' (rad)')


def _start(turn: Turn, attempt: Attempted) -> float:
    return ((turn.started_ns or 0) - attempt.start_ns) * 1e-9


def _end(turn: Turn, attempt: Attempted) -> float:
    return _start(turn, attempt) + float(turn.command_times_s[-1:].sum())


def _span(values: NDArray, lowest: float, highest: float) -> tuple[float, float]:
    """Return the range to show: what was reached, and a limit that lies close to it."""
    low, high = float(values.min()), float(values.max())
    middle, half = (low + high) / 2, max(high - low, _LEAST_SPAN) / 2 * 1.12
    low, high = middle - half, middle + half
    if low - half < lowest:
        low = min(low, lowest - 0.1 * half)
    if high + half > highest:
        high = max(high, highest + 0.1 * half)
    return low, high


class _Axes:
    """Turns seconds and joint positions into places of one panel."""

    def __init__(self, duration: float, low: float, high: float) -> None:
        self._duration = duration
        self._low, self._high = low, high

    def x(self, seconds: Any) -> Any:
        return _LEFT + _PLOT_W * np.clip(seconds / self._duration, 0, 1)

    def y(self, value: Any) -> Any:
        return _TOP + _PLOT_H * (self._high - value) / (self._high - self._low)

    def frame(self, label: str) -> str:
        text = [
            f'<text class="name" x="{_LEFT}" y="13">{escape(label)}</text>',
            f'<rect class="plot" x="{_LEFT}" y="{_TOP}" width="{_PLOT_W}" height="{_PLOT_H}"/>',
        ]
        for value, drop in ((self._high, 7), (self._low, 0)):
            text.append(
                f'<text class="tick" x="{_LEFT - 4}" y="{self.y(value) + drop:.1f}" '
                f'text-anchor="end">{value:.2f}</text>'
            )
        text.append(
            f'<text class="tick" x="{_LEFT + _PLOT_W}" y="{_TOP + _PLOT_H + 10}" '
            f'text-anchor="end">{self._duration:.0f} s</text>'
        )
        return ''.join(text)

    def band(self, begin: float, end: float) -> str:
        left, right = self.x(begin), self.x(end)
        return (
            f'<rect class="moving" x="{left:.1f}" y="{_TOP}" width="{right - left:.1f}" '
            f'height="{_PLOT_H}"/>'
        )

    def limit(self, value: float) -> str:
        if not self._low <= value <= self._high:
            return ''
        y = self.y(value)
        return (
            f'<line class="limit" x1="{_LEFT}" x2="{_LEFT + _PLOT_W}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )

    def line(self, kind: str, seconds: NDArray, values: NDArray) -> str:
        # A gripper that has a controller of its own is not in the commands: not a number.
        seconds, values = seconds[np.isfinite(values)], values[np.isfinite(values)]
        if len(seconds) == 0:
            return ''
        step = max(1, len(seconds) // 240)
        xs, ys = self.x(seconds[::step]), self.y(np.clip(values[::step], self._low, self._high))
        points = ' '.join(f'{x:.1f},{y:.1f}' for x, y in zip(xs, ys))
        return f'<polyline class="{kind}" points="{points}"/>'


def _range_bar(values: NDArray, lowest: float, highest: float) -> str:
    """Return the joint's whole range between its limits, and the part of it that was used."""
    if not np.isfinite(highest - lowest):
        return ''

    def place(value: float) -> float:
        return _TOP + _PLOT_H * (highest - value) / (highest - lowest)

    top, bottom = place(float(values.max())), place(float(values.min()))
    return (
        f'<g><title>limits {lowest:.2f} to {highest:.2f}, reached {values.min():.2f} to '
        f'{values.max():.2f}</title>'
        f'<rect class="range" x="{_RANGE_X}" y="{_TOP}" width="5" height="{_PLOT_H}" rx="2.5"/>'
        f'<rect class="reached" x="{_RANGE_X}" y="{top:.1f}" width="5" '
        f'height="{max(bottom - top, 2):.1f}" rx="2"/></g>'
    )


def timeline(turns: Sequence[Turn], longest_s: float) -> str:
    """Return where the wall time of one attempt went, a block a stage.

    Args:
        turns: of the attempt.
        longest_s: wall time that fills the width, the same for every attempt of a page.
    """
    width, blocks, x = 1000.0, [], 0.0
    for number, turn in enumerate(turns, 1):
        for stage in STAGES:
            seconds = turn.seconds.get(stage, 0.0)
            size = seconds / longest_s * width
            blocks.append(
                f'<rect class="{stage}" x="{x:.1f}" y="2" width="{max(size, 0.6):.1f}" '
                f'height="18"><title>turn {number}, {stage}: {seconds:.2f} s</title></rect>'
            )
            x += size
    return (
        f'<svg class="timeline" viewBox="0 0 {width:.0f} 22" preserveAspectRatio="none" '
        f'role="img">{"".join(blocks)}</svg>'
    )
