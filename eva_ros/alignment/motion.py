"""How far the arms travel: the motion floor and the motion ratio.

Executability alone is best when nothing moves. A dream must therefore travel at least a share of
what the recordings of the same task travel in as many frames.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from eva_ros.idm.smoothing import smoothing_matrix

_CUTOFF_HZ = 1.0


@dataclass(frozen=True)
class MotionFloor:
    """How much motion an instruction calls for.

    Attributes:
        demonstrated: path length to keep [N], rad: what was recorded from the same view on.
        share: alpha, the share of it that must be travelled.
        weight: what the score loses when nothing is travelled at all.
    """

    demonstrated: Tensor
    share: float = 0.85
    weight: float = 10.0

    def penalty(self, travelled: Tensor) -> Tensor:
        """Return what to take from the score [N], or [N, G] for groups of G dreams.

        weight * relu(1 - travelled / (share * demonstrated)), linear so that every bit of motion
        counts and its slope never vanishes before the floor is reached.

        Args:
            travelled: path lengths [N] or [N, G], rad.
        """
        needed = (self.share * self.demonstrated).clamp_min(1e-6).to(travelled)
        needed = needed.reshape(needed.shape + (1,) * (travelled.ndim - needed.ndim))
        return self.weight * (1 - travelled / needed).relu()


def path_length(positions: Tensor, dt: float, grippers: Tensor) -> Tensor:
    """Return how far the arm joints travel along a path [...], rad: the mean over arm joints.

    Measured after smoothing at 1 Hz: tremble is not travel, and taking it away must not look
    like standing still. A motion one way keeps its length whatever the smoothing.

    Args:
        positions: [..., T, J].
        dt: time between steps, s.
        grippers: which joints are grippers and stay out [J].
    """
    arms = positions[..., ~grippers]
    matrix = torch.tensor(smoothing_matrix(positions.shape[-2], dt, _CUTOFF_HZ)).to(arms)
    return (matrix @ arms).diff(dim=-2).abs().sum(-2).mean(-1)


def motion_ratio(travelled: Tensor, reference: Tensor) -> float:
    """Return the motion of dreams against that of a reference: the ratio of their sums.

    Args:
        travelled: path lengths of the dreams [N], rad.
        reference: of the recorded clips, or of the unaligned model's dreams [N], rad.
    """
    return float(travelled.sum() / reference.sum().clamp_min(1e-9))
