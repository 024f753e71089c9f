"""Closed-form inverse kinematics of a ViperX for given forearm roll and wrist rotation.

Without forearm roll, shoulder, elbow and wrist form a planar arm with one elbow-up solution,
which is continuous in the target.
"""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

_BASES = {'left': np.array([-0.469, 0.5, 0.0]), 'right': np.array([0.469, 0.5, 0.0])}
_FACING = {'left': np.array([1.0, 1.0, 1.0]), 'right': np.array([-1.0, -1.0, 1.0])}
_SHOULDER_HEIGHT = 0.079 + 0.04805
_UPPER = np.hypot(0.05955, 0.3)
_UPPER_ANGLE = np.arctan2(0.05955, 0.3)
_FOREARM = 0.3
_HAND = 0.069744 + 0.15


def inverse_kinematics(side: str, target: ArrayLike, pitch: float, rotate: float = 0.0) -> NDArray:
    """Return the six joints that put an arm's fingertips at a point.

    Args:
        side: Arm, left or right.
        target: Midpoint of the fingertips in the world [3], m.
        pitch: Downward pitch of the hand, rad.
        rotate: Wrist rotation, rad.

    Raises:
        ValueError: The point is out of reach.
    """
    place = np.asarray(target, float)
    offset = (place - _BASES[side]) * _FACING[side]
    waist = np.arctan2(offset[1], offset[0])
    ahead = np.hypot(offset[0], offset[1]) - _HAND * np.cos(pitch)
    up = offset[2] - _SHOULDER_HEIGHT + _HAND * np.sin(pitch)
    distance = np.hypot(ahead, up)
    if distance > _UPPER + _FOREARM:
        raise ValueError(f'{side} arm cannot reach {np.round(place, 3)}')
    cosine = (_UPPER**2 + distance**2 - _FOREARM**2) / (2 * _UPPER * distance)
    lean = np.arctan2(ahead, up) - np.arccos(np.clip(cosine, -1, 1))
    forearm = np.arctan2(_UPPER * np.cos(lean) - up, ahead - _UPPER * np.sin(lean))
    shoulder = lean - _UPPER_ANGLE
    return np.array([waist, shoulder, forearm - shoulder, 0.0, pitch - forearm, rotate])
