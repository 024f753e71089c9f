"""The joints of an episode over time, as plots for the page of `eva bags view`."""

from dataclasses import dataclass

import numpy as np

from eva_ros.episodes.resampling import Piece
from eva_ros.pages import Axes
from eva_ros.pages import padded
from eva_ros.robot.spec import Arm
from eva_ros.robot.spec import Robot

_WIDTH, _HEIGHT = 466, 180
# Distinct on white, on black and with colour-vision deficiency (after Okabe and Ito): eight joints
# and a gripper.
_COLOURS = (
    *('#0072b2', '#e69f00', '#009e73', '#cc79a7', '#56b4e9', '#d55e00', '#8a8f99'),
    *('#7a4fe0', '#a3742c'),
)
# Joints that hardly move are not blown up to fill the plot.
_LEAST_SPAN = 0.2


@dataclass(frozen=True)
class ArmPlot:
    """One arm's joints.

    Attributes:
        arm: Name of the arm.
        units: Units of the positions, in words.
        axes: Area of the plot.
        levels: Place and label of each horizontal line.
        curves: Joint name, colour and SVG points of each curve.
    """

    arm: str
    units: str
    axes: Axes
    levels: list[tuple[float, str]]
    curves: list[tuple[str, str, str]]


def joint_curves(piece: Piece, robot: Robot) -> list[ArmPlot]:
    """Return a plot for each arm."""
    joints = np.stack([tick.joints for tick in piece.ticks])
    return [_arm(name, robot, piece, joints[:, robot.arm_indices(name)]) for name in robot.arms]


def _arm(name: str, robot: Robot, piece: Piece, joints: np.ndarray) -> ArmPlot:
    arm, seconds = robot.arms[name], piece.seconds
    low, high = padded(joints, _LEAST_SPAN, 1.06)
    axes = Axes(_WIDTH, _HEIGHT, float(seconds[-1]), low, high)
    return ArmPlot(
        arm=name,
        units=_units(arm),
        axes=axes,
        levels=[(round(axes.y(value), 1), f'{value:g}') for value in _round_values(low, high)],
        curves=[
            (joint, _COLOURS[i % len(_COLOURS)], axes.points(seconds, joints[:, i]))
            for i, joint in enumerate(arm.joint_names)
        ],
    )


def _units(arm: Arm) -> str:
    joints = 'unknown unit' if arm.state_unit == 'unknown' else 'rad'
    return f'{joints}; gripper 0 to 1' if arm.gripper else joints


def _round_values(low: float, high: float) -> list[float]:
    """Return three to seven multiples of 1, 2 or 5 times a power of ten."""
    rough = (high - low) / 4
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(power * m for m in (1, 2, 5, 10) if power * m >= rough)
    return [
        round(float(k * step), 9) for k in range(int(np.ceil(low / step)), int(high // step) + 1)
    ]
