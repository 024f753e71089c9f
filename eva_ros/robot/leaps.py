"""What a joint cannot do between two joint states, live and in bags: another publisher did it."""

import numpy as np
from numpy.typing import ArrayLike
from numpy.typing import NDArray

# A joint that goes farther than this many times what its velocity limit allows has not moved.
SPEED_MARGIN = 2.0
# Noise and steps of an encoder, and of a gripper's opening (0 to 1).
_NOISE_RAD = 0.02
_NOISE_GRIPPER = 0.1


def encoder_noise(gripper_mask: ArrayLike) -> NDArray[np.float64]:
    """Return what counts as noise of each joint [K], rad, and of grippers as a share of 0 to 1.

    Args:
        gripper_mask: True where a joint is a gripper [K].
    """
    return np.where(gripper_mask, _NOISE_GRIPPER, _NOISE_RAD)
