"""The joints of an episode over time, drawn as SVG text for the page of `eva bags view`."""

from html import escape

import numpy as np
from numpy.typing import NDArray

from eva_ros.episodes.align import Piece
from eva_ros.robot.spec import Robot

_WIDTH, _HEIGHT = 520, 210
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 10, 8, 22
# Told apart on white and on black, and by people who see colours otherwise (after Okabe and Ito).
_COLOURS = ('#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#8a8f99',
            '#7a4fe0', '#a3742c')  # fmt: skip
# More than a screen shows.
_MOST_POINTS = 400
# Joints that hardly move are not blown up to fill the plot.
_LEAST_SPAN = 0.2


def joint_curves(piece: Piece, robot: Robot) -> str:
    """Return a plot of each arm's joints, with the names of its curves below."""
    seconds = piece.seconds
    joints = np.stack([tick.joints for tick in piece.ticks])
    chosen = np.linspace(0, len(seconds) - 1, min(len(seconds), _MOST_POINTS)).round().astype(int)
    seconds, joints = seconds[chosen], joints[chosen]
    arms = [
        _arm(arm, robot.arms[arm].joint_names, seconds, joints[:, robot.arm_indices(arm)])
        for arm in robot.arms
    ]
    return f'<div class="arms">{"".join(arms)}</div>'


def _arm(arm: str, names: tuple[str, ...], seconds: NDArray, joints: NDArray) -> str:
    low, high = _range(joints)
    x = _LEFT + seconds / max(seconds[-1], 1e-9) * (_WIDTH - _LEFT - _RIGHT)
    y = _TOP + (high - joints) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
    colours = [_COLOURS[index % len(_COLOURS)] for index in range(len(names))]
    curves = ''.join(
        f'<polyline stroke="{colour}" points="{_points(x, own)}"/>'
        for colour, own in zip(colours, y.T)
    )
    legend = ''.join(
        f'<span><i style="background:{colour}"></i>{escape(name)}</span>'
        for colour, name in zip(colours, names)
    )
    return (
        f'<div><b>{arm} arm</b> <span class="facts">rad; gripper 0 to 1</span>'
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="joints of the {arm} arm">'
        f'{_axes(low, high, float(seconds[-1]))}{curves}</svg>'
        f'<div class="legend">{legend}</div></div>'
    )


def _range(joints: NDArray) -> tuple[float, float]:
    low, high = float(joints.min()), float(joints.max())
    half = max(high - low, _LEAST_SPAN) / 2 * 1.06
    return (low + high) / 2 - half, (low + high) / 2 + half


def _axes(low: float, high: float, duration_s: float) -> str:
    """Return lines at round values, and the times at both ends."""
    parts = []
    for value in _round_values(low, high):
        y = _TOP + (high - value) / (high - low) * (_HEIGHT - _TOP - _BOTTOM)
        parts.append(
            f'<path class="grid" d="M{_LEFT} {y:.1f}H{_WIDTH - _RIGHT}"/>'
            f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{value:g}</text>'
        )
    for share, anchor in ((0.0, 'start'), (0.5, 'middle'), (1.0, 'end')):
        x = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        parts.append(
            f'<text x="{x:.0f}" y="{_HEIGHT - 5}" text-anchor="{anchor}">'
            f'{share * duration_s:.1f} s</text>'
        )
    return ''.join(parts)


def _round_values(low: float, high: float) -> list[float]:
    """Return three to seven multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    return [
        round(float(k * step), 9) for k in range(int(np.ceil(low / step)), int(high // step) + 1)
    ]


def _points(x: NDArray, y: NDArray) -> str:
    return ' '.join(f'{a:.1f},{b:.1f}' for a, b in zip(x.tolist(), y.tolist()))
