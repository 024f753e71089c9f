"""Frames as models take them."""

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor


def frames_to_tensor(frames: NDArray[np.uint8]) -> Tensor:
    """Return uint8 RGB frames [..., H, W, 3] as floats 0 to 1 [..., 3, H, W]."""
    return torch.from_numpy(np.array(frames)).movedim(-1, -3).float().div_(255)
