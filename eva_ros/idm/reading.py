"""Joint paths read from dreamed or recorded frames, in one pass of the inverse dynamics model."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
import torch
from torch import Tensor

from eva_ros.errors import NotFiniteError
from eva_ros.idm.model import InverseDynamics
from eva_ros.idm.model import JointEstimate
from eva_ros.idm.smoothing import smooth
from eva_ros.training.frames import frames_to_tensor

# The spread at which half the confidence is lost: 0.05 rad at every joint of a half-metre arm
# puts a fingertip about 2 cm off.
_HALF_CONFIDENCE_RAD = 0.05


@dataclass(frozen=True)
class Reading:
    """What one pass of the model reads from a rollout, or from several at once.

    Attributes:
        positions: Joint positions as read [..., T, J], rad; grippers 0 to 1. Differentiable in
            the frames where `read_frames` made them.
        spread: How far off the model expects each to be [..., T, J], same units.
        dt: Time between frames, s.
        grippers: Which joints are grippers [J].
    """

    positions: Tensor
    spread: Tensor
    dt: float
    grippers: Tensor

    @property
    def smoothed(self) -> NDArray[np.float64]:
        """Return the path for the arms to follow [..., T, J]: low-passed, grippers 0 to 1."""
        path = smooth(self.positions.detach().double().cpu().numpy(), self.dt)
        mask = self.grippers.numpy()
        path[..., mask] = path[..., mask].clip(0.0, 1.0)
        return path

    @property
    def confidence(self) -> float:
        """Return how sure the model is of the path: 1 / (1 + (spread / 0.05 rad)^2), 0 to 1.

        The spread is the model's own guess of its error, learnt beside the positions on clean and
        on corrupted frames; `eva idm evaluate` prints how well it ranks the true errors. It is a
        guess: frames unlike anything in training can fool it. Grippers are left out.
        """
        square = self.spread[..., ~self.grippers].square().mean() / _HALF_CONFIDENCE_RAD**2
        return float(1 / (1 + square))


def estimate_frames(model: InverseDynamics, frames: Tensor) -> JointEstimate:
    """Estimate the joints of every frame of clips, looking at each frame once.

    A model whose frames are stacked looks at each window once instead.

    At the ends of a clip the window repeats the first or the last frame.

    Args:
        model: The inverse dynamics model.
        frames: Clips [B, T, 3, H, W], 0 to 1, evenly spaced at the model's rate.

    Returns:
        Positions and spread [B, T, J], differentiable in the frames.
    """
    clips, steps = frames.shape[:2]
    stride = model.config.stride
    middle = torch.arange(steps, device=frames.device)
    windows = torch.stack([middle - stride, middle, middle + stride], -1).clamp(0, steps - 1)
    if model.config.stacked:
        estimate = model.read(frames[:, windows].flatten(0, 1))
    else:
        features = model.frame_features(frames.flatten(0, 1)).unflatten(0, (clips, steps))
        estimate = model.read_features(features[:, windows].flatten(0, 1))
    return JointEstimate(*(value.unflatten(0, (clips, steps)) for value in estimate))


def read_frames(model: InverseDynamics, frames: Tensor) -> Reading:
    """Read clips [B, T, 3, H, W], 0 to 1, differentiably.

    Raises:
        NotFiniteError: What was read is not finite; names joint and frame.
    """
    estimate = estimate_frames(model, frames)
    _require_finite(model, estimate)
    return _reading(model, *estimate)


def read_rollout(model: InverseDynamics, frames: NDArray[np.uint8]) -> Reading:
    """Read one rollout of uint8 RGB frames [T, H, W, 3]; positions and spread are [T, J].

    Raises:
        NotFiniteError: What was read is not finite; names joint and frame.
    """
    with torch.inference_mode():
        estimate = estimate_frames(model, frames_to_tensor(frames)[None])
    _require_finite(model, estimate)
    return _reading(model, estimate.positions[0], estimate.spread[0])


def _reading(model: InverseDynamics, positions: Tensor, spread: Tensor) -> Reading:
    grippers = torch.tensor(model.config.gripper_mask)
    return Reading(positions, spread, 1 / model.config.rate_hz, grippers)


def _require_finite(model: InverseDynamics, estimate: JointEstimate) -> None:
    finite = torch.isfinite(estimate.positions) & torch.isfinite(estimate.spread)
    if bool(finite.all()):
        return
    _, frame, joint = (int(index) for index in (~finite).nonzero()[0])
    raise NotFiniteError(
        f'The inverse dynamics model reads values that are not finite '
        f'({int((~finite).sum())} of {finite.numel()}; the first is '
        f'{model.config.joint_names[joint]} in frame {frame})',
        'no joint path is made of it; check its checkpoint',
    )
