"""Encoders that wrap: joints that jump by a full turn from one state to the next."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

TURN = 2 * np.pi
# How far the joint itself may have moved meanwhile, rad, and how long that may have taken.
_SLACK, _LONGEST_S = 0.5, 0.5


@dataclass(frozen=True)
class Wrap:
    """A joint's jump by about a full turn.

    Attributes:
        joint: its name.
        stamp_ns: of the first state behind the jump.
        step_rad: how far it jumped.
    """

    joint: str
    stamp_ns: int
    step_rad: float

    def __str__(self) -> str:
        return (
            f'the encoder of {self.joint} wraps ({self.step_rad:+.2f} rad between two states, the '
            f'second stamped {self.stamp_ns * 1e-9:.3f} s)'
        )


def wrapped(steps: NDArray[np.float64], seconds: NDArray | float) -> NDArray[np.bool_]:
    """Return which steps between two states are a full turn and no motion.

    Args:
        steps: differences of positions in rad, of joints that turn.
        seconds: how long they took.
    """
    turned = np.abs(np.abs(steps) - TURN) < _SLACK
    return turned & (np.asarray(seconds) < _LONGEST_S)
